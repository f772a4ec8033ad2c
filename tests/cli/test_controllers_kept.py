"""`aos controllers upload`, `tag`, `list` and `delete`."""

from __future__ import annotations

import json

import pytest

from tests.modules import digits, module


@pytest.fixture
def wasm(tmp_path):
    path = tmp_path / "own.wasm"
    path.write_bytes(module("own", padding=3 << 20))
    return path


class TestUpload:
    async def test_its_digest_is_printed(self, on, wasm):
        """And nothing else, so that a script can go on with it; with --tag it has names at once."""
        done = await on("controllers", "upload", str(wasm), "--tag", "own", "--tag", "own-latest")
        shown = json.loads((await on("controllers", "upload", str(wasm), "--json")).out)

        assert (done.code, done.out) == (0, f"{digits(wasm.read_bytes())}\n")
        assert shown["name"] == f"controllers/{digits(wasm.read_bytes())}"
        assert shown["tags"] == ["own-latest", "own"]

    async def test_what_is_no_controller(self, on, tmp_path):
        """The reason is one line, and the exit code 1; a file that is not there is a wrong call."""
        path = tmp_path / "text.wasm"
        path.write_text("text")
        refused = await on("controllers", "upload", str(path))

        assert (refused.code, refused.out) == (1, "")
        assert refused.err.startswith("Error: controller: compile: ")
        assert (await on("controllers", "upload", str(tmp_path / "none.wasm"))).code == 2


class TestTags:
    async def test_set_and_listed(self, on, wasm):
        """By digest or by another tag; the list has who set them, those set last first."""
        await on("controllers", "upload", str(wasm), "--tag", "first")
        done = await on("controllers", "tag", "first", "second", "third")
        listed = (await on("controllers", "list")).out

        assert done.code == 0
        assert [line.split()[0] for line in listed.splitlines()] == ["tag", "third", "second", "first"]
        assert listed.count(digits(wasm.read_bytes())) == 3
        assert "projects/demo" in listed
        shown = json.loads((await on("controllers", "list", "--json")).out)
        assert [one["tag"] for one in shown["tags"]] == ["third", "second", "first"]

    async def test_refusals(self, on, wasm):
        """A name that is none, a controller that is not there."""
        await on("controllers", "upload", str(wasm), "--tag", "first")

        assert "tag name not identifier" in (await on("controllers", "tag", "first", "1a")).err
        assert "There is no controller 'nobody'." in (await on("controllers", "tag", "nobody", "a")).err


class TestDelete:
    async def test_by_its_digest(self, on, wasm):
        """It is gone; one that a tag stands for stays, and the reason is one line."""
        digest = digits(wasm.read_bytes())
        await on("controllers", "upload", str(wasm))
        done = await on("controllers", "delete", digest)
        gone = await on("controllers", "delete", digest)
        await on("controllers", "upload", str(wasm), "--tag", "own")
        held = await on("controllers", "delete", digest)

        assert (done.code, done.out) == (0, "deleted\n")
        assert (gone.code, gone.out) == (1, "")
        assert "There is no controller" in gone.err
        assert (held.code, held.out) == (1, "")
        assert "the tag 'own' stands for it" in held.err
