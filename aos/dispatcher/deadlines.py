"""Jobs whose time is over end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from aos.dispatcher import jobs
from aos.dispatcher.jobs import At
from aos.dispatcher.log import EventLog

BATCH: Final = 256
"""Most jobs that are looked at together for their deadline."""


async def expire(log: EventLog, now: datetime, node: str, why: Callable[[str], str]) -> None:
    """End the jobs that are out of time; ``why`` says what kept one, by its id, empty if that is not known."""
    for job in await log.store.due(now, limit=BATCH):
        at, kept, limit = At(now, node), why(job.id), (job.deadline - job.created).total_seconds()
        await log.change(job.id, lambda view, at=at, kept=kept, limit=limit: jobs.expire(view, at, limit=limit, why=kept))
