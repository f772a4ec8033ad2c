"""The bundled image model in the network: asked by OpenAI's client, checked by rendering again."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx
import openai
import pytest
import pytest_asyncio

from aos.clock import SystemClock
from aos.operator.images import ImageModel
from aos.pictures import read_picture
from aos.settings import bundled_pictures
from aos.testing.harness import Aos, running_aos
from tests.cli.conftest import run_aos

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "aos-pictures"
RED, BLUE = (0, 2)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network() -> AsyncGenerator[Aos]:
    async with running_aos(ImageModel.open(bundled_pictures()), name=MODEL, envoy=True, clock=SystemClock()) as aos:
        yield aos


@pytest_asyncio.fixture(loop_scope="module")
async def client(network: Aos) -> AsyncGenerator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{network.url}/v1", api_key=network.token, max_retries=0) as client:
        yield client


def middle(picture, colour: int) -> bool:
    """Whether a channel is the strongest in the middle of the picture."""
    height, width, _ = picture.shape
    means = picture[height // 3 : -height // 3, width // 3 : -width // 3].reshape(-1, 3).mean(axis=0)
    return int(means.argmax()) == colour


async def test_drawn_and_changed(network, client):
    """A picture follows its prompt, and an edit changes it; the link of the one is the source of the other."""
    asked = "a big red square in the center on a black background"
    drawn = await client.images.generate(model=MODEL, prompt=asked, size="256x256", extra_body={"seed": 7})
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {network.token}"}, timeout=60) as rest:
        first = (await rest.get(drawn.data[0].url)).content
        body = {"model": MODEL, "prompt": "make the square blue", "image": drawn.data[0].url, "size": "auto", "seed": 7}
        changed = (await rest.post(f"{network.url}/v1/images/edits", json=body)).json()
        second = (await rest.get(changed["data"][0]["url"])).content

    assert middle(read_picture(first, "x"), RED)
    assert middle(read_picture(second, "x"), BLUE)


async def test_rendered_again(network, client, tmp_path):
    """`aos verify --replay` renders a receipt's pictures again and finds the same files."""
    drawn = await client.images.generate(model=MODEL, prompt="three green stars", n=2, size="256x256")
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {network.token}"}, timeout=60) as rest:
        file = tmp_path / "receipt.json"
        file.write_text((await rest.get(f"{network.url}/v1/{drawn.aos['job']}/receipt")).text)

    held = await run_aos("verify", str(file), "--replay", "--model", str(bundled_pictures()))

    assert "2, rendered again, are the same" in held.out
    assert held.code == 0


async def test_listed(network):
    """`aos models` says what the model can do."""
    listed = await run_aos("--connect", network.address, "--token", network.token, "models")

    assert "images, image edits" in listed.out


async def test_too_long_a_prompt(client):
    """A prompt that the model cannot read whole is refused by its field."""
    with pytest.raises(openai.BadRequestError) as refusal:
        await client.images.generate(model=MODEL, prompt="a red circle " * 1000, size="256x256")
    assert refusal.value.param == "prompt"
