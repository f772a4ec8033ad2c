"""Which dispatcher is busy with a job that is not accepted yet: one may hold its money, or release it, not two at once. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from aos.dispatcher.jobs import Job, Money, Move, View
from aos.errors import ServiceUnavailable

RELEASE: Final = "/release"
"""Behind a dispatcher's name, which has no slash: it releases the job's hold, so that nobody may accept the job meanwhile."""


def take_over(job: Job, node: str) -> Job:
    """Return the job, taken in by the dispatcher from now on if it is not accepted.

    Raises ServiceUnavailable while another one releases its hold.
    """
    if job.money is not Money.PENDING or job.node == node:
        return job
    if job.node.endswith(RELEASE) and job.node != f"{node}{RELEASE}":
        raise ServiceUnavailable("broker")
    return replace(job, node=node)


def taken_in_by(job: Job) -> str:
    """Return the dispatcher that is busy with a job that is not accepted."""
    return job.node.removesuffix(RELEASE)


def release(view: View, *, node: str, held_by: str) -> Move | None:
    """Let the dispatcher release the job's hold, unless it was accepted, or taken over from ``held_by``, meanwhile."""
    if view.job.money is not Money.PENDING or view.job.node != held_by:
        return None
    return Move(replace(view.job, node=f"{node}{RELEASE}"))
