"""An operator as a process of its own: its key, its model, its connection, its service."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aos.clock import SystemClock
from aos.operator.llama import loaded
from aos.operator.node import running_operator
from aos.rpc.channel import channel
from aos.rpc.server import serving
from aos.serve import operator_auth, operator_service
from aos.settings import NetworkSettings
from aos.verification.keys import OperatorKey


@dataclass(frozen=True, slots=True)
class Node:
    """A running operator."""

    address: str
    """`0x` and 40 hex digits."""


@asynccontextmanager
async def running_node(settings: NetworkSettings, *, connect: str, listen: str, key: Path, token: str) -> AsyncGenerator[Node]:
    """Attach an operator to the network at ``connect`` and serve it at ``listen`` until the block ends."""
    own = await asyncio.to_thread(OperatorKey.load, key)
    async with (
        loaded(
            settings.model, name=settings.model_name, slots=settings.slots, context=settings.context, threads=settings.threads
        ) as model,
        channel(connect) as network,
        running_operator(
            own,
            {settings.model_name: model},
            registry=network,
            dispatcher=network,
            price=settings.price,
            clock=SystemClock(),
            random=random.SystemRandom().random,
            slots=settings.slots,
            grace=settings.grace,
        ) as operator,
        serving(operator_service(operator.servicer), authenticate=operator_auth(token), addresses=(listen,), grace=0),
    ):
        yield Node(operator.address)
