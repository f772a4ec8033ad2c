"""The controllers that come with the package, in networks that have them not, have them, or have others under their tags."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aos.v1.controllers_pb2 import ListControllersRequest
from tests.dispatcher.conftest import running
from tests.dispatcher.test_controller_tags import tagged
from tests.dispatcher.test_controllers import created, got
from tests.modules import digits, module
from tests.refusals import refused


def ship(folder: Path, controllers: Mapping[str, tuple[bytes, Sequence[str]]]) -> Path:
    """A package's folder with these files, each with its tags."""
    folder.mkdir(exist_ok=True)
    entries = []
    for name, (data, tags) in controllers.items():
        (folder / name).write_bytes(data)
        entries.append({"file": name, "tags": tags})
    (folder / "manifest.json").write_text(json.dumps(entries))
    return folder


@asynccontextmanager
async def shipped(folder: Path, controllers: Mapping[str, tuple[bytes, Sequence[str]]]) -> AsyncGenerator:
    async with running(folder) as aos:
        await restart(aos, ship(folder / "package", controllers))
        yield aos


async def restart(aos, package: Path) -> None:
    aos.shipped = package
    await aos.stop()
    await aos.start()
    await aos.node.installed


async def setters(aos) -> dict[str, tuple[str, str]]:
    """Which digest each tag stands for, and who said so."""
    tags = (await (await aos.controllers()).ListControllers(ListControllersRequest())).tags
    return {tag.tag: (tag.controller.removeprefix("controllers/"), tag.updated_by) for tag in tags}


class TestStarting:
    async def test_they_are_there(self, tmp_path):
        """Under their tags, which the package set; well-known names lead to them."""
        a, b = module("a"), module("b")
        async with shipped(tmp_path, {"a.wasm": (a, ["a", "a-latest"]), "b.wasm": (b, ["b-latest"])}) as aos:
            assert await setters(aos) == {
                "a": (digits(a), "aos"),
                "a-latest": (digits(a), "aos"),
                "b-latest": (digits(b), "aos"),
            }
            assert (await got(aos, "gh:microsoft/aici/b")).name == f"controllers/{digits(b)}"

    async def test_a_project_does_not_move_their_tags(self, tmp_path):
        """The administrator does."""
        async with shipped(tmp_path, {"a.wasm": (module("a"), ["a-latest"])}) as aos:
            other = await created(aos, module("b"))
            with refused("PERMISSION_DENIED"):
                await tagged(aos, other, "a-latest")
            await tagged(aos, other, "a-latest", who="admin")

    async def test_a_newer_one_takes_the_tag(self, tmp_path):
        """From the older one of the package, which is still there."""
        async with shipped(tmp_path, {"a.wasm": (module("old"), ["a-latest"])}) as aos:
            await restart(aos, ship(tmp_path / "newer", {"a.wasm": (module("new"), ["a-latest"])}))
            assert await setters(aos) == {"a-latest": (digits(module("new")), "aos")}
            assert (await got(aos, digits(module("old")))).tags == []

    async def test_what_others_set_stays(self, tmp_path):
        """The package takes no tag from a project or the administrator."""
        async with running(tmp_path) as aos:
            other = await created(aos, module("other"))
            await tagged(aos, other, "a")
            await tagged(aos, other, "b", who="admin")
            await restart(aos, ship(tmp_path / "package", {"a.wasm": (module("a"), ["a", "b", "c"])}))
            theirs, ours = digits(module("other")), digits(module("a"))
            assert await setters(aos) == {"a": (theirs, "projects/p"), "b": (theirs, "admin"), "c": (ours, "aos")}

    async def test_again_changes_nothing(self, tmp_path):
        """A tag that stands for what it should keeps its time."""
        async with shipped(tmp_path, {"a.wasm": (module("a"), ["a"])}) as aos:
            before = (await (await aos.controllers()).ListControllers(ListControllersRequest())).tags
            aos.clock.advance(hours=1)
            await restart(aos, tmp_path / "package")
            assert (await (await aos.controllers()).ListControllers(ListControllersRequest())).tags == before


class TestDamage:
    async def test_one_bad_file_costs_one_controller(self, tmp_path, caplog):
        """The others are there, and the log names it."""
        async with shipped(tmp_path, {"bad.wasm": (b"text", ["bad"]), "a.wasm": (module("a"), ["a"])}) as aos:
            assert set(await setters(aos)) == {"a"}
        assert "bad.wasm of this package is not installed" in caplog.text

    async def test_a_bad_manifest_costs_all(self, tmp_path, caplog):
        """The network starts without them, and the log says so."""
        package = ship(tmp_path / "package", {})
        (package / "manifest.json").write_text("[{}]")
        async with running(tmp_path) as aos:
            await restart(aos, package)
            assert await setters(aos) == {}
        assert "no controllers are installed" in caplog.text

    async def test_there_may_be_none(self, tmp_path):
        """A folder that is not there holds nothing."""
        async with running(tmp_path) as aos:
            await restart(aos, tmp_path / "nowhere")
            assert await setters(aos) == {}
