"""pytest-grpc serves one servicer alone. Its own server is synchronous, so `grpc_server` is replaced for asyncio."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack

import grpc
import pytest

from aos.clock import SystemClock
from aos.operator.pool import Pool
from aos.operator.runner import Runner
from aos.operator.servicer import OperatorServicer
from aos.testing.harness import PRICE
from aos.testing.scripted import ScriptedModel
from aos.v1 import operator_pb2_grpc
from aos.v1.operator_pb2 import DescribeOperatorRequest, GenerateRequest
from aos.v1.types_pb2 import Order
from aos.verification.keys import OperatorKey
from aos.verification.receipts import check_signature

SECONDS = 10


@pytest.fixture(scope="module")
def key():
    return OperatorKey.create()


@pytest.fixture(scope="module")
def grpc_add_to_server():
    return operator_pb2_grpc.add_OperatorServicer_to_server


@pytest.fixture(scope="module")
def grpc_servicer(key):
    """Give what makes the servicer: an engine belongs to the loop that serves it."""

    async def make(stack: AsyncExitStack) -> OperatorServicer:
        pool = await stack.enter_async_context(Pool({"scripted": ScriptedModel("Alone.")}))
        return OperatorServicer(Runner(key, pool, price=PRICE, clock=SystemClock()))

    return make


@pytest.fixture(scope="module")
def grpc_stub_cls():
    return operator_pb2_grpc.OperatorStub


@pytest.fixture(scope="module")
def grpc_addr(tmp_path_factory):
    """A socket instead of a port that someone else may take meanwhile."""
    return f"unix:{tmp_path_factory.mktemp('s')}/o"


@pytest.fixture(scope="module")
def grpc_server(grpc_addr, grpc_add_to_server, grpc_servicer):
    """Serve on a loop in a thread of its own, because the stubs of pytest-grpc block."""
    loop, stack = asyncio.new_event_loop(), AsyncExitStack()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def on_loop(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(SECONDS)

    async def start():
        server = grpc.aio.server()
        grpc_add_to_server(await grpc_servicer(stack), server)
        server.add_insecure_port(grpc_addr)
        await server.start()
        return server

    server = on_loop(start())
    yield server
    on_loop(server.stop(0))
    on_loop(stack.aclose())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(SECONDS)
    loop.close()


class TestOneServicer:
    def test_describes_itself(self, grpc_stub, key):
        """The operator's service answers with nothing else of the network there."""
        assert grpc_stub.DescribeOperator(DescribeOperatorRequest()).address == key.address

    def test_generates_and_signs(self, grpc_stub, key):
        """A stream ends in a receipt that the operator signed."""
        events = list(grpc_stub.Generate(GenerateRequest(order=Order(model="scripted", prompt="Hi"))))

        assert "".join(event.chunk.text for event in events) == "Alone."
        assert check_signature(events[-1].finish.receipt) == key.address
