"""A server that needs others: when its health says that it should get calls."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from aos.rpc.auth import FixedTokens
from aos.rpc.readiness import LIVE, NotServing, Readiness, serves
from aos.rpc.server import serving
from aos.serve import nobody

SECONDS = 20
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Needed:
    """Something that is there or not, as the test says."""

    def __init__(self) -> None:
        self.there = False

    async def __call__(self) -> None:
        if not self.there:
            raise ConnectionError


@asynccontextmanager
async def server(needs=None, *, readiness=None):
    """A server that needs these, and its channel."""
    readiness = readiness or Readiness(needs or {})
    tokens = FixedTokens(admin="", service="", otherwise=nobody)
    async with (
        serving(authenticate=tokens, grace=0, readiness=readiness) as (port,),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened,
    ):
        yield opened


async def until(opened: grpc.aio.Channel, wanted: int) -> None:
    """Return once health says so."""
    call = health_pb2_grpc.HealthStub(opened).Watch(health_pb2.HealthCheckRequest())
    async with asyncio.timeout(SECONDS):
        async for reply in call:
            if reply.status == wanted:
                call.cancel()
                return


async def status(opened: grpc.aio.Channel, name: str = "") -> int:
    return (await health_pb2_grpc.HealthStub(opened).Check(health_pb2.HealthCheckRequest(service=name))).status


class TestReadiness:
    async def test_it_follows_what_is_needed(self):
        """It is not ready before all that it needs has answered, and no longer than that answers."""
        first, second = Needed(), Needed()
        async with server({"first": first, "second": second}) as opened:
            assert await status(opened) == NOT_SERVING
            first.there = second.there = True
            await until(opened, SERVING)
            second.there = False
            await until(opened, NOT_SERVING)
            second.there = True
            await until(opened, SERVING)

    async def test_a_process_that_waits_is_alive(self):
        """Under its own name health says only that the process works, so that nobody ends it for another one's fault."""
        async with server({"first": Needed()}) as opened:
            assert (await status(opened, LIVE), await status(opened)) == (SERVING, NOT_SERVING)

    async def test_what_does_not_answer_in_time_is_not_there(self, caplog):
        """A need that hangs has an end; the log says which it is."""
        caplog.set_level("WARNING", "aos.rpc.readiness")

        async def hangs() -> None:
            await asyncio.get_running_loop().create_future()

        async with server({"the well": hangs}) as opened, asyncio.timeout(SECONDS):
            while "the well does not answer within 2 s" not in caplog.text:
                await asyncio.sleep(0.05)
            assert await status(opened) == NOT_SERVING

    async def test_leaving_is_said_before_calls_are_refused(self):
        """Whoever leaves is ready no more, and still answers."""
        readiness = Readiness({})
        async with server(readiness=readiness) as opened:
            await until(opened, SERVING)
            readiness.leave()
            await until(opened, NOT_SERVING)
            assert await status(opened, LIVE) == SERVING


class TestServes:
    async def test_another_server_counts_if_it_is_ready(self):
        """A server that answers and is not ready is not there for those who need it; nor is one that is gone."""
        needed = Needed()
        async with server({"first": needed}) as opened:
            with pytest.raises(NotServing):
                await serves(opened)()
            needed.there = True
            await until(opened, SERVING)
            await serves(opened)()
        async with grpc.aio.insecure_channel("unix:/nowhere") as gone:
            with pytest.raises(grpc.aio.AioRpcError):
                await serves(gone)()
