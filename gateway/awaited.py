"""One job that somebody waits for: it ends when its caller goes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import Final

from aos.client import CALL_SECONDS, outcome_error, watch
from aos.clock import Clock
from aos.errors import ServiceUnavailable
from aos.rpc.status import answered
from aos.v1 import dispatcher_pb2_grpc
from aos.v1.dispatcher_pb2 import CancelJobRequest, CreateJobRequest, Job, Outcome
from aos.v1.types_pb2 import Order
from gateway.http import Metadata

CANCEL_SECONDS: Final = 5.0
"""How long to try to end the job of a caller who has gone; then it runs to its own end."""


async def finished(
    dispatcher: dispatcher_pb2_grpc.DispatcherAsyncStub, order: Order, *, user: str, metadata: Metadata, clock: Clock
) -> tuple[Job, Outcome]:
    """Return the order's job and its outcome. Raises why there is no answer; who leaves before ends the job."""
    request = CreateJobRequest(order=order, user=user)
    creating = asyncio.ensure_future(answered(dispatcher.CreateJob(request, metadata=metadata, timeout=CALL_SECONDS)))
    ended = False
    try:
        # shielded: a caller who goes while the job is made must leave no job behind
        job = await asyncio.shield(creating)
        async with aclosing(watch(dispatcher, job.name, clock=clock, metadata=metadata)) as events:
            async for event in events:
                if event.HasField("outcome"):
                    ended = True
                    failed = outcome_error(job.name, event.outcome)
                    if failed is not None:
                        raise failed
                    return job, event.outcome
        raise ServiceUnavailable("dispatcher")
    finally:
        if not ended:
            await asyncio.shield(_cancel(dispatcher, creating, metadata))


async def _cancel(dispatcher: dispatcher_pb2_grpc.DispatcherAsyncStub, creating: asyncio.Future[Job], metadata: Metadata) -> None:
    with suppress(Exception):  # it was not made, or cannot be reached: there is nobody to tell
        async with asyncio.timeout(CANCEL_SECONDS):
            job = await creating
            await dispatcher.CancelJob(CancelJobRequest(name=job.name), metadata=metadata)
