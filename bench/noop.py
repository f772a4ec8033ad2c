"""A network whose model says one token and computes nothing, in two processes, as a peer to job queues.

    python -m bench.noop services DATABASE    prints where it serves and a project's token; stops when its input ends
    python -m bench.noop operator ADDRESS     prints a line once it is attached

Everything else is real: admission, holds, leases, receipts and their signatures, settlement.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from contextlib import AsyncExitStack

from aos.broker.settings import BrokerSettings
from aos.client import Client
from aos.clock import SystemClock
from aos.dispatcher.settings import DispatcherSettings
from aos.operator.node import running_operator
from aos.rpc.channel import channel
from aos.rpc.status import answered
from aos.serve import running_services
from aos.testing.scripted import ScriptedModel
from aos.v1 import broker_pb2, dispatcher_pb2
from aos.v1.types_pb2 import Price
from aos.verification.keys import OperatorKey

MODEL = "noop"
ADMIN = "bench"
QUEUE = 1_100_000
"""Most jobs that may wait: a bench fills the queue before anybody runs them."""
LEASES = 4096
"""Most that one operator has at once."""
SLOTS = 64
"""Jobs that the operator takes at once."""


async def stopped() -> None:
    """Return once whoever started this process closed its input, or is gone."""
    await asyncio.to_thread(sys.stdin.read)


async def serve(database: str) -> None:
    money = BrokerSettings(settle_seconds=0)
    limits = DispatcherSettings(project_jobs=QUEUE, queue_jobs=QUEUE, operator_leases=LEASES)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        services = await enter(
            running_services(database, admin_token=ADMIN, clock=SystemClock(), dispatcher=limits, broker=money, grace=0)
        )
        admin = Client(await enter(channel(services.address, ADMIN)))
        made = await answered(admin.dispatcher.CreateProject(dispatcher_pb2.CreateProjectRequest(project_id="bench")))
        deposit = broker_pb2.DepositRequest(account="accounts/bench", amount=str(10**30), request_id="bench")
        await answered(admin.broker.Deposit(deposit))
        print(json.dumps({"address": services.address, "token": made.token}), flush=True)
        await stopped()


async def operate(address: str) -> None:
    async with (
        channel(address) as outward,
        running_operator(
            OperatorKey.create(),
            {MODEL: ScriptedModel("x", slots=SLOTS, context=64)},
            registry=outward,
            dispatcher=outward,
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
    asyncio.run(serve(sys.argv[2]) if sys.argv[1] == "services" else operate(sys.argv[2]))
