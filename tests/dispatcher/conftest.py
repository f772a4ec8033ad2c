"""A dispatcher behind a real server, over a real file, with the real registry and broker, and a clock that stands still."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest_asyncio

from aos.broker.node import running_broker
from aos.dispatcher.node import DispatcherNode, running_dispatcher
from aos.dispatcher.settings import DispatcherSettings
from aos.metrics import CollectorRegistry
from aos.registry.node import running_registry
from aos.registry.settings import RegistrySettings
from aos.rpc.auth import FixedTokens
from aos.rpc.channel import channel
from aos.rpc.server import Service, serving
from aos.serve import nobody
from aos.storage.blobs import Blobs
from aos.storage.modules import ModuleFiles
from aos.store.sql import SqlDatabase
from aos.store.sqlite import sqlite_file
from aos.testing.clock import ManualClock
from aos.v1 import (
    broker_pb2,
    broker_pb2_grpc,
    controllers_pb2,
    controllers_pb2_grpc,
    dispatcher_pb2_grpc,
    registry_pb2,
    registry_pb2_grpc,
)
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.types_pb2 import Order, Sampling
from aos.verification.attestation.policy import Policy
from tests.dispatcher.hand import WAIT, Hand

BALANCE = 1_000_000


class Crash(Exception):
    """The process is gone."""


class Interference:
    """The broker's stub, with what a test does before and after its calls."""

    def __init__(self, stub: broker_pb2_grpc.BrokerAsyncStub) -> None:
        self._stub = stub
        self.before: Callable[[str], None] = lambda _: None
        self.after: Callable[[str], None] = lambda _: None
        self.calls: list[str] = []

    def __getattr__(self, method: str) -> Any:
        async def call(request, **options):
            self.calls.append(method)
            self.before(method)
            answer = await getattr(self._stub, method)(request, **options)
            self.after(method)
            return answer

        return call


class Harness:
    """One dispatcher and its callers. ``project`` and ``other`` are two projects, the second without money."""

    def __init__(self, path: Path, clock: ManualClock, registry, broker, settings: DispatcherSettings) -> None:
        self.path, self.clock, self.registry, self.broker, self.settings = path, clock, registry, broker, settings
        self.interference = Interference(broker)
        self.shipped: Path | None = None
        """A folder of controllers that are there from the start."""
        self.node: DispatcherNode
        self._stack = AsyncExitStack()
        self._tokens: dict[str, str] = {}
        self._random = random.Random(0)

    def database(self) -> AbstractAsyncContextManager[SqlDatabase]:
        """What it keeps its jobs in."""
        return sqlite_file(self.path)

    async def start(self) -> None:
        enter = self._stack.enter_async_context
        self.metrics = CollectorRegistry()
        self.node = await enter(
            running_dispatcher(
                await enter(self.database()),
                blobs=Blobs(self.path.with_suffix(".blobs")),
                modules=ModuleFiles(self.path.with_suffix(".controllers")),
                shipped=self.shipped,
                settings=self.settings,
                registry=self.registry,
                broker=self.interference,
                clock=self.clock,
                randomness=self._random.randbytes,
                metrics=self.metrics,
            )
        )
        tokens = FixedTokens(admin="admin", service="", otherwise=self.node.authenticate)
        descriptor = pb.DESCRIPTOR.services_by_name["Dispatcher"]
        service = Service(descriptor, dispatcher_pb2_grpc.add_DispatcherServicer_to_server, self.node.servicer)
        controllers = controllers_pb2.DESCRIPTOR.services_by_name["Controllers"]
        keeping = Service(controllers, controllers_pb2_grpc.add_ControllersServicer_to_server, self.node.controllers)
        (port,) = await enter(serving(service, keeping, authenticate=tokens, grace=0))
        self.address = f"127.0.0.1:{port}"
        self.admin = await self.caller("admin")
        self.nobody = await self.caller("")
        for name in ("p", "q"):
            if name not in self._tokens:
                made = await self.admin.CreateProject(pb.CreateProjectRequest(project_id=name))
                self._tokens[name] = made.token
        self.project, self.other = await self.caller(self._tokens["p"]), await self.caller(self._tokens["q"])

    async def caller(self, token: str) -> dispatcher_pb2_grpc.DispatcherAsyncStub:
        return dispatcher_pb2_grpc.DispatcherStub(await self._stack.enter_async_context(channel(self.address, token)))

    async def controllers(self, who: str = "p") -> controllers_pb2_grpc.ControllersAsyncStub:
        """The Controllers service, called by a project, or with another token."""
        opened = channel(self.address, self._tokens.get(who, who))
        return controllers_pb2_grpc.ControllersStub(await self._stack.enter_async_context(opened))

    async def stop(self) -> None:
        await self._stack.aclose()
        self._stack = AsyncExitStack()

    async def crash(self) -> None:
        """Go on from what was on disk at this moment, as after kill -9; what the old process still does reaches nobody."""
        copy = self.path.with_suffix(f"{self.path.suffix}+")
        with sqlite3.connect(self.path) as live, sqlite3.connect(copy) as kept:
            live.backup(kept)
        live.close()
        kept.close()
        await self.restart_from(copy)

    async def restart_from(self, path: Path) -> None:
        def gone(method: str) -> None:
            raise Crash

        self.interference.before = gone
        await self.stop()
        self.path, self.interference = path, Interference(self.broker)
        await self.start()

    async def deposit(self, amount: int, project: str = "p") -> None:
        request = broker_pb2.DepositRequest(account=f"accounts/{project}", amount=str(amount), request_id=f"{project}{amount}")
        await self.broker.Deposit(request)

    async def balance(self, account: str = "p") -> tuple[int, int]:
        """What an account has available and held."""
        found = await self.broker.GetAccount(broker_pb2.GetAccountRequest(name=f"accounts/{account}"))
        return int(found.available), int(found.held)

    async def operator(self, *offers, attach: bool = True, key=None, vrf=None) -> Hand:
        hand = Hand(*offers, key=key, vrf=vrf)
        await hand.register(self.registry, now=int(self.clock.now().timestamp()))
        if attach:
            await hand.attach(self.nobody)
        return hand

    async def submit(self, prompt: str = "What is AI?", *, by=None, **fields) -> pb.Job:
        return await (by or self.project).CreateJob(a_request(prompt, **fields))

    async def job(self, job: pb.Job) -> pb.Job:
        return await self.admin.GetJob(pb.GetJobRequest(name=job.name))

    async def until(self, job: pb.Job, *states: str) -> pb.Job:
        """Watch the job until it is in one of the states, by name; then show it."""
        wanted = {pb.JobState.Value(f"JOB_STATE_{state}") for state in states}
        async with asyncio.timeout(WAIT):
            call = self.admin.WatchJob(pb.WatchJobRequest(name=job.name))
            async for event in call:
                reached = event.outcome.state if event.HasField("outcome") else event.state
                now = await self.job(job)
                if reached in wanted and now.state in wanted:
                    call.cancel()
                    return now
        raise AssertionError(f"the job never was {states}")

    async def watch(self, job: pb.Job, after: int = 0) -> list[pb.JobEvent]:
        """All events behind ``after``, to the end."""
        async with asyncio.timeout(WAIT):
            return [event async for event in self.project.WatchJob(pb.WatchJobRequest(name=job.name, after_sequence=after))]

    async def ends(self, job: pb.Job) -> pb.Job:
        return await self.until(job, "COMPLETED", "FAILED", "CANCELLED", "EXPIRED")

    async def settles(self, account: str = "p") -> int:
        """Wait until nothing is held; return what is available."""
        return (await self.eventually(lambda: self.balance(account), lambda pots: pots[1] == 0))[0]

    async def eventually(self, look: Callable[[], Any], good: Callable[[Any], bool], *, step: float = 0.0) -> Any:
        """Look until it is good, with ``step`` seconds of the clock between looks; fail after the real deadline."""
        async with asyncio.timeout(WAIT):
            while not good(seen := await look()):
                self.clock.advance(seconds=step)
                await asyncio.sleep(0.005)
        return seen


def a_request(prompt: str = "What is AI?", *, request_id: str = "", max_tokens: int = 100, model: str = "m", **fields):
    order = Order(model=model, prompt=prompt, sampling=Sampling(max_tokens=max_tokens))
    return pb.CreateJobRequest(request_id=request_id, order=order, **fields)


@asynccontextmanager
async def running(folder: Path, *, clock: ManualClock | None = None, **settings) -> AsyncGenerator[Harness]:
    clock, ids = clock or ManualClock(), count(1)
    known_by = RegistrySettings(lease=80_000.0, tee=settings.get("tee", Policy()))
    tokens = FixedTokens(admin="", service="service", otherwise=nobody)
    async with (
        sqlite_file(folder / "others.db") as file,
        running_registry(file, settings=known_by, clock=clock) as known,
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
        harness = Harness(
            folder / "jobs.db",
            clock,
            registry_pb2_grpc.RegistryStub(own),
            broker_pb2_grpc.BrokerStub(own),
            DispatcherSettings(**settings),
        )
        try:
            await harness.start()
            await harness.deposit(BALANCE)
            yield harness
        finally:
            await harness.stop()


@pytest_asyncio.fixture
async def aos(tmp_path: Path) -> AsyncGenerator[Harness]:
    async with running(tmp_path) as harness:
        yield harness
