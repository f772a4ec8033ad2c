"""Tags: names for controllers, who may move them, and what else controllers are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from aos.dispatcher.controller_settings import ControllerSettings
from aos.v1.controllers_pb2 import Controller, ControllerTag, ListControllersRequest, TagControllerRequest
from tests.dispatcher.conftest import running
from tests.dispatcher.test_controllers import created, got
from tests.modules import module
from tests.refusals import refused

NOBODYS = f"controllers/{'0' * 64}"


async def tagged(aos, controller: Controller | str, *tags: str, who: str = "p") -> list[ControllerTag]:
    name = controller if isinstance(controller, str) else controller.name
    request = TagControllerRequest(controller=name, tags=tags)
    return list((await (await aos.controllers(who)).TagController(request)).tags)


async def listed(aos, **page) -> list[str]:
    return [tag.tag for tag in (await (await aos.controllers()).ListControllers(ListControllersRequest(**page))).tags]


class TestSetting:
    async def test_all_that_is_known_of_a_tag(self, aos):
        """In the order in which they were asked for."""
        made = await created(aos, module("a"))
        aos.clock.advance(seconds=90)
        first, second = await tagged(aos, made, "one", "two.x_y-Z")
        assert (first.tag, second.tag) == ("one", "two.x_y-Z")
        assert first.controller == made.name
        assert first.updated.ToDatetime() == aos.clock.now().replace(tzinfo=None)
        assert first.updated_by == "projects/p"
        assert (first.wasm_size, first.compiled_size) == (made.wasm_size, made.compiled_size)
        assert (await got(aos, "one")).tags == ["two.x_y-Z", "one"]

    async def test_a_tag_moves(self, aos):
        """Its project lets it stand for another controller, whatever it stood for."""
        old, new = await created(aos, module("a")), await created(aos, module("b"))
        await tagged(aos, old, "mine")
        await tagged(aos, new, "mine")
        assert (await got(aos, "mine")).name == new.name
        assert list((await got(aos, old.name)).tags) == []

    async def test_others_do_not_move_it(self, aos):
        """Nor any of those that were asked for beside it. The administrator moves all, and then they are the administrator's."""
        made = await created(aos, module("a"))
        await tagged(aos, made, "mine")
        with refused("PERMISSION_DENIED", code="PERMISSION_DENIED"):
            await tagged(aos, made, "free", "mine", who="q")
        assert await listed(aos) == ["mine"]
        (moved,) = await tagged(aos, made, "mine", who="admin")
        assert moved.updated_by == "admin"
        with refused("PERMISSION_DENIED"):
            await tagged(aos, made, "mine")

    async def test_it_outlives_a_restart(self, aos):
        """As the controllers do."""
        made = await created(aos, module("a"))
        tags = await tagged(aos, made, "one")
        await aos.stop()
        await aos.start()
        assert list((await (await aos.controllers()).ListControllers(ListControllersRequest())).tags) == tags

    @pytest.mark.parametrize(
        ("tag", "why"),
        [
            ("a" * 51, "tag name too long"),
            ("a" * 21, "tag name looks too hex"),
            ("Ab0" * 7, "tag name looks too hex"),
            ("1a", "tag name not identifier"),
            ("", "tag name not identifier"),
            ("a b", "tag name not identifier"),
            ("a/b", "tag name not identifier"),
            ("ä", "tag name not identifier"),
            ("tag\n", "tag name not identifier"),
        ],
    )
    async def test_not_every_text_is_a_tag(self, aos, tag, why):
        """The refusal has the AICI runtime's words, and nothing is set."""
        made = await created(aos, module("a"))
        with refused("INVALID_FIELD", field="tags[1]", saying=why):
            await tagged(aos, made, "good", tag)
        assert await listed(aos) == []

    @pytest.mark.parametrize("tag", ["a" * 20, "z" * 50, "Z.-_9", "deadbeef"])
    async def test_what_is_just_a_tag(self, aos, tag):
        """Lengths and characters up to the limits."""
        made = await created(aos, module("a"))
        await tagged(aos, made, tag)
        assert (await got(aos, tag)).name == made.name

    @pytest.mark.parametrize("tags", [[], ["a", "a"], [f"t{number}" for number in range(17)]], ids=["none", "twice", "17"])
    async def test_one_call_sets_so_many(self, aos, tags):
        """At least one, at most 16, each once."""
        made = await created(aos, module("a"))
        with refused("INVALID_FIELD", field="tags"):
            await tagged(aos, made, *tags)

    async def test_the_controller_must_be_there(self, aos):
        """And a tag is no name for it here."""
        with refused("CONTROLLER_NOT_FOUND", code="NOT_FOUND"):
            await tagged(aos, NOBODYS, "a")
        with refused("INVALID_FIELD", field="controller", saying="invalid module_id"):
            await tagged(aos, "one", "a")

    async def test_a_project_has_so_many(self, tmp_path: Path):
        """One more is refused; those it has it may move."""
        async with running(tmp_path, controllers=ControllerSettings(project_tags=2)) as aos:
            made = await created(aos, module("a"))
            await tagged(aos, made, "a", "b")
            with refused("STORAGE_FULL", quota="tags", limit="2"):
                await tagged(aos, made, "a", "c")
            await tagged(aos, made, "b", "a")
            await tagged(aos, made, "c", who="q")


class TestListing:
    async def test_those_set_last_come_first(self, aos):
        """Setting a tag again puts it in front; pages hold all tags, each once."""
        made = await created(aos, module("a"))
        await tagged(aos, made, "a", "b", "c")
        await tagged(aos, made, "a")
        assert await listed(aos) == ["a", "c", "b"]
        seen, token, stub = [], "", await aos.controllers("q")
        for _ in range(3):
            page = await stub.ListControllers(ListControllersRequest(page_size=1, page_token=token))
            seen, token = seen + [tag.tag for tag in page.tags], page.next_page_token
        assert (seen, token) == (["a", "c", "b"], "")

    async def test_pages_are_checked(self, aos):
        """As everywhere."""
        for page in ({"page_size": 1001}, {"page_token": "x"}):
            with refused("INVALID_FIELD", field=next(iter(page))):
                await listed(aos, **page)


class TestNames:
    async def test_what_a_controller_is_called(self, aos):
        """Its name, its digest, a tag."""
        made = await created(aos, module("a"))
        await tagged(aos, made, "one")
        for name in (made.name, made.name.removeprefix("controllers/"), "one"):
            assert (await got(aos, name)).name == made.name

    async def test_well_known_names_are_the_networks(self, aos):
        """They lead to the tag `…-latest` if the administrator set it, or the package; to a project's never."""
        made = await created(aos, module("a"))
        await tagged(aos, made, "jsctrl-latest")
        with refused("CONTROLLER_NOT_FOUND", controller="gh:microsoft/aici/jsctrl"):
            await got(aos, "gh:microsoft/aici/jsctrl")
        await tagged(aos, made, "jsctrl-latest", who="admin")
        for name in ("gh:microsoft/aici/jsctrl", "gh:microsoft/aici/jsctrl/latest"):
            assert (await got(aos, name)).name == made.name

    @pytest.mark.parametrize("name", [NOBODYS, "0" * 64, "nobody", "gh:microsoft/aici/nobody"])
    async def test_there_may_be_none(self, aos, name):
        """Of a name that could be one."""
        with refused("CONTROLLER_NOT_FOUND", code="NOT_FOUND"):
            await got(aos, name)

    @pytest.mark.parametrize(
        "name",
        ["", "1", "a b", "A" * 64, "g" * 64, "0" * 63, "controllers/", "controllers/tag", "gh:a/b", "gh:microsoft/aici/a/v0.1"],
    )
    async def test_not_every_text_is_a_name(self, aos, name):
        """The refusal says what is one."""
        with refused("INVALID_FIELD", field="name", saying=f"must be a 64-char hex string or tag name, got {name}"):
            await got(aos, name)
