"""How long ended jobs are kept: by age and by number, removed in the background in small batches."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from aos.clock import Clock
from aos.dispatcher.settings import DispatcherSettings
from aos.dispatcher.store import JobStore, ProjectStore
from aos.errors import InvalidField

BATCH: Final = 5
"""Most jobs that one transaction removes: a job may have thousands of events, and others wait for the file meanwhile.

Five take a few milliseconds among a million, and as many go in a second as with larger batches (bench/stored.py).
"""
CALL_MOST: Final = 1000
"""Most jobs that one PurgeJobs removes."""
CALL_DEFAULT: Final = 100

log = logging.getLogger(__name__)


class Retention:
    """Removes ended jobs, settled ones only, oldest first. Their request_ids are free again then."""

    def __init__(self, store: JobStore, projects: ProjectStore, *, settings: DispatcherSettings, clock: Clock) -> None:
        self._store, self._projects, self._settings, self._clock = store, projects, settings, clock

    async def purge_forever(self) -> None:
        """Look again and again for jobs that have been kept long enough."""
        while True:
            await self._clock.sleep(self._settings.purge_seconds)
            try:
                await self.purge_old()
            except Exception:
                log.exception("could not remove old jobs, will try again")

    async def purge_old(self) -> int:
        """Remove what is older than the settings say, and of each project what is beyond the number that is kept."""
        settings = self._settings
        before = self._clock.now() - timedelta(seconds=settings.retention_seconds)
        old = await _all(lambda: self._store.purge(ended_before=before, project=None, limit=BATCH))
        own = await self._projects.kept_jobs()
        beyond = await _all(lambda: self._store.purge_beyond(settings.kept_jobs, own=own, limit=BATCH))
        if old or beyond:
            log.info("removed %d jobs by age and %d by number", old, beyond)
        return old + beyond

    async def purge(self, *, ended_before: datetime, project: str | None, most: int) -> tuple[int, bool]:
        """Remove at most ``most`` (0: ``CALL_DEFAULT``) jobs that ended before; return how many, and whether there may be more.

        Raises InvalidField.
        """
        if not 0 <= most <= CALL_MOST:
            raise InvalidField("max_jobs", f"must be from 0 to {CALL_MOST}", value=most, limit=CALL_MOST)
        left = most = most or CALL_DEFAULT
        while left:
            gone = await self._store.purge(ended_before=ended_before, project=project, limit=min(left, BATCH))
            left -= gone
            if not gone:
                return most - left, False
        return most, True


async def _all(batch: Callable[[], Awaitable[int]]) -> int:
    total = 0
    while removed := await batch():
        total += removed
    return total
