"""An operator as a process of its own: its key, its model, its connection, its service."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aos.clock import SystemClock
from aos.memory import default_memory
from aos.operator.llama import Gpu
from aos.operator.llama.trial import try_model
from aos.operator.node import running_operator
from aos.operator.pool import MEBIBYTE
from aos.operator.shelf import Lora, Shelf
from aos.operator.source import Source
from aos.rpc.channel import channel
from aos.rpc.server import serving
from aos.serve import operator_auth, operator_service
from aos.settings import NetworkSettings
from aos.telemetry import telemetry
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
    for one in settings.models:
        await asyncio.to_thread(try_model, one.path, one.name)
    async with (
        channel(connect) as network,
        telemetry("aos-operator", os.environ) as traces,
        running_operator(
            own,
            sources(settings),
            registry=network,
            dispatcher=network,
            price=settings.price,
            clock=SystemClock(),
            random=random.SystemRandom().random,
            slots=settings.slots,
            memory=settings.memory * MEBIBYTE or default_memory(),
            grace=settings.grace,
            telemetry=traces,
        ) as operator,
        serving(operator_service(operator.servicer), authenticate=operator_auth(token), addresses=(listen,), grace=0),
    ):
        yield Node(operator.address)


def sources(settings: NetworkSettings) -> dict[str, Source]:
    """Return the models that the settings name, adapters among them. Raises InvalidField for GPU settings that cannot be."""
    gpu = Gpu(settings.gpu_layers, settings.main_gpu, settings.split_mode, settings.tensor_split)
    shelf = Shelf(slots=settings.slots, context=settings.context, threads=settings.threads, gpu=gpu)
    paths = {one.name: one.path for one in settings.models}
    plain: dict[str, Source] = {name: shelf.source(name, path) for name, path in paths.items()}
    return plain | {one.name: shelf.source(one.name, paths[one.base], Lora(one.path, one.scale)) for one in settings.adapters}
