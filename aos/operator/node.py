"""The operator's parts put together: key, engines, registration, attachment, service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc

from aos.clock import Clock
from aos.metrics import CollectorRegistry
from aos.operator.attach import FAREWELL_SECONDS, Attachment
from aos.operator.controlling import running_controllers
from aos.operator.drawing import Drawer
from aos.operator.engine import WAITING
from aos.operator.hosting import Hosting
from aos.operator.metrics import OperatorMetrics
from aos.operator.model import Model
from aos.operator.offering import Offering
from aos.operator.pool import UNLIMITED, Pool
from aos.operator.pool_metrics import PoolMetrics
from aos.operator.registration import Registration
from aos.operator.rendering import Renderer
from aos.operator.runner import Runner
from aos.operator.servicer import OperatorServicer
from aos.operator.source import Facts, Source
from aos.operator.tee import Tee
from aos.operator.upstream import upstream_client
from aos.operator.upstream_metrics import UpstreamMetrics
from aos.operator.upstream_settings import UpstreamSettings
from aos.telemetry import Telemetry
from aos.v1.registry_pb2 import Offer
from aos.v1.types_pb2 import Price
from aos.verification.keys import OperatorKey
from aos.verification.vrf import VrfKey


@dataclass(frozen=True, slots=True)
class OperatorNode:
    """A running operator."""

    address: str
    """`0x` and 40 hex digits."""
    pool: Pool
    """Its models."""
    servicer: OperatorServicer
    """Its own service, to be served by whoever wants to be asked directly."""
    attachment: Attachment | None
    """None: it belongs to no network."""
    runner: Runner

    async def attached(self) -> None:
        """Return once the operator is registered and the dispatcher has welcomed it; put a timeout around it."""
        assert self.attachment is not None, "it was given no network"
        await self.attachment.attached()


@asynccontextmanager
async def running_operator(
    key: OperatorKey,
    models: Mapping[str, Model | Renderer | Source],
    *,
    registry: grpc.aio.Channel | None,
    dispatcher: grpc.aio.Channel | None,
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
    vrf: VrfKey | None = None,
    tee: Tee | None = None,
    upstreams: UpstreamSettings | None = None,
    unaddressed: bool = False,
    controllers: Path | None = None,
) -> AsyncGenerator[OperatorNode]:
    """Offer the models to the network until the block ends; then let leases run for ``grace`` seconds and give the rest back.

    It comes up whether or not the others are there, and attaches as soon as they are. ``random`` gives numbers in [0, 1), for the
    pauses between attempts; ``monotonic`` seconds, for its metrics, which it keeps in the registry ``metrics``, or in one of its
    own. ``slots`` is the most jobs that one model runs at once, at most and by default the model's own. Sources are opened when
    they are needed, as far as ``memory``, in bytes, allows; models stay the caller's to close. With ``vrf``, the operator can be
    drawn to check others' jobs; with ``tee``, it takes `tee` jobs, once the registry has taken its evidence. With ``upstreams``, it
    hosts the model servers that are registered behind it, and, if it is ``unaddressed``, those that were registered without a key,
    too. What its controllers compile to is kept in the folder ``controllers``; without one, until the block ends.

    Without ``registry`` and ``dispatcher`` it belongs to no network, and there is only its own service.

    Raises what Pool raises for a model that cannot be opened or never fits.
    """
    registry_of_metrics = metrics or CollectorRegistry()
    async with AsyncExitStack() as stack:
        loads = PoolMetrics(registry_of_metrics, models, operator=key.address)
        pool = Pool(models, budget=memory, slots=slots, waiting=waiting, clock=monotonic, watcher=loads)
        await stack.enter_async_context(pool)
        counts = OperatorMetrics(registry_of_metrics, operator=key.address, monotonic=monotonic)
        counts.watch(pool.facts, pool.engines, pool.waiting)
        runner = Runner(key, pool, price=price, clock=clock, measured=counts.measured, told=counts.told, telemetry=telemetry)
        probes = UpstreamMetrics(registry_of_metrics, operator=key.address, groups=lambda: list(runner.groups()))
        servicer = OperatorServicer(runner, counts.exposition)
        if registry is None or dispatcher is None:
            yield OperatorNode(key.address, pool, servicer, None, runner)
            return
        offers = [_offer(name, pool.facts[name], price) for name in models]
        steering = running_controllers(dispatcher, controllers, token=lambda: attachment.token)
        runner.steering = await stack.enter_async_context(steering)
        public = vrf.public if vrf is not None else b""
        registration = Registration(key, offers, registry, clock=clock, random=random, vrf_key=public, tee=tee)
        drawer = Drawer(key, vrf) if vrf is not None else None
        attachment = Attachment(
            runner, dispatcher, offers=offers, registration=registration, clock=clock, random=random, drawer=drawer, tee=tee
        )
        hosting: Hosting | None = None
        if upstreams is not None:
            client = await stack.enter_async_context(upstream_client())
            hosting = Hosting(
                key,
                registry,
                client,
                settings=upstreams,
                own=frozenset(models),
                price=price,
                clock=clock,
                random=random,
                unaddressed=unaddressed,
                probed=probes.probed,
            )
            await stack.enter_async_context(hosting)
            runner.hosted, runner.groups = hosting.group, hosting.groups
            counts.watch_hosted(hosting.groups)
            hosting.start(Offering(offers, registration, attachment).change)
        registering, attaching = asyncio.create_task(registration.run()), asyncio.create_task(attachment.run())
        try:
            yield OperatorNode(key.address, pool, servicer, attachment, runner)
        finally:
            if hosting is not None:
                await hosting.stop()
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
        images=facts.images,
        image_edits=facts.images,
        controllers=not facts.images,
    )
