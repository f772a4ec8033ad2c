"""Several dispatchers on one database, each behind a server of its own, with links that a test can cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import grpc

from aos.broker.node import running_broker
from aos.dispatcher.settings import DispatcherSettings
from aos.errors import JobNotFound, ServiceUnavailable
from aos.registry.node import running_registry
from aos.registry.settings import RegistrySettings
from aos.rpc.auth import FixedTokens
from aos.rpc.channel import channel
from aos.rpc.server import Service, serving
from aos.serve import nobody
from aos.store.opening import opened
from aos.store.sql import SqlDatabase
from aos.store.sqlite import sqlite_file
from aos.testing.clock import ManualClock
from aos.v1 import broker_pb2, broker_pb2_grpc, registry_pb2, registry_pb2_grpc
from aos.v1 import dispatcher_pb2 as pb
from tests.dispatcher.conftest import BALANCE, Crash, Harness
from tests.dispatcher.hand import Hand


class Link:
    """A dispatcher's way to the database. Satisfies SqlDatabase."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database
        self.cut = False
        self.dead = False
        self.deaf = False
        """Whether nothing is heard, as if all news were lost."""
        self.loses: Callable[[], bool] = lambda: False
        """Whether the answer of the transaction that was just kept is lost on the way."""
        self.answers = asyncio.Event()
        """Cleared, nothing is said, not even that the database is away."""
        self.answers.set()
        self._heard: asyncio.Queue[str | None] | None = None

    async def transact(self, work: Any, *, durable: bool = True) -> Any:
        await self.answers.wait()
        self._check()
        result = await self._database.transact(work, durable=durable)
        self._check()
        if self.loses():
            raise ServiceUnavailable("database")
        return result

    def _check(self) -> None:
        if self.dead:  # a process that is gone: what it still does here is to end soon, and reaches nothing
            raise JobNotFound("jobs/gone")
        if self.cut:
            raise ServiceUnavailable("database")

    async def migrate(self, *names: str) -> None:
        await self._database.migrate(*names)

    def waiting(self) -> int:
        return self._database.waiting()

    @asynccontextmanager
    async def listen(self, channel: str) -> AsyncGenerator[AsyncIterator[str | None]]:
        self._heard = heard = asyncio.Queue()

        async def pump(news: AsyncIterator[str | None]) -> None:
            async for text in news:
                if not (self.cut or self.dead or self.deaf):
                    heard.put_nowait(text)

        async def read() -> AsyncIterator[str | None]:
            while True:
                yield await heard.get()

        async with self._database.listen(channel) as news:
            task = asyncio.create_task(pump(news))
            try:
                yield read()
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def heal(self) -> None:
        self.cut = False
        self.answers.set()
        if self._heard is not None:
            self._heard.put_nowait(None)


class One(Harness):
    """One of several."""

    def __init__(self, fleet: Fleet, name: str, link: Link, settings: DispatcherSettings) -> None:
        super().__init__(fleet.folder / f"{name}.db", fleet.clock, fleet.registry, fleet.broker, settings)
        self.link, self.name = link, name
        self._tokens = fleet.tokens
        self._random = random.Random(f"{name} {len(fleet._all)}")

    @asynccontextmanager
    async def database(self) -> AsyncGenerator[SqlDatabase]:
        yield self.link

    async def kill(self) -> None:
        """End it as kill -9 does: nothing more of it is written, nor told to anybody."""

        def gone(method: str) -> None:
            raise Crash

        self.link.dead = True
        self.interference.before = gone
        await self.stop()


class Fleet:
    """Dispatchers by their names, with the registry and the broker that they share."""

    def __init__(self, folder: Path, address: str, clock: ManualClock, registry, broker, settings: dict[str, Any]) -> None:
        self.folder, self.clock, self.registry, self.broker = folder, clock, registry, broker
        self.tokens: dict[str, str] = {}
        self._address, self._settings = address, {"node_seconds": 1.0} | settings
        self._shared: SqlDatabase | None = None
        self.registry_channel: grpc.aio.Channel
        self._of: dict[str, One] = {}
        self._all: list[One] = []
        self._stack = AsyncExitStack()

    def __getitem__(self, name: str) -> One:
        return self._of[name]

    @property
    def running(self) -> list[One]:
        return [one for one in self._of.values() if not one.link.dead]

    async def start(self, name: str) -> One:
        """Start a dispatcher; under the name of one that was killed, anew."""
        one = self._of[name] = One(self, name, Link(await self._opened()), DispatcherSettings(node=name, **self._settings))
        self._all.append(one)
        await one.start()
        # they know of each other; without that, they find out within node_seconds
        for other in self.running:
            await other.node.nodes.refresh()
        return one

    async def _opened(self) -> SqlDatabase:
        if self._address.startswith("postgresql:"):
            return await self._stack.enter_async_context(opened(self._address, connections=3))
        if self._shared is None:  # a file has one process
            self._shared = await self._stack.enter_async_context(opened(self._address))
        return self._shared

    async def kill(self, name: str) -> None:
        await self._of[name].kill()

    async def operator(self, at: str, *offers, vrf=None, key=None) -> Hand:
        """An operator that is registered, and attached to a dispatcher."""
        return await self[at].operator(*offers, vrf=vrf, key=key)

    async def move(self, hand: Hand, at: str) -> None:
        await hand.attach(self[at].nobody)

    async def silent(self, *, beats: int = 7) -> None:
        """Let so much time pass that those that are gone are known to be."""
        for _ in range(beats):
            self.clock.advance(seconds=1)
            for one in self.running:
                if not one.link.cut:
                    await one.node.nodes.beat()

    async def aclose(self) -> None:
        for one in self._all:
            one.link.heal()
            await one.stop()
        await self._stack.aclose()


@asynccontextmanager
async def several(folder: Path, address: str, *names: str, **settings: Any) -> AsyncGenerator[Fleet]:
    """Run dispatchers of these names on the database at the address."""
    clock, ids = ManualClock(), count(1)
    tokens = FixedTokens(admin="", service="service", otherwise=nobody)
    async with (
        sqlite_file(folder / "others.db") as file,
        running_registry(file, settings=RegistrySettings(lease=80_000.0), clock=clock) as known,
        running_broker(file, clock=clock, new_id=lambda: f"t{next(ids)}") as money,
        serving(
            Service(
                registry_pb2.DESCRIPTOR.services_by_name["Registry"],
                registry_pb2_grpc.add_RegistryServicer_to_server,
                known.servicer,
            ),
            Service(broker_pb2.DESCRIPTOR.services_by_name["Broker"], broker_pb2_grpc.add_BrokerServicer_to_server, money.servicer),
            authenticate=tokens,
            grace=0,
        ) as (port,),
        channel(f"127.0.0.1:{port}", "service") as own,
    ):
        stubs = registry_pb2_grpc.RegistryStub(own), broker_pb2_grpc.BrokerStub(own)
        fleet = Fleet(folder, address, clock, *stubs, settings)
        fleet.registry_channel = own
        try:
            for name in names:
                await fleet.start(name)
            await fleet[names[0]].deposit(BALANCE)
            yield fleet
        finally:
            await fleet.aclose()


def answer(hand: Hand, lease: pb.Lease, text: str = "Mathematics.", tokens: tuple[int, ...] = (1, 2)) -> None:
    """Run a lease to its good end."""
    hand.start(lease)
    hand.say(lease, text, tokens)
    hand.finish(lease, text, tokens)
