"""A clock that stands still until a test turns it."""

from __future__ import annotations

import asyncio
import heapq
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final

START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    """Time that passes only in ``advance``. Satisfies aos.clock.Clock; one event loop uses it."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._order = count()
        self._news = asyncio.Event()

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Return once ``advance`` has moved the time that far."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # the number keeps those who wake at the same time in the order in which they lay down
        heapq.heappush(self._sleepers, (self._now + timedelta(seconds=seconds), next(self._order), wake))
        self._news.set()
        await wake

    def advance(self, *, seconds: float = 0, minutes: float = 0, hours: float = 0) -> None:
        """Move the time and wake everyone due, earliest first. They run when the caller next awaits.

        Raises ValueError for going back.
        """
        step = timedelta(seconds=seconds, minutes=minutes, hours=hours)
        if step < timedelta(0):
            raise ValueError("time does not go back")
        self._now += step
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, wake = heapq.heappop(self._sleepers)
            if not wake.done():
                wake.set_result(None)

    @property
    def sleepers(self) -> int:
        """How many wait for time to pass."""
        return sum(not wake.done() for _, _, wake in self._sleepers)

    async def until_asleep(self, sleepers: int = 1) -> None:
        """Return once at least so many wait; put a timeout around it."""
        while self.sleepers < sleepers:
            self._news.clear()
            await self._news.wait()
