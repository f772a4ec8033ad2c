"""A submission becomes a job: model known, row kept, money held, accepted; in this order, so that a crash leaves nothing behind.

Where the money is in the jobs' database, the last three are one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final

from aos.clock import Clock
from aos.dispatcher import admission, jobs
from aos.dispatcher.admission import NONCE_BYTES, Record
from aos.dispatcher.catalogue import Catalogue
from aos.dispatcher.door import Door
from aos.dispatcher.files import Files
from aos.dispatcher.holds import HoldGone, Holds, lock_key, reservation
from aos.dispatcher.jobs import At, Job, Money
from aos.dispatcher.limits import ProjectLimits
from aos.dispatcher.nodes import Nodes
from aos.dispatcher.projects import Randomness
from aos.dispatcher.quotas import Requests
from aos.dispatcher.settings import DispatcherSettings
from aos.dispatcher.store import Asking, JobStore, Row
from aos.dispatcher.till import Till
from aos.dispatcher.tracing import JobSpans
from aos.errors import ControllerNotFound, QueueFull, ServiceUnavailable
from aos.order import digest_order
from aos.telemetry import Span
from aos.v1.dispatcher_pb2 import CreateJobRequest
from aos.v1.types_pb2 import Order

TRIES: Final = 2
"""How often a submission begins anew because its hold ended meanwhile."""


class Submissions:
    """Takes submissions in. One that has begun goes on when its caller is gone."""

    def __init__(
        self,
        store: JobStore,
        *,
        catalogue: Catalogue,
        nodes: Nodes,
        holds: Holds,
        limits: ProjectLimits,
        door: Door,
        files: Files,
        has_controller: Callable[[bytes], Awaitable[bool]],
        accepted: Callable[[Row], None],
        spans: JobSpans,
        settings: DispatcherSettings,
        clock: Clock,
        randomness: Randomness,
        till: Till | None = None,
    ) -> None:
        """``has_controller`` says whether the network keeps the module of a digest; ``accepted`` is called with each new job.

        ``till`` takes jobs in where their money is beside them.
        """
        self._till = till
        self._has_controller = has_controller
        self._nodes, self._store, self._catalogue, self._holds, self._accepted = nodes, store, catalogue, holds, accepted
        self._files, self._door = files, door
        self._spans, self._settings, self._clock, self._randomness = spans, settings, clock, randomness
        self._running = set[asyncio.Task[Row]]()
        self._requests, self._limits = Requests(), limits
        self._closed = False

    async def submit(self, request: CreateJobRequest, project: str, *, traceparent: str = "") -> Row:
        """Return the job, accepted: a new one, in the caller's trace, or the one that the same request made before."""
        self._door.check()
        limits = await self._limits.of(project)
        # each dispatcher lets its share through: callers are spread over all of them
        share = -(-limits.requests_per_minute // (1 + len(self._nodes.others)))
        self._requests.take(project, self._clock.now(), per_minute=share)
        if not request.request_id:  # with one it may be there already
            self._door.check_full(project)
        admission.check_request(request)
        time = admission.job_time(request, self._settings)
        if self._closed or self._nodes.replaced:
            raise ServiceUnavailable("dispatcher")
        # shielded: if the caller leaves now, it can retry and find either the job or nothing
        task = asyncio.create_task(self._submit(request, project, traceparent, time))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _submit(self, request: CreateJobRequest, project: str, traceparent: str, time: timedelta) -> Row:
        if request.order.HasField("picture"):
            taken = await self._files.take_in(request.order, project)
            request = CreateJobRequest.FromString(request.SerializeToString())
            request.order.CopyFrom(taken)
        for _ in range(TRIES):
            try:
                return await self._once(request, project, traceparent, time)
            except HoldGone:
                continue
        raise ServiceUnavailable("broker")

    async def _once(self, request: CreateJobRequest, project: str, traceparent: str, time: timedelta) -> Row:
        span: Span | None = None
        existing = await self._store.find(project, request.request_id)
        if existing is not None:
            admission.same(existing, admission.digest_contents(request, digest_order(request.order)))
            record = existing
        else:
            self._door.check_full(project)
            model = await self._catalogue.model(request.order.model)
            admission.check_model(request.order, model, request.job_type)
            await self._check_controller(request.order)
            admission.check_provider(request, model)
            record = admission.draft(
                request,
                model,
                project=project,
                now=self._clock.now(),
                nonce=self._randomness(NONCE_BYTES),
                time=time,
                node=self._settings.node,
            )
            span = self._spans.begin(record.job.id, record.submission.order, traceparent)
            if span.traceparent:
                record = replace(record, job=replace(record.job, traceparent=span.traceparent))
        asking = await self._asking(record)
        taken = await self._take(asking)
        if isinstance(taken, Row):
            return self._new(taken, span)
        async with self._holds.alone(lock_key(record)):
            job = taken if taken is not None and taken.money is not Money.PENDING else await self._admit(asking)
            if job.money is not Money.PENDING:
                return await self._store.get(job.id, project=project)
            return self._new(await self._holds.accept(job), span)

    def _new(self, row: Row, span: Span | None) -> Row:
        if span is not None:
            self._spans.keep(row.job, span)
        self._accepted(row)
        return row

    async def _asking(self, record: Record) -> Asking:
        limits = await self._limits.of(record.job.project)
        most, node = self._settings.queue_jobs, self._settings.node
        at = At(self._clock.now(), node)
        return Asking(
            record,
            lambda existing, load: admission.admit(record, existing, load, limits, queue_jobs=most, node=node),
            reservation(record.job),
            lambda view: jobs.accept(view, at),
        )

    async def _take(self, asking: Asking) -> Row | Job | None:
        """Return the new job, or the one that was there; None: only the broker itself holds money."""
        if self._till is None:
            return None
        try:
            return await self._till.take(asking)
        except QueueFull as error:
            raise self._door.refuse(asking.record.job.project, error) from error

    async def _check_controller(self, order: Order) -> None:
        if order.HasField("control") and not await self._has_controller(order.control.controller):
            raise ControllerNotFound(f"controllers/{order.control.controller.hex()}")

    async def _admit(self, asking: Asking) -> Job:
        record = asking.record
        try:
            kept = await self._store.admit(record.job.project, record.submission.request_id, asking.admit, now=record.job.created)
        except QueueFull as error:
            raise self._door.refuse(record.job.project, error) from error
        return kept.job

    async def close(self) -> None:
        """Take nothing more in, and let what has begun end; the registry and the broker answer within a limit, or fail."""
        self._closed = True
        await asyncio.gather(*self._running, return_exceptions=True)
