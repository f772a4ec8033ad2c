"""What every server of the network has besides its services."""

import asyncio
from pathlib import Path

import grpc
import pytest
from grpc._cython import cygrpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from aos.rpc import channel, server
from aos.rpc.auth import FixedTokens
from aos.rpc.server import serving
from aos.serve import nobody

SECONDS = 10
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class TestHealth:
    async def test_watched(self):
        """Who watches a server's health hears that it serves, and, before it drains, that it does not any more."""
        stop = asyncio.Event()
        ports: asyncio.Queue[int] = asyncio.Queue()

        async def run() -> None:
            async with serving(authenticate=FixedTokens(admin="", service="", otherwise=nobody), grace=SECONDS) as (port,):
                ports.put_nowait(port)
                await stop.wait()

        running = asyncio.create_task(run())
        async with asyncio.timeout(SECONDS), grpc.aio.insecure_channel(f"127.0.0.1:{await ports.get()}") as opened:
            call = health_pb2_grpc.HealthStub(opened).Watch(health_pb2.HealthCheckRequest())
            first = await call.read()
            stop.set()
            second = await call.read()
            call.cancel()
            await running

        assert [first.status, second.status] == [SERVING, NOT_SERVING]


class TestOptions:
    @pytest.mark.parametrize("name", sorted({name for name, _ in (*server.OPTIONS, *channel.OPTIONS)}))
    def test_known(self, name):
        """Each option is one that gRPC knows: it passes over others without a word."""
        assert name.encode() in Path(cygrpc.__file__).read_bytes()
