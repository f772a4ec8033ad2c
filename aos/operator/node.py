"""The operator's parts put together: key, engines, registration, attachment, service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import grpc

from aos.clock import Clock
from aos.metrics import CollectorRegistry
from aos.operator.attach import FAREWELL_SECONDS, Attachment
from aos.operator.engine import WAITING
from aos.operator.metrics import OperatorMetrics
from aos.operator.model import Model
from aos.operator.pool import UNLIMITED, Pool
from aos.operator.pool_metrics import PoolMetrics
from aos.operator.registration import Registration
from aos.operator.runner import Runner
from aos.operator.servicer import OperatorServicer
from aos.operator.source import Facts, Source
from aos.telemetry import Telemetry
from aos.v1.registry_pb2 import Offer
from aos.v1.types_pb2 import Price
from aos.verification.keys import OperatorKey


@dataclass(frozen=True, slots=True)
class OperatorNode:
    """A running operator."""

    address: str
    """`0x` and 40 hex digits."""
    pool: Pool
    """Its models."""
    servicer: OperatorServicer
    """Its own service, to be served by whoever wants to be asked directly."""
    attachment: Attachment

    async def attached(self) -> None:
        """Return once the operator is registered and the dispatcher has welcomed it; put a timeout around it."""
        await self.attachment.attached()


@asynccontextmanager
async def running_operator(
    key: OperatorKey,
    models: Mapping[str, Model | Source],
    *,
    registry: grpc.aio.Channel,
    dispatcher: grpc.aio.Channel,
    price: Price,
    clock: Clock,
    random: Callable[[], float],
    monotonic: Callable[[], float] = time.monotonic,
    metrics: CollectorRegistry | None = None,
    telemetry: Telemetry | None = None,
    slots: int | None = None,
    waiting: int = WAITING,
    memory: int = UNLIMITED,
    grace: float = 10.0,
) -> AsyncGenerator[OperatorNode]:
    """Offer the models to the network until the block ends; then let leases run for ``grace`` seconds and give the rest back.

    It comes up whether or not the others are there, and attaches as soon as they are. ``random`` gives numbers in [0, 1), for the
    pauses between attempts; ``monotonic`` seconds, for its metrics, which it keeps in the registry ``metrics``, or in one of its
    own. ``slots`` is the most jobs that one model runs at once, at most and by default the model's own. Sources are opened when
    they are needed, as far as ``memory``, in bytes, allows; models stay the caller's to close.

    Raises what Pool raises for a model that cannot be opened or never fits.
    """
    registry_of_metrics = metrics or CollectorRegistry()
    async with AsyncExitStack() as stack:
        loads = PoolMetrics(registry_of_metrics, models, operator=key.address)
        pool = Pool(models, budget=memory, slots=slots, waiting=waiting, clock=monotonic, watcher=loads)
        await stack.enter_async_context(pool)
        counts = OperatorMetrics(registry_of_metrics, operator=key.address, monotonic=monotonic)
        counts.watch(pool.facts, pool.engines, pool.waiting)
        runner = Runner(key, pool, price=price, clock=clock, measured=counts.measured, telemetry=telemetry)
        offers = [_offer(name, pool.facts[name], price) for name in models]
        registration = Registration(key, offers, registry, clock=clock, random=random)
        attachment = Attachment(runner, dispatcher, offers=offers, registration=registration, clock=clock, random=random)
        registering, attaching = asyncio.create_task(registration.run()), asyncio.create_task(attachment.run())
        try:
            yield OperatorNode(key.address, pool, OperatorServicer(runner, counts.exposition), attachment)
        finally:
            await _cancelled(registering)
            await asyncio.gather(registration.stop(), attachment.stop(grace))
            # the dispatcher has what there was to say; it closes the stream, or is not there any more
            if attachment.ending:
                await asyncio.wait([attaching], timeout=FAREWELL_SECONDS)
            await _cancelled(attaching)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _offer(name: str, facts: Facts, price: Price) -> Offer:
    return Offer(
        model=name,
        digest=facts.digest,
        context_length=facts.context,
        chat=facts.chat,
        price=price,
        slots=facts.slots,
        exact=facts.exact,
        embeddings=facts.embeddings,
    )
