"""The curl examples of the reference page and of the model interface's own document, as a shell runs them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from aos.testing.harness import Aos
from tests.pictures import file, hole, pixels
from tests.rest.painting import MODEL, painting, reply, web
from tests.rest.test_documented_examples import examples, same

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network() -> AsyncGenerator[Aos]:
    async with painting(open_to_all=True) as aos:
        yield aos


async def shell(command: str, folder: Path, **variables: str) -> dict:
    """The JSON that the command prints, run in the folder."""
    command = command.replace("curl ", "curl -sS ", 1)
    environment = {"PATH": os.environ["PATH"]} | variables
    running = await asyncio.create_subprocess_exec("sh", "-c", command, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        said, _ = await running.communicate()
    return json.loads(said)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in.png").write_bytes(file(pixels()))
    (tmp_path / "mask.png").write_bytes(hole())
    return tmp_path


class TestReferencePage:
    async def test_the_examples_do_what_the_page_shows(self, network, folder):
        """Each command gets the reply that stands under it, or at least a link for each picture."""
        shown = examples("rest-images.md")
        assert len(shown) == 3
        async with web({"/a.png": reply(file(pixels()))}) as other:
            variables = {"AOS_URL": network.url, "AOS_TOKEN": network.token, "IMAGE": f"{other}/a.png"}
            for command, kind, text in shown:
                got = await shell(command, folder, **variables)
                if kind:
                    same(json.loads(text), got)
                assert all(one["url"].startswith(f"{network.url}/v1/blobs/") for one in got["data"]), got


class TestModelInterface:
    """The documented commands, which name neither a token nor, for one of them, how the pictures are to come."""

    async def test_generate(self, network, folder):
        """`n` of 2 gives two entries, each with both keys, one of them empty."""
        body = {"model": MODEL, "prompt": "A cute baby sea otter", "n": 2, "size": "1024x1024"}
        command = f"curl {network.url}/v1/images/generations -H 'Content-Type: application/json' -d '{json.dumps(body)}'"

        got = await shell(command, folder)

        assert (got["code"], got["message"], len(got["data"])) == (0, "success", 2)
        assert isinstance(got["created"], int)
        for one in got["data"]:
            assert (one["b64_json"], one["url"].partition("/v1/")[0], one["revised_prompt"]) == ("", network.url, "")

    async def test_edit(self, network, folder):
        """The picture to be changed is given by its URL."""
        async with web({"/otter.png": reply(file(pixels()))}) as other:
            body = {
                "model": MODEL, "image": f"{other}/otter.png", "prompt": "A cute baby sea otter wearing a beret", "n": 2,
                "size": "1024x1024", "width": 1024, "height": 1024, "response_format": "b64_json",
            }  # fmt: skip
            command = f"curl {network.url}/v1/images/edits -H 'Content-Type: application/json' -d '{json.dumps(body)}'"
            got = await shell(command, folder)

        assert [(bool(one["b64_json"]), one["url"]) for one in got["data"]] == [(True, "")] * 2

    async def test_failure(self, network, folder):
        """A failure has a code that is not 0, and a message."""
        got = await shell(f'curl {network.url}/v1/images/generations -d \'{{"model": "{MODEL}"}}\'', folder)
        assert (got["code"], got["message"]) == (1001, "prompt: is missing")
