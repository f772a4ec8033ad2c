"""Calls between services: over several servers, with whose powers, and whose token it is where projects are not."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest

from aos.errors import ServiceUnavailable
from aos.rpc.auth import ON_BEHALF, Caller, FixedTokens, Kind, caller
from aos.rpc.channel import channel
from aos.rpc.server import serving
from aos.serving import services
from aos.serving.calls import spread, to_services
from aos.serving.tokens import FRESH_SECONDS, AskedDispatchers
from aos.testing.clock import ManualClock
from aos.v1 import broker_pb2, broker_pb2_grpc, dispatcher_pb2, dispatcher_pb2_grpc
from tests.refusals import refused

PATIENCE = 20
ADMIN, SERVICE = "the-administrators-token", "the-services-own-token"


class Saying(dispatcher_pb2_grpc.DispatcherServicer):
    """Says its own name, and who calls."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def GetProject(self, request, context):
        return dispatcher_pb2.Project(name=caller().project)

    async def GetJob(self, request, context):
        return dispatcher_pb2.Job(name=self._name, project=f"{caller().kind.value} {caller().project}")

    async def WatchJob(self, request, context):
        yield dispatcher_pb2.JobEvent(sequence=len(caller().project))


class Money(broker_pb2_grpc.BrokerServicer):
    async def GetTotals(self, request, context):
        return broker_pb2.Totals(deposited="7")


class Known:
    """Knows one project's token, which can be changed."""

    def __init__(self) -> None:
        self.token = "demo-token"
        self.asked = 0

    async def __call__(self, token: str) -> Caller | None:
        self.asked += 1
        return Caller(Kind.PROJECT, "projects/demo") if token == self.token else None


@asynccontextmanager
async def dispatcher(path: Path, name: str, known: Known | None = None):
    tokens = FixedTokens(admin=ADMIN, service=SERVICE, otherwise=known or Known())
    async with serving(services.dispatcher_service(Saying(name)), authenticate=tokens, addresses=(f"unix:{path}",), grace=0):
        yield f"unix:{path}"


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="aos-test-") as name:
        yield Path(name)


async def names(opened: grpc.aio.Channel, count: int) -> set[str]:
    stub = dispatcher_pb2_grpc.DispatcherStub(opened)
    return {(await stub.GetJob(dispatcher_pb2.GetJobRequest(), wait_for_ready=True, timeout=PATIENCE)).name for _ in range(count)}


class TestSpread:
    async def test_calls_go_to_all_that_are_there(self, folder):
        """Two servers get calls in turn; when one leaves, the other gets all; when it is back, it gets its part again."""
        async with dispatcher(folder / "b", "b") as b, AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
            leaving = await stack.enter_async_context(AsyncExitStack())
            a = await leaving.enter_async_context(dispatcher(folder / "a", "a"))
            opened = await stack.enter_async_context(spread(f"{a},{b}", SERVICE))
            while await names(opened, 4) != {"a", "b"}:
                await asyncio.sleep(0.02)
            await leaving.aclose()
            assert await names(opened, 10) == {"b"}
            await leaving.enter_async_context(dispatcher(folder / "a", "a"))
            while await names(opened, 4) != {"a", "b"}:
                await asyncio.sleep(0.02)


class TestRouted:
    async def test_each_service_is_called_where_it_is(self, folder):
        """One channel carries calls for all; each goes to the process that serves it."""
        tokens = FixedTokens(admin=ADMIN, service=SERVICE, otherwise=Known())
        broker = f"unix:{folder / 'broker'}"
        async with (
            dispatcher(folder / "a", "a") as a,
            serving(services.broker_service(Money()), authenticate=tokens, addresses=(broker,), grace=0),
            to_services({"dispatchers": a, "registry": "unix:/nowhere", "broker": broker}, SERVICE) as opened,
        ):
            assert await names(opened, 1) == {"a"}
            assert (await broker_pb2_grpc.BrokerStub(opened).GetTotals(broker_pb2.GetTotalsRequest())).deposited == "7"


class TestActing:
    async def test_a_service_calls_as_a_project(self, folder):
        """The name that stands for a token becomes the project that is called as, for streams too."""
        named = (("authorization", "Bearer projects/paying"), ("x-request-id", "1"))
        async with dispatcher(folder / "a", "a") as a, spread(a, SERVICE, acting=True) as opened:
            stub = dispatcher_pb2_grpc.DispatcherStub(opened)
            job = await stub.GetJob(dispatcher_pb2.GetJobRequest(), metadata=named)
            events = [one async for one in stub.WatchJob(dispatcher_pb2.WatchJobRequest(), metadata=named)]
        assert job.project == "project projects/paying"
        assert [one.sequence for one in events] == [len("projects/paying")]

    async def test_nobody_else_does(self, folder):
        """A project or the administrator that sends the same metadata stays who it is; without a token it is nobody."""
        sent = ((ON_BEHALF, "projects/paying"),)
        async with dispatcher(folder / "a", "a") as a:
            said = {}
            for token in ("demo-token", ADMIN):
                async with channel(a, token) as opened:
                    job = await dispatcher_pb2_grpc.DispatcherStub(opened).GetJob(dispatcher_pb2.GetJobRequest(), metadata=sent)
                    said[token] = job.project
            async with channel(a) as opened:
                with refused("UNAUTHENTICATED"):
                    await dispatcher_pb2_grpc.DispatcherStub(opened).GetJob(dispatcher_pb2.GetJobRequest(), metadata=sent)
        assert said == {"demo-token": "project projects/demo", ADMIN: "admin "}


class TestAskedDispatchers:
    async def test_they_know_whose_token_it_is(self, folder):
        """A project's token is its; what nobody holds, what is empty and what no header can carry is nobody's."""
        clock = ManualClock()
        async with dispatcher(folder / "a", "a") as a, spread(a) as opened:
            known = AskedDispatchers(opened, clock)
            assert await known("demo-token") == Caller(Kind.PROJECT, "projects/demo")
            assert [await known(token) for token in ("wrong", "", "with\nlines", "ümlaut")] == [None] * 4

    async def test_a_rotated_token_ends_within_its_time(self, folder):
        """An answer is remembered for some seconds and no longer."""
        clock, tokens = ManualClock(), Known()
        async with dispatcher(folder / "a", "a", tokens) as a, spread(a) as opened:
            known = AskedDispatchers(opened, clock)
            assert await known("demo-token") == await known("demo-token") == Caller(Kind.PROJECT, "projects/demo")
            assert tokens.asked == 1
            tokens.token = "another-token"
            clock.advance(seconds=FRESH_SECONDS + 1)
            assert await known("demo-token") is None

    async def test_without_dispatchers_nobody_is_taken_for_a_stranger(self):
        """While no dispatcher answers, the refusal says that, and not that the token is wrong."""
        async with spread("unix:/nowhere") as opened:
            with pytest.raises(ServiceUnavailable):
                await AskedDispatchers(opened, ManualClock())("demo-token")
