"""Pictures changed over REST: as a file, a data URL, a URL, or the name of a file that is kept here."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator

import httpx
import numpy as np
import openai
import pytest
import pytest_asyncio
from google.protobuf.json_format import Parse

from aos.pictures import read_picture
from aos.testing.harness import Aos
from aos.v1.dispatcher_pb2 import ReceiptBundle
from tests.pictures import file, hole, pixels
from tests.rest.painting import EDITS, GENERATIONS, MODEL, asking, painting, reply, web

pytestmark = pytest.mark.asyncio(loop_scope="module")

HERE = file(pixels())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network() -> AsyncGenerator[Aos]:
    async with painting() as aos:
        yield aos


@pytest_asyncio.fixture(loop_scope="module")
async def rest(network: Aos) -> AsyncGenerator[httpx.AsyncClient]:
    async with asking(network) as (rest, _):
        yield rest


@pytest_asyncio.fixture(loop_scope="module")
async def client(network: Aos) -> AsyncGenerator[openai.AsyncOpenAI]:
    async with asking(network) as (_, client):
        yield client


def asked(**fields) -> dict[str, object]:
    return {"model": MODEL, "prompt": "make it blue", "size": "96x64", "response_format": "b64_json", "seed": 1} | fields


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def drawn(body: dict) -> np.ndarray:
    return read_picture(base64.b64decode(body["data"][0]["b64_json"]), "x")


async def changed(rest: httpx.AsyncClient, **fields) -> np.ndarray:
    got = await rest.post(EDITS, json=asked(**fields))
    assert got.status_code == 200, got.text
    return drawn(got.json())


class TestWays:
    async def test_official_client(self, client):
        """OpenAI's client sends forms; a mask keeps what it does not show."""
        more = {"response_format": "b64_json", "extra_body": {"seed": 1}}
        got = await client.images.edit(
            model=MODEL, prompt="make it blue", image=("in.png", HERE, "image/png"), mask=("mask.png", hole()), size="96x64", **more
        )

        here = read_picture(base64.b64decode(got.data[0].b64_json), "x")
        outside = np.ones((64, 96), np.bool_)
        outside[16:48, 16:48] = False
        assert np.array_equal(here[outside], pixels()[outside])
        assert not np.array_equal(here[~outside], pixels()[~outside])

    async def test_official_client_with_a_list(self, client):
        """A list of one picture, which the client sends as `image[]`, is one picture."""
        got = await client.images.edit(
            model=MODEL, prompt="make it blue", image=[("in.png", HERE, "image/png")], n=2, size="256x256"
        )
        assert len(got.data) == 2

    async def test_all_the_same(self, network, rest):
        """However a picture is given, what comes is the same: form, data URL, URL, name, link."""
        form = await rest.post(
            EDITS, data={"model": MODEL, "prompt": "make it blue", "size": "96x64", "response_format": "b64_json", "seed": "1"},
            files={"image": ("a.png", HERE, "image/png")},
        )  # fmt: skip
        wanted = drawn(form.json())
        async with web({"/a.png": reply(HERE), "/moved": reply(b"", status="302 Found", location="/a.png")}) as other:
            for image in (
                data_url(HERE),
                data_url(HERE, "application/octet-stream"),
                f"{other}/a.png",
                f"{other}/moved",
                [data_url(HERE)],
            ):
                assert np.array_equal(await changed(rest, image=image), wanted), image

    async def test_what_was_made_here(self, rest):
        """A picture that was made here is given by its link, or by the name in it."""
        fields = {"model": MODEL, "prompt": "a dog", "size": "96x64"}
        url = (await rest.post(GENERATIONS, json=fields)).json()["data"][0]["url"]
        digest = url.partition("?")[0].rpartition("/")[2]

        one, *others = [await changed(rest, image=image) for image in (url, f"blobs/{digest}", digest)]

        assert all(np.array_equal(one, other) for other in others)

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
    async def test_by_content(self, rest, kind):
        """A picture is what it holds, whatever its sender calls it."""
        data = file(pixels(), kind)
        files = {"image": ("x.gif", data, "image/gif")}
        got = await rest.post(EDITS, data={"model": MODEL, "prompt": "p", "size": "96x64"}, files=files)
        assert got.status_code == 200, got.text

    async def test_its_own_hole(self, rest):
        """A picture that is transparent somewhere is changed there alone, unless a mask says otherwise."""
        clear = np.dstack([pixels(), np.full((64, 96), 255, np.uint8)])
        clear[16:48, 16:48, 3] = 0
        here = await changed(rest, image=data_url(file(clear)))
        assert np.array_equal(here[:16], pixels()[:16])

    @pytest.mark.parametrize(("size", "shape"), [("auto", (64, 96, 3)), ("128x128", (128, 128, 3)), (None, (1024, 1024, 3))])
    async def test_size(self, rest, size, shape):
        """A picture is scaled to the size that is asked for; `auto` is its own, nothing is 1024 x 1024."""
        assert (await changed(rest, image=data_url(HERE), size=size)).shape == shape

    async def test_turned(self, rest):
        """A photograph that lies on its side is changed upright."""
        from PIL import Image

        exif = Image.Exif()
        exif[0x0112] = 6
        lying = data_url(file(pixels(), "PNG", exif=exif))
        upright = data_url(file(np.rot90(pixels(), -1)))
        one, other = [await changed(rest, image=image, size="64x96") for image in (lying, upright)]
        assert np.array_equal(one, other)


class TestReceipt:
    async def test_names_the_source(self, network, rest):
        """The receipt is for the very picture that was changed: a file of nothing but its pixels."""
        told = HERE + b"<script>alert(1)</script>"
        body = (await rest.post(EDITS, json=asked(image=data_url(told), mask=data_url(hole())))).json()
        bundle = Parse((await rest.get(f"/v1/{body['aos']['job']}/receipt")).text, ReceiptBundle())

        (source,) = bundle.order.picture.sources
        assert np.array_equal(read_picture(source.data, "x"), pixels())
        assert b"script" not in source.data
        assert len(bundle.order.picture.mask.sha256) == 32
        assert body["usage"]["input_tokens_details"] == {"text_tokens": 3, "image_tokens": 6}


class TestRefused:
    @pytest.mark.parametrize(
        ("fields", "param", "says"),
        [
            ({}, "image", "is missing"),
            ({"image": []}, "image", "must be from 1 to 16 pictures, not 0"),
            ({"image": [data_url(HERE)] * 17}, "image", "must be from 1 to 16 pictures, not 17"),
            ({"image": [data_url(HERE), data_url(b"junk")]}, "image[1]", "must be a PNG, JPEG or WebP"),
            ({"image": data_url(HERE), "mask": [data_url(hole())] * 2}, "mask", "must be one picture, not 2"),
            ({"image": 5}, "image", "must be a URL"),
            ({"image": "my picture"}, "image", "must be a URL"),
            ({"image": "ftp://example.com/a.png"}, "image", "must begin with http"),
            ({"image": "data:image/png,abc"}, "image", "in base64"),
            ({"image": "data:image/png;base64,%%%"}, "image", "no data URL in base64"),
            ({"image": data_url(b"GIF89a")}, "image", "must be a PNG, JPEG or WebP"),
            ({"image": data_url(HERE), "mask": data_url(b"junk")}, "mask", "must be a PNG, JPEG or WebP"),
            ({"image": data_url(HERE), "mask": data_url(file(np.zeros((64, 96), np.uint8)))}, "mask", "shows nowhere"),
            ({"image": data_url(HERE), "size": "96*64"}, "size", "must be like 1024x1024"),
            ({"image": data_url(HERE), "input_fidelity": "high"}, "input_fidelity", "is not known here"),
        ],
    )
    async def test_field(self, rest, fields, param, says):
        """What cannot be changed is refused with 400 and the field's name."""
        got = await rest.post(EDITS, json=asked() | fields)
        error = got.json()["error"]
        assert (got.status_code, got.json()["code"], error["param"]) == (400, 1001, param), got.text
        assert says in error["message"]

    async def test_several_for_a_model_that_takes_one(self, client):
        """The embedded model changes one picture: more are refused before anything is held, and the limit is said."""
        with pytest.raises(openai.BadRequestError, match="it changes 1 picture at a time") as refused:
            await client.images.edit(model=MODEL, prompt="p", image=[("a.png", HERE), ("b.png", HERE)], size="256x256")
        assert refused.value.code == "model_unsuitable"

    async def test_no_such_file(self, network, rest):
        """A name of no file that the project has is not found."""
        got = await rest.post(EDITS, json=asked(image=f"blobs/{'0' * 64}"))
        assert (got.status_code, got.json()["error"]["code"], got.json()["error"]["param"]) == (404, "blob_not_found", "image")

    async def test_no_token(self, network):
        """Without a token nothing is got, kept or changed."""
        async with httpx.AsyncClient(base_url=network.url) as bare:
            got = await bare.post(EDITS, json=asked(image=data_url(HERE)))
        assert (got.status_code, got.json()["code"]) == (401, 1010)
