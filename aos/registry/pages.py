"""Pages of lists as they were read last, for as long as nothing has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from datetime import datetime
from typing import Final, Generic, TypeVar

PAGES: Final = 32
"""Most pages that are kept of one list."""

P = TypeVar("P")


class Pages(Generic[P]):
    """Pages of one list, by what was asked for. One event loop; whoever gets a page does not change it."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[P, datetime | None]] = {}
        self._state: Hashable = None
        self._reading = asyncio.Lock()

    async def get(
        self, asked: Hashable, state: Hashable, now: datetime, read: Callable[[], Awaitable[tuple[P, datetime | None]]]
    ) -> P:
        """Return a page as it is in this ``state`` and ``now``. ``read`` reads it, and says when time changes it; None: never."""
        async with self._reading:
            if state != self._state:
                self._kept, self._state = {}, state
            if asked in self._kept:
                page, until = self._kept[asked]
                if until is None or now < until:
                    return page
            page, until = await read()
            # what changed meanwhile may be in it or not: it is kept for the state before, which does not come back
            if len(self._kept) < PAGES or asked in self._kept:
                self._kept[asked] = page, until
            return page
