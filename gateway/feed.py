"""A stream's items for one reader: as many at once as there are, and a sign of life while there are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Generic, TypeVar

from aos.clock import Clock

T = TypeVar("T")


async def batches(source: AsyncGenerator[T], *, quiet: float, clock: Clock) -> AsyncGenerator[list[T]]:
    """Yield the items of ``source`` in order, those that came while the reader was busy together.

    An empty list comes whenever there was nothing for ``quiet`` seconds. What the source raises is raised behind its items. The
    source is never held up, so it must be bounded by itself; it is closed when this is.
    """
    feed = _Feed[T](clock)
    tasks = [asyncio.create_task(feed.read(source)), asyncio.create_task(feed.watch(quiet))]
    try:
        while True:
            await feed.news.wait()
            feed.news.clear()
            items, feed.items = feed.items, []
            if items or feed.ping:
                feed.ping = False
                yield items
            if feed.ended and not feed.items:
                break
        await tasks[0]
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError, Exception):  # told above, or of no interest any more
                await task


class _Feed(Generic[T]):
    def __init__(self, clock: Clock) -> None:
        self.items: list[T] = []
        self.news = asyncio.Event()
        self.ping = self.ended = False
        self._clock, self._last = clock, clock.now()

    async def read(self, source: AsyncGenerator[T]) -> None:
        try:
            async with aclosing(source):
                async for item in source:
                    self.items.append(item)
                    self._last = self._clock.now()
                    self.news.set()
        finally:
            self.ended = True
            self.news.set()

    async def watch(self, quiet: float) -> None:
        while True:
            left = quiet - (self._clock.now() - self._last).total_seconds()
            if left > 0:
                await self._clock.sleep(left)
                continue
            self._last = self._clock.now()
            self.ping = True
            self.news.set()
