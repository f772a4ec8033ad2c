"""A job that waits, as placement looks at it. Pure."""

from __future__ import annotations

from aos.dispatcher.jobs import TEE
from aos.dispatcher.placement import Wanted
from aos.dispatcher.store import Waiting


def wanted_of(waiting: Waiting) -> Wanted:
    """Return what placement needs to know of the job."""
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
        tee=job.job_type == TEE,
        exact=waiting.exact,
        begins=waiting.begins,
        created=job.created,
        waits=job.waits,
    )
