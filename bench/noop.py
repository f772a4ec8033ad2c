"""A network whose model says one token and computes nothing, in two processes, as a peer to job queues.

    python -m bench.noop services DATABASE               prints where it serves and a project's token; stops when its input ends
    python -m bench.noop operator REGISTRY DISPATCHER    prints a line once it is attached

Everything else is real: admission, holds, leases, receipts and their signatures, settlement.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aos import loop
from aos.broker.settings import BrokerSettings
from aos.client import Client
from aos.clock import SystemClock
from aos.dispatcher.settings import DispatcherSettings
from aos.operator.node import running_operator
from aos.registry.settings import RegistrySettings
from aos.rpc.channel import channel
from aos.rpc.status import answered
from aos.serve import running_services
from aos.serving.processes import serving_broker, serving_dispatcher, serving_registry
from aos.serving.settings import BrokerProcess, DispatcherProcess, RegistryProcess
from aos.testing.scripted import ScriptedModel
from aos.v1 import broker_pb2, dispatcher_pb2
from aos.v1.types_pb2 import Price
from aos.verification.keys import OperatorKey

MODEL = "noop"
ADMIN, SERVICE = "the-administrators-token", "the-services-own-token"
QUEUE = 1_100_000
"""Most jobs that may wait: a bench fills the queue before anybody runs them."""
LEASES = 4096
"""Most that one operator has at once."""
SLOTS = 64
"""Jobs that the operator takes at once."""
SILENT = 3600.0
"""Seconds that the operator may be stopped for, while jobs are handed in, and is still taken to be there."""
START_SECONDS = 60.0


@dataclass(frozen=True)
class Addresses:
    """Where the services are."""

    registry: str
    broker: str
    dispatcher: str


async def stopped() -> None:
    """Return once whoever started this process closed its input, or is gone."""
    await asyncio.to_thread(sys.stdin.read)


@asynccontextmanager
async def on_sqlite(database: str, limits: DispatcherSettings) -> AsyncGenerator[Addresses]:
    """Serve all from one file."""
    services = running_services(
        database,
        admin_token=ADMIN,
        clock=SystemClock(),
        dispatcher=limits,
        registry=RegistrySettings(lease=SILENT),
        broker=BrokerSettings(settle_seconds=0),
        grace=0,
    )
    async with services as running:
        yield Addresses(running.address, running.address, running.address)


@asynccontextmanager
async def on_postgresql(database: str, limits: DispatcherSettings) -> AsyncGenerator[Addresses]:
    """Serve the same from one PostgreSQL database, in this process, each service with connections of its own."""
    with tempfile.TemporaryDirectory(prefix="aos-") as name:
        folder = Path(name)
        at = Addresses(*(f"unix:{folder / one}" for one in ("registry", "broker", "dispatcher")))
        shared: Any = {"admin_token": ADMIN, "service_token": SERVICE, "database": database, "grace": 0, "notice": 0}
        known = RegistryProcess(listen=(at.registry,), dispatchers=at.dispatcher, limits=RegistrySettings(lease=SILENT), **shared)
        paid = BrokerProcess(listen=(at.broker,), dispatchers=at.dispatcher, **shared)
        jobs = DispatcherProcess(
            listen=(at.dispatcher,),
            registry=at.registry,
            broker=at.broker,
            blobs=folder / "blobs",
            modules=folder / "modules",
            limits=limits,
            **shared,
        )
        async with serving_registry(known), serving_broker(paid), serving_dispatcher(jobs):
            yield at


async def serve(database: str) -> None:
    """Serve from a file, or from a database at a URL, a project with money."""
    limits = DispatcherSettings(project_jobs=QUEUE, queue_jobs=QUEUE, operator_leases=LEASES, heartbeat_seconds=SILENT)
    serving = on_postgresql if "://" in database else on_sqlite
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        at = await enter(serving(database, limits))
        dispatcher, broker = Client(await enter(channel(at.dispatcher, ADMIN))), Client(await enter(channel(at.broker, ADMIN)))
        project = dispatcher_pb2.CreateProjectRequest(project_id="bench")
        made = await answered(dispatcher.dispatcher.CreateProject(project, wait_for_ready=True, timeout=START_SECONDS))
        deposit = broker_pb2.DepositRequest(account="accounts/bench", amount=str(10**30), request_id="bench")
        await answered(broker.broker.Deposit(deposit, wait_for_ready=True, timeout=START_SECONDS))
        print(json.dumps({"registry": at.registry, "dispatcher": at.dispatcher, "token": made.token}), flush=True)
        await stopped()


async def operate(registry: str, dispatcher: str) -> None:
    """Attach an operator."""
    async with (
        channel(registry) as to_registry,
        channel(dispatcher) as to_dispatcher,
        running_operator(
            OperatorKey.create(),
            {MODEL: ScriptedModel("x", slots=SLOTS, context=64)},
            registry=to_registry,
            dispatcher=to_dispatcher,
            price=Price(prompt_token="1", completion_token="1"),
            clock=SystemClock(),
            random=random.random,
            slots=SLOTS,
            grace=0,
        ) as node,
    ):
        await node.attached()
        print("attached", flush=True)
        await stopped()


if __name__ == "__main__":
    loop.serve(serve(*sys.argv[2:]) if sys.argv[1] == "services" else operate(*sys.argv[2:]))
