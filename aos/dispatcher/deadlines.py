"""Jobs whose time is over end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

from aos.dispatcher import jobs
from aos.dispatcher.jobs import At, Job
from aos.dispatcher.log import EventLog

BATCH: Final = 256
"""Most jobs that are looked at together for their deadline."""
BATCHES: Final = 16
"""Most of these in a row: after that others have their turn, silent operators among them."""


async def expire(log: EventLog, now: datetime, node: str, why: Callable[[str], str]) -> None:
    """End the jobs that are out of time; ``why`` says what kept one, by its id, empty if that is not known."""

    async def end(job: Job) -> None:
        at, kept, limit = At(now, node), why(job.id), (job.deadline - job.created).total_seconds()
        await log.change(job.id, lambda view: jobs.expire(view, at, limit=limit, why=kept))

    for _ in range(BATCHES):
        due = await log.store.due(now, limit=BATCH)
        # together: they share a write
        await asyncio.gather(*map(end, due))
        if len(due) < BATCH:
            return
