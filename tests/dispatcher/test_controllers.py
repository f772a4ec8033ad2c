"""Controllers come in, are kept, and are read by those who need them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from aos import wasm_modules
from aos.controller_names import MODULE_BYTES, PART_BYTES, SENT_BYTES
from aos.dispatcher.controller_settings import ControllerSettings
from aos.v1.controllers_pb2 import (
    Controller,
    CreateControllerRequest,
    GetControllerRequest,
    ListControllersRequest,
    ReadControllerRequest,
)
from tests.dispatcher.conftest import running
from tests.modules import digits, module
from tests.refusals import reason_of, refused

SMALL = module("a")


async def sent(data: bytes, size: int = SENT_BYTES) -> AsyncIterator[CreateControllerRequest]:
    for start in range(0, len(data), size):
        yield CreateControllerRequest(data=data[start : start + size])


async def created(aos, data: bytes, who: str = "p", size: int = SENT_BYTES) -> Controller:
    return await (await aos.controllers(who)).CreateController(sent(data, size))


async def got(aos, name: str) -> Controller:
    return await (await aos.controllers()).GetController(GetControllerRequest(name=name))


def left(aos) -> set[str]:
    """The files in the modules' folder."""
    return {path.name for path in aos.path.with_suffix(".controllers").iterdir()}


class Hanging:
    """Modules that begin to come in and never end."""

    def __init__(self, aos) -> None:
        self._aos, self._calls = aos, []

    async def begin(self, who: str = "p") -> grpc.aio.StreamUnaryCall:
        """Return once the dispatcher has begun to take it in."""
        before = len(left(self._aos))
        call = (await self._aos.controllers(who)).CreateController()
        self._calls.append(call)
        await call.write(CreateControllerRequest(data=b"\0asm"))

        async def files() -> int:
            return len(left(self._aos))

        await self._aos.eventually(files, lambda now: now > before)
        return call

    def stop(self) -> None:
        for call in self._calls:
            call.cancel()


class TestTakingIn:
    async def test_its_name_is_its_digest(self, aos):
        """And its sizes and its ABI are said."""
        made = await created(aos, SMALL)
        assert made.name == f"controllers/{digits(SMALL)}"
        assert (made.wasm_size, made.abi, list(made.tags)) == (len(SMALL), "mid_process", [])
        assert made.compiled_size > 0
        assert made.milliseconds > 0
        assert made.created.ToDatetime() == aos.clock.now().replace(tzinfo=None)

    @pytest.mark.parametrize("size", [1, 7, SENT_BYTES])
    async def test_it_comes_in_parts_of_any_size(self, aos, size):
        """What counts is the whole."""
        assert (await created(aos, SMALL, size=size)).name == f"controllers/{digits(SMALL)}"

    async def test_again_is_the_same(self, aos):
        """Whoever sends it: it came when it came first."""
        first = await created(aos, SMALL)
        aos.clock.advance(hours=1)
        for who in ("p", "q", "admin"):
            again = await created(aos, SMALL, who)
            assert (again.name, again.created) == (first.name, first.created)
        assert left(aos) == {f"{digits(SMALL)}.wasm"}

    async def test_it_outlives_a_restart(self, aos):
        """With all that was known of it."""
        made = await created(aos, SMALL)
        made.ClearField("milliseconds")
        await aos.stop()
        await aos.start()
        assert await got(aos, made.name) == made
        assert await read(aos, made.name) == SMALL

    async def test_a_crash_leaves_no_halves(self, aos):
        """What was coming in long ago, when a dispatcher died, is gone when the next one has started."""
        half = aos.path.with_suffix(".controllers") / "half.part"
        half.write_bytes(b"\0asm")
        os.utime(half, (0, 0))
        await aos.stop()
        await aos.start()
        assert left(aos) == set()

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"", "compile: "),
            (b"hello", "compile: "),
            (SMALL[:-5], "compile: "),
            (module(memory=""), "memory missing"),
            (module(aici_create="-"), "export aici_create is missing"),
            (module(aici_create=""), "export aici_create must be a function () -> (i32)"),
            (module(imports='(import "env" "own" (func))'), "import env.own is unknown"),
            (module(imports='(import "env" "aici_host_stop" (func (param i32)))'), "import env.aici_host_stop must be a function"),
        ],
        ids=["nothing", "text", "cut off", "no memory", "no export", "export's type", "import", "import's type"],
    )
    async def test_what_is_no_controller_is_refused(self, aos, data, why):
        """With the reason, and nothing of it is kept."""
        with refused("INVALID_FIELD", code="INVALID_ARGUMENT", saying=why):
            await created(aos, data)
        assert left(aos) == set()

    async def test_who_leaves_leaves_nothing(self, aos):
        """A module whose sender goes away is forgotten."""
        hanging = Hanging(aos)
        (await hanging.begin()).cancel()

        async def files() -> set[str]:
            return left(aos)

        assert await aos.eventually(files, lambda now: not now) == set()


class TestLimits:
    def test_the_compiler_takes_what_the_service_takes(self):
        """One limit stands in two places, because the dialects know no compiler."""
        assert wasm_modules.MODULE_BYTES == MODULE_BYTES

    async def test_a_module_can_be_too_large(self, aos):
        """One byte more than is taken; it is refused as it comes, and nothing of it stays."""
        with refused("INVALID_FIELD", field="data", limit=str(MODULE_BYTES)):
            await created(aos, bytes(MODULE_BYTES + 1))
        assert left(aos) == set()

    async def test_a_part_can_be_too_large(self, aos):
        """Memory is what a message costs."""
        with refused("INVALID_FIELD", field="data", limit=str(SENT_BYTES)):
            await created(aos, bytes(SENT_BYTES + 1), size=SENT_BYTES + 1)

    async def test_a_project_has_so_many(self, tmp_path: Path):
        """One more is refused; what it has it may send again; the administrator has no such limit."""
        async with running(tmp_path, controllers=ControllerSettings(project_modules=1)) as aos:
            await created(aos, SMALL)
            with refused("STORAGE_FULL", code="RESOURCE_EXHAUSTED", project="projects/p", quota="controllers", limit="1"):
                await created(aos, module("b"))
            assert await created(aos, SMALL)
            assert await created(aos, module("b"), "q")
            with refused("STORAGE_FULL", project="projects/q"):
                await created(aos, SMALL, "q")  # kept for another, and still one more of its own
            for mark in "cd":
                await created(aos, module(mark), "admin")

    async def test_a_project_has_so_many_bytes(self, tmp_path: Path):
        """All of its modules together."""
        async with running(tmp_path, controllers=ControllerSettings(project_bytes=len(SMALL) + 10)) as aos:
            await created(aos, SMALL)
            with refused("STORAGE_FULL", quota="bytes of controllers", limit=str(len(SMALL) + 10)):
                await created(aos, module("b"))

    async def test_so_many_come_in_at_once(self, tmp_path: Path):
        """From one project, and from all; when one has gone there is room again."""
        async with running(tmp_path, controllers=ControllerSettings(project_uploads=1, uploads=2)) as aos:
            hanging = Hanging(aos)
            first = await hanging.begin("p")
            with refused("QUEUE_FULL", limit="1"):
                await created(aos, SMALL, "p")
            await hanging.begin("q")
            with refused("QUEUE_FULL", limit="2"):
                await created(aos, SMALL, "admin")
            first.cancel()

            async def refusal() -> str:
                return await reason_of(created(aos, SMALL, "p"))

            assert await aos.eventually(refusal, lambda reason: reason != "QUEUE_FULL") == ""
            hanging.stop()

    async def test_one_that_does_not_come_is_given_up(self, tmp_path: Path):
        """Its place is for others."""
        async with running(tmp_path, controllers=ControllerSettings(upload_seconds=0.2)) as aos:
            call = await Hanging(aos).begin()
            with refused("DEADLINE"):
                await call
            assert left(aos) == set()

    async def test_requests_are_counted(self, tmp_path: Path):
        """As those for jobs are."""
        async with running(tmp_path, project_requests=1) as aos:
            await created(aos, SMALL)
            with refused("QUOTA_EXCEEDED", project="projects/p"):
                await created(aos, SMALL)


async def read(aos, name: str, who: str = "p") -> bytes:
    call = (await aos.controllers(who)).ReadController(ReadControllerRequest(name=name))
    parts = [part.data async for part in call]
    assert all(len(part) == PART_BYTES for part in parts[:-1])
    return b"".join(parts)


class TestReading:
    async def test_a_module_comes_back_whole(self, aos):
        """In parts, whatever its length."""
        large = module(padding=PART_BYTES)
        made = await created(aos, large)
        assert await read(aos, made.name) == large

    async def test_an_operator_reads_while_its_stream_stands(self, aos):
        """With the token that it got at its welcome; when the stream has ended the token is nobody's."""
        made = await created(aos, SMALL)
        hand = await aos.operator(attach=False)
        token = (await hand.attach(aos.nobody)).token
        assert await read(aos, made.name, token) == SMALL
        assert hand.call is not None
        hand.call.cancel()

        async def refusal() -> str:
            return await reason_of(read(aos, made.name, token))

        assert await aos.eventually(refusal, bool) == "UNAUTHENTICATED"

    async def test_an_operator_does_nothing_else(self, aos):
        """Its token is good for reading."""
        made = await created(aos, SMALL)
        hand = await aos.operator(attach=False)
        token = (await hand.attach(aos.nobody)).token
        stub = await aos.controllers(token)
        for call in (
            stub.GetController(GetControllerRequest(name=made.name)),
            stub.ListControllers(ListControllersRequest()),
            stub.CreateController(sent(SMALL)),
        ):
            assert await reason_of(call) == "PERMISSION_DENIED"

    async def test_strangers_read_nothing(self, aos):
        """Nor does one who guesses half of an operator's token."""
        made = await created(aos, SMALL)
        hand = await aos.operator()
        for token in ("", hand.address, f"{hand.address}.", f"{hand.address}.x"):
            assert await reason_of(read(aos, made.name, token)) == "UNAUTHENTICATED"

    async def test_there_may_be_none(self, aos):
        """Of that digest; what is no digest is no name."""
        with refused("CONTROLLER_NOT_FOUND", code="NOT_FOUND"):
            await read(aos, f"controllers/{'0' * 64}")
        with refused("INVALID_FIELD", field="name"):
            await read(aos, "controllers/a-tag")

    async def test_a_lost_file_is_a_lost_controller(self, aos):
        """Until it is sent again."""
        made = await created(aos, SMALL)
        await asyncio.to_thread((aos.path.with_suffix(".controllers") / f"{digits(SMALL)}.wasm").unlink)
        with refused("CONTROLLER_NOT_FOUND"):
            await read(aos, made.name)
        await created(aos, SMALL)
        assert await read(aos, made.name) == SMALL
