"""The dispatcher's parts put together, brought up from what the last run left, and ended in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aos.clock import Clock
from aos.dispatcher import jobs
from aos.dispatcher.affinity import beginnings
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
from aos.dispatcher.jobs import At, Job, State
from aos.dispatcher.limits import ProjectLimits
from aos.dispatcher.log import EventLog
from aos.dispatcher.metrics import DispatcherMetrics
from aos.dispatcher.projects import Randomness
from aos.dispatcher.relay import Relay
from aos.dispatcher.retention import Retention
from aos.dispatcher.reviews import Reviews
from aos.dispatcher.servicer import DispatcherServicer
from aos.dispatcher.sessions import Session
from aos.dispatcher.settings import DispatcherSettings
from aos.dispatcher.store import Row, Waiting
from aos.dispatcher.submissions import Submissions
from aos.dispatcher.tokens import OperatorAuthenticator, ProjectAuthenticator
from aos.dispatcher.tracing import JobSpans
from aos.metrics import CollectorRegistry
from aos.rpc.auth import Authenticator
from aos.storage.blobs import Blobs
from aos.storage.modules import ModuleFiles
from aos.store import sqlite_checks, sqlite_controllers, sqlite_jobs, sqlite_projects
from aos.store.sqlite import SqliteFile
from aos.telemetry import Telemetry
from aos.v1 import broker_pb2_grpc, registry_pb2_grpc
from aos.v1.dispatcher_pb2 import Outcome


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

    async def drain(self, seconds: float = 0.0) -> None:
        """Take no more jobs, give running ones so long to end, give the others back, and end every stream.

        To be called while the server still stands, so that its streams end by themselves. Idempotent.
        """
        await self._submissions.close()
        await self._reviews.close()
        await self._canaries.close()
        await self._relay.drain(seconds)
        self._log.close()


@asynccontextmanager
async def running_dispatcher(
    file: SqliteFile,
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
) -> AsyncGenerator[DispatcherNode]:
    """Give a dispatcher that keeps its jobs in the file, and finishes what an earlier one had accepted.

    The registry and the broker need not answer yet. ``randomness`` is secrets.token_bytes, or as hard to guess.
    What it counts is in the registry ``metrics``, or in one of its own. Jobs are traced with ``telemetry``. ``blobs`` keeps the
    pictures' files, ``modules`` the controllers'; the controllers in the folder ``shipped`` are brought in if they are not there.
    """
    for migrations in (sqlite_projects.MIGRATIONS, sqlite_jobs.MIGRATIONS, sqlite_controllers.MIGRATIONS):
        await file.transact(migrations.apply)
    store = sqlite_jobs.SqliteJobStore(file, node=settings.node, risk=settings.risk)
    checks = sqlite_checks.SqliteCheckStore(file, risk=settings.risk)
    project_store = sqlite_projects.SqliteProjectStore(file)
    counts, spans = DispatcherMetrics(metrics or CollectorRegistry()), JobSpans(telemetry or Telemetry())
    door = Door(waiting=file.waiting, settings=settings, clock=clock, counted=counts.refused)
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
        relay.forget(job, outcome.usage.prompt_tokens + outcome.usage.completion_tokens)
        holds.ended()

    log = EventLog(store, ended=ended)
    holds = Holds(log, broker, settings=settings, clock=clock)
    sessions: dict[str, Session] = {}
    files = Files(blobs, clock)
    board = Board(Intervals(failing=settings.canary_open_seconds, idle=settings.canary_idle_seconds), counts.opened)
    canaries = Canaries(sessions, board, settings=settings, clock=clock, randomness=randomness, counted=counts.canary)
    controllers = Controllers(sqlite_controllers.SqliteControllerStore(file), modules, settings=settings.controllers, clock=clock)
    reviews = Reviews(store, checks, sessions, files=files, settings=settings, clock=clock)
    catalogue = Catalogue(registry, clock=clock, seconds=settings.rpc_seconds)
    relay = Relay(
        log,
        files=files,
        sessions=sessions,
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
    )
    await limits.refresh()
    await _recover(log, At(clock.now(), settings.node))
    for waiting in await store.waiting():
        relay.add(waiting)
    retention = Retention(store, project_store, settings=settings, clock=clock)
    servicer = DispatcherServicer(
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
    )
    runs = ControllerRuns(submissions, log, controllers.resolve, node=settings.node, clock=clock)
    callbacks = CallbacksServicer(store, registry, rpc_seconds=settings.rpc_seconds)
    node = DispatcherNode(
        servicer,
        OperatorAuthenticator(sessions, otherwise=tokens),
        callbacks,
        BlobsServicer(blobs, clock),
        ControllersServicer(controllers, limits, runs=runs, clock=clock),
        asyncio.create_task(install(controllers, shipped, clock) if shipped is not None else asyncio.sleep(0)),
        submissions,
        relay,
        reviews,
        canaries,
        log,
    )
    tasks = [
        asyncio.create_task(loop)
        for loop in (
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
        )
    ]
    try:
        yield node
    finally:
        await node.drain()
        for task in (*tasks, node.installed):
            task.cancel()
        await asyncio.gather(*tasks, node.installed, return_exceptions=True)


async def _recover(log: EventLog, at: At) -> None:
    """Let the jobs wait again that were leased when the last run ended: their operators' streams ended with it."""
    leased = await log.store.leased()
    await asyncio.gather(*(log.change(job.id, partial(jobs.give_back, at=at, lease=job.lease)) for job in leased))
