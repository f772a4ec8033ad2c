"""`Controllers.RunController`: a controller by its name becomes an order, the order a job, and the caller watches it to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from aos.clock import Clock
from aos.dispatcher import jobs, replies
from aos.dispatcher.jobs import At
from aos.dispatcher.log import EventLog
from aos.dispatcher.submissions import Submissions
from aos.rpc.auth import own_project
from aos.rpc.channel import traceparent
from aos.v1.controllers_pb2 import RunControllerRequest, RunControllerResponse
from aos.v1.dispatcher_pb2 import CreateJobRequest
from aos.v1.types_pb2 import Control, Order

Resolve = Callable[[str], Awaitable[bytes]]
"""Gives the digest of the controller that a name stands for. Raises ControllerNotFound or InvalidField."""


class ControllerRuns:
    """Runs controllers for callers who wait. The job of one who leaves is cancelled."""

    def __init__(self, submissions: Submissions, log: EventLog, resolve: Resolve, *, node: str, clock: Clock) -> None:
        """``node`` is whose events are counted: the dispatcher's settings have it."""
        self._submissions, self._log, self._resolve, self._node, self._clock = submissions, log, resolve, node, clock
        self._cancelling = set[asyncio.Task[None]]()

    async def RunController(self, request: RunControllerRequest, context: Any) -> AsyncGenerator[RunControllerResponse]:
        """Stream the job that was made, then its events."""
        project = own_project()
        control = Control(controller=await self._resolve(request.controller), argument=request.argument)
        order = Order(model=request.model, prompt=request.prompt, sampling=request.sampling, control=control)
        asked = CreateJobRequest(request_id=request.request_id, order=order, user=request.user)
        row = await self._submissions.submit(asked, project, traceparent=traceparent(context))
        ended = False
        try:
            yield RunControllerResponse(job=replies.job_proto(row))
            async with aclosing(self._log.watch(row.job.id, 0)) as events:
                async for event in events:
                    ended = event.HasField("outcome")
                    yield RunControllerResponse(job_event=event)
        finally:
            if not ended:
                # on its own: whoever ends this call does not wait for it
                task = asyncio.create_task(self._cancel(row.job.id))
                self._cancelling.add(task)
                task.add_done_callback(self._cancelling.discard)

    async def _cancel(self, job_id: str) -> None:
        at = At(self._clock.now(), self._node)
        await self._log.change(job_id, lambda view: jobs.cancel(view, at))
