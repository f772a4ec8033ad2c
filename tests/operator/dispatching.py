"""A dispatcher that a test drives by hand, behind a real server, and a real registry beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from aos.errors import AosError
from aos.operator.node import OperatorNode, running_operator
from aos.registry.node import running_registry
from aos.registry.settings import RegistrySettings
from aos.rpc.auth import Caller, Kind
from aos.rpc.channel import channel
from aos.rpc.server import Service, serving
from aos.store.sqlite import sqlite_file
from aos.testing.clock import ManualClock
from aos.testing.scripted import ScriptedModel
from aos.v1 import dispatcher_pb2, dispatcher_pb2_grpc, registry_pb2, registry_pb2_grpc
from aos.v1.dispatcher_pb2 import CancelLease, Challenge, DispatcherMessage, Lease, OperatorMessage, Welcome
from aos.v1.types_pb2 import Order, Price, VectorClock
from aos.verification.keys import OperatorKey, attach_statement, signer

SECONDS = 20
NONCE = bytes(range(32))
JOB = bytes(range(1, 33))
PRICE = Price(prompt_token="3", completion_token="5")
HEARTBEAT = 6.0


class Session:
    """One stream, seen from the dispatcher's side."""

    def __init__(self) -> None:
        self._say: asyncio.Queue[DispatcherMessage | AosError | None] = asyncio.Queue()
        self.heard: asyncio.Queue[OperatorMessage | None] = asyncio.Queue()

    def lease(self, order: Order, *, lease: str = "l1", job: bytes = JOB, accepted=(), **more) -> None:
        self.say(lease=Lease(id=lease, job=job, order=order, accepted_tokens=accepted, clock=VectorClock(counts={"1": 7}), **more))

    def cancel(self, lease: str = "l1") -> None:
        self.say(cancel=CancelLease(lease=lease))

    def say(self, **message) -> None:
        self._say.put_nowait(DispatcherMessage(**message))

    def end(self, error: AosError | None = None) -> None:
        """End the stream, well or with an error."""
        self._say.put_nowait(error)

    async def hear(self) -> OperatorMessage | None:
        """Return what the operator says next; None once it has ended its side."""
        async with asyncio.timeout(SECONDS):
            return await self.heard.get()

    async def outcome(self) -> tuple[str, list[int], OperatorMessage]:
        """Return the text and tokens of the one lease that runs, and its last message; heartbeats are passed over."""
        text, tokens = "", []
        while (message := await self.hear()) is not None:
            match message.WhichOneof("message"):
                case "chunks":
                    for one in message.chunks.chunks:
                        text += one.chunk.text
                        tokens += one.chunk.tokens
                case "finished" | "failed":
                    return text, tokens, message
        raise AssertionError("the stream ended before the lease")

    async def greet(self, **more) -> dispatcher_pb2.Hello:
        """Let the operator in, once its signature is found good; ``more`` is what else the welcome says."""
        self.say(challenge=Challenge(nonce=NONCE, dispatcher="d"))
        hello = (await self.hear()).hello
        signer(attach_statement(NONCE, "d", hello.operator), hello.signature, hello.operator)
        self.say(welcome=Welcome(heartbeat_seconds=HEARTBEAT, **more))
        return hello


class HandDriven(dispatcher_pb2_grpc.DispatcherServicer):
    """Hands each stream to the test."""

    def __init__(self) -> None:
        self._opened: asyncio.Queue[Session] = asyncio.Queue()

    async def session(self) -> Session:
        """Return the next stream that the operator opens."""
        async with asyncio.timeout(SECONDS):
            return await self._opened.get()

    async def Attach(self, request_iterator, context):
        session = Session()
        self._opened.put_nowait(session)

        async def listen() -> None:
            try:
                async for message in request_iterator:
                    session.heard.put_nowait(message)
            finally:
                session.heard.put_nowait(None)

        listening = asyncio.create_task(listen())
        try:
            while (message := await session._say.get()) is not None:
                if isinstance(message, AosError):
                    raise message
                yield message
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


@dataclass
class Network:
    """What an operator attaches to."""

    dispatcher: HandDriven
    registry: registry_pb2_grpc.RegistryAsyncStub
    clock: ManualClock
    channel: grpc.aio.Channel
    key: OperatorKey

    @asynccontextmanager
    async def operator(self, model: ScriptedModel, *, grace: float = 0, **more) -> AsyncGenerator[OperatorNode]:
        async with running_operator(
            self.key,
            {"m": model},
            registry=self.channel,
            dispatcher=self.channel,
            price=PRICE,
            clock=self.clock,
            random=lambda: 0.5,
            grace=grace,
            **more,
        ) as node:
            yield node

    @asynccontextmanager
    async def attached(self, model: ScriptedModel, **more) -> AsyncGenerator[tuple[OperatorNode, Session]]:
        async with self.operator(model, **more) as node:
            session = await self.dispatcher.session()
            await session.greet()
            async with asyncio.timeout(SECONDS):
                await node.attached()
            try:
                yield node, session
            finally:
                session.end()

    async def info(self) -> registry_pb2.OperatorInfo:
        return await self.registry.GetOperator(registry_pb2.GetOperatorRequest(name=f"operators/{self.key.address}"))

    async def until_routable(self, *, routable: bool = True) -> registry_pb2.OperatorInfo:
        """Return what the registry knows, once the operator can be used, or cannot."""
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    info = await self.info()
                    if info.routable == routable:
                        return info
                except grpc.aio.AioRpcError:
                    pass
                await asyncio.sleep(0.002)


async def anyone(token: str) -> Caller | None:
    del token
    return Caller(Kind.ADMIN)


@asynccontextmanager
async def running_network(
    folder: Path, key: OperatorKey, *, late: asyncio.Event | None = None, settings: RegistrySettings | None = None
) -> AsyncGenerator[Network]:
    """Run both services on one socket; with ``late``, only once it is set. ``settings`` are the registry's."""
    address, clock, dispatcher = f"unix:{folder}/net", ManualClock(), HandDriven()
    async with (
        sqlite_file(":memory:") as file,
        running_registry(file, clock=clock, settings=settings) as known,
        channel(address, "x") as opened,
    ):
        services = (
            Service(
                registry_pb2.DESCRIPTOR.services_by_name["Registry"],
                registry_pb2_grpc.add_RegistryServicer_to_server,
                known.servicer,
            ),
            Service(
                dispatcher_pb2.DESCRIPTOR.services_by_name["Dispatcher"],
                dispatcher_pb2_grpc.add_DispatcherServicer_to_server,
                dispatcher,
            ),
        )
        over = asyncio.Event()

        async def serve() -> None:
            if late is not None:
                await late.wait()
            async with serving(*services, authenticate=anyone, addresses=(address,), grace=0):
                ready.set()
                await over.wait()

        ready = asyncio.Event()
        served = asyncio.create_task(serve())
        if late is None:
            await ready.wait()
        try:
            yield Network(dispatcher, registry_pb2_grpc.RegistryStub(opened), clock, opened, key)
        finally:
            over.set()
            if late is not None:
                late.set()
            await served
