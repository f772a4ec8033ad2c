"""Controllers are let go by those who sent them, unless something names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from aos.dispatcher.controller_settings import ControllerSettings
from aos.v1.controllers_pb2 import DeleteControllerRequest, GetControllerRequest
from tests.dispatcher.conftest import running
from tests.dispatcher.runs import a_run, an_offer, do_run
from tests.dispatcher.test_controlled import MODULE, submitted
from tests.dispatcher.test_controller_tags import tagged
from tests.dispatcher.test_controllers import created, got, left, read
from tests.modules import module
from tests.refusals import refused


async def deleted(aos, name: str, who: str = "p") -> bool:
    return (await (await aos.controllers(who)).DeleteController(DeleteControllerRequest(name=name))).deleted


class TestDeleting:
    async def test_who_sent_it_lets_it_go(self, aos):
        """It is gone, its file, too, and may be sent again."""
        made = await created(aos, MODULE)
        assert await deleted(aos, made.name)
        assert left(aos) == set()
        with refused("CONTROLLER_NOT_FOUND"):
            await got(aos, made.name)
        with refused("CONTROLLER_NOT_FOUND"):
            await deleted(aos, made.name)
        again = await created(aos, MODULE)
        assert await read(aos, again.name) == MODULE

    async def test_it_stays_for_others(self, aos):
        """Two projects have sent it: it goes with the second, and neither may do what is the other's."""
        made = await created(aos, MODULE)
        await created(aos, MODULE, who="q")
        assert not await deleted(aos, made.name)
        assert await read(aos, made.name) == MODULE
        with refused("PERMISSION_DENIED"):
            await deleted(aos, made.name)
        assert await deleted(aos, made.name, who="q")

    async def test_nobody_else_deletes_it(self, aos):
        """A project that has not sent it may not."""
        made = await created(aos, MODULE)
        with refused("PERMISSION_DENIED"):
            await deleted(aos, made.name, who="q")
        assert (await got(aos, made.name)).name == made.name

    async def test_not_while_a_tag_stands_for_it(self, aos):
        """The refusal names the tag; once that stands for another controller, it goes."""
        made, other = await created(aos, MODULE), await created(aos, module("other"))
        await tagged(aos, made, "mine", who="q")
        with refused("CONTROLLER_IN_USE", controller=made.name, holder="the tag 'mine' stands for it"):
            await deleted(aos, made.name)
        await tagged(aos, other, "mine", who="q")
        assert await deleted(aos, made.name)

    async def test_not_while_a_job_runs_it(self, aos):
        """Once that has ended, it goes."""
        operator = await aos.operator(an_offer())
        job = await submitted(aos)
        made = await (await aos.controllers()).GetController(GetControllerRequest(name=job.order.control.controller.hex()))
        with refused("CONTROLLER_IN_USE", holder="a job that has not ended runs it"):
            await deleted(aos, made.name)
        do_run(operator, await operator.lease(), a_run("a", "b"))
        await aos.ends(job)
        assert await deleted(aos, made.name)

    async def test_it_counts_no_longer(self, tmp_path: Path):
        """What it let go makes room for another one in the project's quota."""
        async with running(tmp_path, controllers=ControllerSettings(project_modules=1)) as aos:
            made = await created(aos, MODULE)
            with refused("STORAGE_FULL"):
                await created(aos, module("other"))
            assert await deleted(aos, made.name)
            assert await read(aos, (await created(aos, module("other"))).name) == module("other")

    @pytest.mark.parametrize("name", ["", "mine", "controllers/00", "controllers/" + "0" * 63 + "g"])
    async def test_it_has_a_name(self, aos, name: str):
        """A tag is none here."""
        with refused("INVALID_FIELD", field="name"):
            await deleted(aos, name)
