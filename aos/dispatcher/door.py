"""Who is refused before any work is done for them: this process does not keep up, or a queue is known to be full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from aos.clock import Clock
from aos.dispatcher.admission import ALL_JOBS, own_jobs
from aos.dispatcher.pace import Lateness, Pace
from aos.dispatcher.settings import DispatcherSettings
from aos.errors import QueueFull

KNOWN: Final = timedelta(seconds=1)
"""How long a queue is believed to be full without asking the store; a place that becomes free here ends it at once."""
LOOK_SECONDS: Final = 0.1
"""How often to look how late this process is."""
STORE: Final = "writes that wait for the store"
LOOP: Final = "work that waits for the dispatcher, in milliseconds"


class Refused(StrEnum):
    """Why somebody was refused."""

    PROJECT_QUEUE = "project_queue"
    QUEUE = "queue"
    STORE = "store"
    LOOP = "loop"


class Door:
    """Refuses early what would be refused late, or make all wait. What it believes is of this process alone."""

    def __init__(
        self, *, waiting: Callable[[], int], settings: DispatcherSettings, clock: Clock, counted: Callable[[Refused], None]
    ) -> None:
        """``waiting`` is how many transactions the store has not begun; ``counted`` is called with each refusal."""
        self._waiting, self._settings, self._clock, self._counted = waiting, settings, clock, counted
        self._pace, self._lateness = Pace(), Lateness()
        self._own_full: dict[str, tuple[datetime, int]] = {}
        self._all_full: dict[str, tuple[datetime, int]] = {}

    def check(self) -> None:
        """Raise QueueFull if more work would only make all of it wait longer."""
        late, most = self._lateness.standing, self._settings.late_seconds
        if late > most:
            self._counted(Refused.LOOP)
            raise QueueFull(LOOP, round(1000 * most), retry_after=max(1.0, late))
        if self._waiting() >= self._settings.store_queue:
            self._counted(Refused.STORE)
            raise QueueFull(STORE, self._settings.store_queue)

    def check_full(self, project: str) -> None:
        """Raise QueueFull if the store said a moment ago that there is no place for a new job of the project."""
        for known, queue in ((self._own_full, own_jobs(project)), (self._all_full, ALL_JOBS)):
            if project in known:
                until, limit = known[project]
                if self._clock.now() < until:
                    raise self._refusal(project, queue, limit)
                del known[project]

    def refuse(self, project: str, error: QueueFull) -> QueueFull:
        """Return what to raise for a refusal by the store: it says when to come again, by the pace at which jobs end."""
        queue, limit = error.facts["queue"], int(error.facts["limit"])
        known = self._all_full if queue == ALL_JOBS else self._own_full
        known[project] = (self._clock.now() + KNOWN, limit)
        return self._refusal(project, queue, limit)

    def _refusal(self, project: str, queue: str, limit: int) -> QueueFull:
        everywhere = queue == ALL_JOBS
        self._counted(Refused.QUEUE if everywhere else Refused.PROJECT_QUEUE)
        return QueueFull(queue, limit, retry_after=self._pace.wait("" if everywhere else project, self._clock.now()))

    def ended(self, project: str) -> None:
        """Note that a job of the project has ended, and left its place."""
        now = self._clock.now()
        self._pace.ended(project, now)
        self._pace.ended("", now)
        self._own_full.pop(project, None)
        self._all_full.clear()

    def forget(self, project: str) -> None:
        """Ask the store again: the project's limits were changed."""
        self._own_full.pop(project, None)

    async def look_forever(self) -> None:
        """Look again and again how late this process is."""
        loop = asyncio.get_running_loop()
        while True:
            # not by the clock, which tests move: this is about the process
            due = loop.time() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            self._lateness.add(loop.time() - due)
