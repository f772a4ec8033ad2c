"""The curl examples about modules and tags on the reference page, as a shell runs them."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from tests.modules import digits, module
from tests.rest.test_documented_examples import examples, same

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def shell(command: str, folder: Path, **variables: str) -> str:
    """What the command prints, run in the folder."""
    command = command.replace("curl ", "curl -sS ")
    environment = {"PATH": os.environ["PATH"]} | variables
    running = await asyncio.create_subprocess_exec("sh", "-c", command, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        said, _ = await running.communicate()
    return said.decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "controller.wasm").write_bytes(module("documented", padding=2 << 20))
    return tmp_path


class TestReferencePage:
    async def test_the_examples_do_what_the_page_shows(self, aos_rest, folder):
        """Each command gets the reply that stands under it."""
        shown = [one for one in examples("rest-aici.md") if "/v1/controllers" in one[0]]
        assert len(shown) == 4
        module_id = digits((folder / "controller.wasm").read_bytes())
        variables = {"AOS_URL": aos_rest.url, "AOS_TOKEN": aos_rest.token, "MODULE_ID": module_id}
        for command, kind, text in shown:
            got = await shell(command, folder, **variables)
            if kind == "json":
                same(json.loads(text), json.loads(got))
            else:
                assert got.rstrip("\n") == text.rstrip("\n")

    @pytest.mark.parametrize("options", ["-T controller.wasm", "-T - < controller.wasm", "--data-binary @controller.wasm"])
    async def test_every_way_in_which_curl_sends_a_file(self, aos_rest, folder, options):
        """With its length or without, whatever curl calls it."""
        command = f'curl -X POST $AOS_URL/v1/controllers -H "authorization: Bearer $AOS_TOKEN" {options}'
        got = await shell(command, folder, AOS_URL=aos_rest.url, AOS_TOKEN=aos_rest.token)
        assert json.loads(got)["module_id"] == digits((folder / "controller.wasm").read_bytes())
