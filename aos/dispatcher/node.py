"""The dispatcher's parts put together, brought up from what the last run left, and ended in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aos.clock import Clock
from aos.dispatcher import news
from aos.dispatcher.affinity import beginnings
from aos.dispatcher.attached import Elsewhere
from aos.dispatcher.blobs import BlobsServicer
from aos.dispatcher.callbacks import CallbacksServicer
from aos.dispatcher.canaries import Canaries
from aos.dispatcher.catalogue import Catalogue
from aos.dispatcher.controller_runs import ControllerRuns
from aos.dispatcher.controllers import Controllers
from aos.dispatcher.controllers_servicer import ControllersServicer
from aos.dispatcher.controllers_shipped import install
from aos.dispatcher.door import Door
from aos.dispatcher.files import Files
from aos.dispatcher.health import Board, Intervals
from aos.dispatcher.holds import Holds
from aos.dispatcher.jobs import Job, State
from aos.dispatcher.limits import ProjectLimits
from aos.dispatcher.log import EventLog
from aos.dispatcher.metrics import DispatcherMetrics
from aos.dispatcher.neighbours import Neighbours
from aos.dispatcher.nodes import Nodes
from aos.dispatcher.projects import Randomness
from aos.dispatcher.relay import Relay
from aos.dispatcher.retention import Retention
from aos.dispatcher.reviews import Reviews
from aos.dispatcher.servicer import DispatcherServicer
from aos.dispatcher.sessions import Session
from aos.dispatcher.settings import DispatcherSettings
from aos.dispatcher.store import Row, Waiting
from aos.dispatcher.submissions import Submissions
from aos.dispatcher.till import Till
from aos.dispatcher.tokens import OperatorAuthenticator, ProjectAuthenticator
from aos.dispatcher.tracing import JobSpans
from aos.metrics import CollectorRegistry
from aos.rpc.auth import Authenticator
from aos.storage.blobs import Blobs
from aos.storage.modules import ModuleFiles
from aos.store.beside import Beside, job_store
from aos.store.checks import SqlCheckStore
from aos.store.controllers import SqlControllerStore
from aos.store.nodes import SqlNodeStore
from aos.store.projects import SqlProjectStore
from aos.store.sql import SqlDatabase
from aos.telemetry import Telemetry
from aos.v1 import broker_pb2_grpc, registry_pb2_grpc
from aos.v1.dispatcher_pb2 import Outcome

HOLDER_BYTES: Final = 8
"""Random bytes that tell one start under a name from another."""


@dataclass(frozen=True, slots=True)
class DispatcherNode:
    """A running dispatcher."""

    servicer: DispatcherServicer
    authenticate: Authenticator
    """Knows the projects' tokens, and those of the operators that are attached."""
    callbacks: CallbacksServicer
    blobs: BlobsServicer
    controllers: ControllersServicer
    installed: asyncio.Task[None]
    """Ends when the controllers that come with the package are there."""
    _submissions: Submissions
    _relay: Relay
    _reviews: Reviews
    _canaries: Canaries
    _log: EventLog
    nodes: Nodes
    """Which dispatchers use the database."""

    async def drain(self, seconds: float = 0.0) -> None:
        """Take no more jobs, give running ones so long to end, give the others back, and end every stream.

        To be called while the server still stands, so that its streams end by themselves. Idempotent.
        """
        await self._submissions.close()
        await self._reviews.close()
        await self._canaries.close()
        await self._relay.drain(seconds)
        self._log.close()
        await self.nodes.stop()


@asynccontextmanager
async def running_dispatcher(
    database: SqlDatabase,
    *,
    blobs: Blobs,
    modules: ModuleFiles,
    shipped: Path | None = None,
    settings: DispatcherSettings,
    registry: registry_pb2_grpc.RegistryAsyncStub,
    broker: broker_pb2_grpc.BrokerAsyncStub,
    clock: Clock,
    randomness: Randomness,
    metrics: CollectorRegistry | None = None,
    telemetry: Telemetry | None = None,
    beside: Beside | None = None,
) -> AsyncGenerator[DispatcherNode]:
    """Give a dispatcher that keeps its jobs in the database, and finishes what an earlier one had accepted.

    Others may use the database, each under its own name. Raises StartError for a name that another one has.

    The registry and the broker need not answer yet. ``randomness`` is secrets.token_bytes, or as hard to guess.
    What it counts is in the registry ``metrics``, or in one of its own. Jobs are traced with ``telemetry``. ``blobs`` keeps the
    pictures' files, ``modules`` the controllers'; the controllers in the folder ``shipped`` are brought in if they are not there.
    ``beside`` is the broker of this process that keeps its money in the same database, if there is one.
    """
    await database.migrate("projects", "jobs", "nodes", "controllers")
    node_store = SqlNodeStore(database)
    nodes = Nodes(node_store, holder=randomness(HOLDER_BYTES).hex(), settings=settings, clock=clock)
    await nodes.start()
    store, paid = job_store(database, beside, node=settings.node, risk=settings.risk, alone=lambda: nodes.alone)
    checks = SqlCheckStore(database, risk=settings.risk)
    project_store = SqlProjectStore(database, node=settings.node)
    elsewhere = Elsewhere(node_store, settings.node)
    counts, spans = DispatcherMetrics(metrics or CollectorRegistry()), JobSpans(telemetry or Telemetry())
    door = Door(waiting=database.waiting, settings=settings, clock=clock, counted=counts.refused)
    tokens, limits = ProjectAuthenticator(project_store), ProjectLimits(project_store, settings, door.forget)

    def accepted(row: Row) -> None:
        counts.entered(State.QUEUED)
        begins = beginnings(row.submission.order, project=row.job.project, model_digest=row.job.model_digest)
        relay.add(Waiting(row.number, row.job, row.risk.exact, begins))
        if row.risk.tag:  # earlier jobs may have to be run again
            reviews.look()

    def ended(job: Job, outcome: Outcome) -> None:
        counts.entered(job.state)
        spans.end(job, outcome)
        if reviews.possible(job):
            reviews.look()
        door.ended(job.project)
        relay.forget(job.id, outcome.usage.prompt_tokens + outcome.usage.completion_tokens)
        holds.ended(job, outcome)

    log = EventLog(store, ended=ended)
    holds = Holds(log, broker, nodes=nodes, settings=settings, clock=clock, beside=paid)
    sessions: dict[str, Session] = {}
    files = Files(blobs, clock)
    board = Board(Intervals(failing=settings.canary_open_seconds, idle=settings.canary_idle_seconds), counts.opened)
    canaries = Canaries(sessions, board, settings=settings, clock=clock, randomness=randomness, counted=counts.canary)
    known = SqlControllerStore(database)
    controllers = Controllers(known, modules, running=store.running, settings=settings.controllers, clock=clock)
    reviews = Reviews(store, checks, sessions, nodes=node_store, elsewhere=elsewhere, files=files, settings=settings, clock=clock)
    catalogue = Catalogue(registry, clock=clock, seconds=settings.rpc_seconds)
    relay = Relay(
        log,
        files=files,
        sessions=sessions,
        cut_off=lambda: nodes.cut_off,
        elsewhere=elsewhere,
        reviews=reviews,
        canaries=canaries,
        catalogue=catalogue,
        board=board,
        checks=checks,
        registry=registry,
        settings=settings,
        clock=clock,
        randomness=randomness,
        weight=limits.weight,
    )
    counts.watch(queued=lambda: relay.queued, attached=lambda: relay.attached, known=relay.health)
    submissions = Submissions(
        store,
        catalogue=catalogue,
        nodes=nodes,
        holds=holds,
        limits=limits,
        door=door,
        files=files,
        has_controller=controllers.known,
        accepted=accepted,
        spans=spans,
        settings=settings,
        clock=clock,
        randomness=randomness,
        till=None if paid is None else Till(paid),
    )
    neighbours = Neighbours(
        node_store,
        nodes=nodes,
        sessions=sessions,
        elsewhere=elsewhere,
        log=log,
        relay=relay,
        reviews=reviews,
        tokens=tokens,
        limits=limits,
        spans=spans,
        settings=settings,
        clock=clock,
    )
    retention = Retention(store, project_store, settings=settings, clock=clock)
    runs = ControllerRuns(submissions, log, controllers.resolve, node=settings.node, clock=clock)
    node = DispatcherNode(
        DispatcherServicer(
            log=log,
            projects=project_store,
            tokens=tokens,
            limits=limits,
            submissions=submissions,
            relay=relay,
            files=files,
            retention=retention,
            checks=checks,
            settings=settings,
            clock=clock,
            randomness=randomness,
        ),
        OperatorAuthenticator(sessions, elsewhere, otherwise=tokens),
        CallbacksServicer(store, registry, rpc_seconds=settings.rpc_seconds),
        BlobsServicer(blobs, clock),
        ControllersServicer(controllers, limits, runs=runs, clock=clock),
        asyncio.create_task(install(controllers, shipped, clock) if shipped is not None else asyncio.sleep(0)),
        submissions,
        relay,
        reviews,
        canaries,
        log,
        nodes,
    )
    async with database.listen(news.CHANNEL) as heard:
        # heard from now on, so that nothing falls between what is read and what is heard
        await limits.refresh()
        await neighbours.begin()
        loops = (
            catalogue.follow_forever(),
            relay.place_forever(),
            relay.sweep_forever(),
            holds.settle_forever(),
            holds.reconcile_forever(),
            reviews.run_forever(),
            canaries.run_forever(),
            retention.purge_forever(),
            files.sweep_forever(settings.purge_seconds),
            limits.refresh_forever(clock),
            door.look_forever(),
            nodes.beat_forever(),
            neighbours.hear_forever(heard),
            neighbours.fetch_forever(),
            neighbours.look_forever(),
        )
        async with _running(node, loops):
            yield node


@asynccontextmanager
async def _running(node: DispatcherNode, loops: Iterable[Coroutine[Any, Any, None]]) -> AsyncGenerator[None]:
    """Let these go on until the block is left and the node has ended its streams."""
    tasks = [node.installed, *map(asyncio.create_task, loops)]
    try:
        yield
    finally:
        await node.drain()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
