"""Calls whose request is a stream, within one process: the same as over a socket, which each test is run against, too."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest

from aos.errors import InvalidField, Unauthenticated
from aos.rpc.auth import FixedTokens, caller
from aos.rpc.channel import channel
from aos.rpc.local import LocalChannel
from aos.rpc.server import Service, serving
from aos.rpc.status import answered
from aos.v1 import controllers_pb2, controllers_pb2_grpc
from aos.v1.controllers_pb2 import Controller, CreateControllerRequest
from tests.rpc.test_local import ADMIN, SECONDS, project


class Counting(controllers_pb2_grpc.ControllersServicer):
    """Counts the bytes that come, refuses a part `refused`, and notes who leaves."""

    def __init__(self) -> None:
        self.began, self.left = asyncio.Event(), asyncio.Event()

    async def CreateController(self, request_iterator, context):
        size = 0
        try:
            async for part in request_iterator:
                self.began.set()
                if part.data == b"refused":
                    raise InvalidField("data", "is refused")
                size += len(part.data)
        finally:
            self.left.set()
        return Controller(wasm_size=size, abi=caller().kind.value)


@asynccontextmanager
async def opened(way: str, servicer: Counting):
    descriptor = controllers_pb2.DESCRIPTOR.services_by_name["Controllers"]
    service = Service(descriptor, controllers_pb2_grpc.add_ControllersServicer_to_server, servicer)
    tokens = FixedTokens(admin="admin", service="", otherwise=project)
    if way == "local":
        yield controllers_pb2_grpc.ControllersStub(LocalChannel(service, authenticate=tokens))
        return
    async with serving(service, authenticate=tokens, grace=0) as (port,), channel(f"127.0.0.1:{port}") as over:
        yield controllers_pb2_grpc.ControllersStub(over)


@pytest.fixture
def servicer():
    return Counting()


@pytest.fixture(params=["local", "socket"])
async def stub(request, servicer):
    async with asyncio.timeout(SECONDS), opened(request.param, servicer) as made:
        yield made


async def parts(*sent: bytes):
    for data in sent:
        yield CreateControllerRequest(data=data)


async def endless():
    yield CreateControllerRequest(data=b"a")
    await asyncio.Event().wait()


class TestUploads:
    async def test_all_parts_come(self, stub):
        """In one answer, and the servicer knows who calls."""
        made = await stub.CreateController(parts(b"ab", b"", b"cde"), metadata=ADMIN)

        assert (made.wasm_size, made.abi) == (5, "admin")

    async def test_a_refusal(self, stub, servicer):
        """Ends the call, whatever else there was to send."""
        with pytest.raises(InvalidField, match="data: is refused"):
            await answered(stub.CreateController(parts(b"ab", b"refused", *[b"more"] * 100), metadata=ADMIN))

        assert servicer.left.is_set()

    async def test_strangers(self, stub, servicer):
        """They are refused before anything is read."""
        with pytest.raises(Unauthenticated):
            await answered(stub.CreateController(parts(b"ab")))

        assert not servicer.began.is_set()

    async def test_a_deadline(self, stub, servicer):
        """What does not end in time is ended."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.CreateController(endless(), metadata=ADMIN, timeout=0.2)

        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await servicer.left.wait()

    async def test_who_leaves(self, stub, servicer):
        """The servicer is told."""

        async def sending():
            await stub.CreateController(endless(), metadata=ADMIN)

        task = asyncio.create_task(sending())
        await servicer.began.wait()
        task.cancel()
        await servicer.left.wait()
