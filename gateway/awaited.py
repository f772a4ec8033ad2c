"""Jobs that somebody waits for: they end when their caller goes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import Final

from aos.client import CALL_SECONDS, outcome_error, watch
from aos.clock import Clock
from aos.errors import ServiceUnavailable
from aos.rpc.status import answered
from aos.v1 import dispatcher_pb2_grpc
from aos.v1.dispatcher_pb2 import CancelJobRequest, CreateJobRequest, Job, Outcome, ProviderPayment
from aos.v1.types_pb2 import Order
from gateway.http import Metadata

CANCEL_SECONDS: Final = 5.0
"""How long to try to end the job of a caller who has gone; then it runs to its own end."""


def created(
    dispatcher: dispatcher_pb2_grpc.DispatcherAsyncStub,
    order: Order,
    *,
    user: str,
    metadata: Metadata,
    payment: ProviderPayment | None = None,
) -> asyncio.Future[Job]:
    """Return the order's job, to be. Wait for it shielded, and ``cancel`` it if the caller goes: no job is left behind then."""
    request = CreateJobRequest(order=order, user=user, payment=payment)
    return asyncio.ensure_future(answered(dispatcher.CreateJob(request, metadata=metadata, timeout=CALL_SECONDS)))


async def finished(
    dispatcher: dispatcher_pb2_grpc.DispatcherAsyncStub, order: Order, *, user: str, metadata: Metadata, clock: Clock
) -> tuple[Job, Outcome]:
    """Return the order's job and its outcome. Raises why there is no answer; who leaves before ends the job."""
    creating = created(dispatcher, order, user=user, metadata=metadata)
    ended = False
    try:
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
            await asyncio.shield(cancel(dispatcher, creating, metadata))


async def cancel(dispatcher: dispatcher_pb2_grpc.DispatcherAsyncStub, creating: asyncio.Future[Job], metadata: Metadata) -> None:
    """End a job whose caller has gone, once it is made."""
    with suppress(Exception):  # it was not made, or cannot be reached: there is nobody to tell
        async with asyncio.timeout(CANCEL_SECONDS):
            job = await creating
            await dispatcher.CancelJob(CancelJobRequest(name=job.name), metadata=metadata)
