"""A job as placement looks at it, and as an operator is given it. Pure."""

from __future__ import annotations

import hashlib
from typing import Final

from aos.dispatcher import jobs
from aos.dispatcher.checks import sent_tag
from aos.dispatcher.output import Output
from aos.dispatcher.placement import Wanted
from aos.dispatcher.store import Leased, Waiting
from aos.v1.dispatcher_pb2 import Draw, Lease
from aos.v1.types_pb2 import Order, VectorClock

LATE_SECONDS: Final = 10.0
"""How much longer than until its deadline an operator may take: this side ends the job, unless it cannot be heard."""


def wanted_of(waiting: Waiting) -> Wanted:
    """Return what placement needs to know of a job that waits."""
    job = waiting.job
    return Wanted(
        number=waiting.number,
        job_id=job.id,
        project=job.project,
        model=job.model,
        model_digest=job.model_digest,
        prompt_bound=job.prompt_bound,
        completion_bound=job.completion_bound,
        amount=job.amount,
        priority=job.priority,
        embeds=job.embeds,
        tee=job.job_type == jobs.TEE,
        controlled=job.controlled,
        provider=job.provider,
        exact=waiting.exact,
        begins=waiting.begins,
        created=job.created,
        waits=job.waits,
    )


def lease_of(leased: Leased, order: Order, *, left: float, draw: Draw | None) -> Lease:
    """Return the lease that an operator gets; the job has ``left`` seconds, and ``order`` has its files.

    A controlled job begins anew with each operator: what its controllers had in memory is nowhere else.
    """
    job = leased.change.job
    output = Output("", []) if job.controlled else leased.output
    return Lease(
        id=job.lease,
        job=bytes.fromhex(job.id),
        order=order,
        accepted_tokens=output.tokens,
        accepted_text_bytes=len(output.text.encode()),
        accepted_embeddings=output.embeddings,
        accepted_pictures=output.pictures,
        clock=VectorClock(counts=job.clock),
        tenant=hashlib.sha256(job.project.encode()).hexdigest(),
        priority=job.priority,
        traceparent=job.traceparent,
        seconds=max(0.0, left) + LATE_SECONDS,
        draw=draw,
        tag=sent_tag(leased.risk.tag),
        job_type=job.job_type if job.job_type != jobs.OPML else "",
    )
