"""A stream's items for a reader that may be slow, and signs of life while there are none."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from aos.testing.clock import ManualClock
from gateway.feed import batches


class Source:
    """Items that the test hands over one by one."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[object] = asyncio.Queue()
        self.closed = asyncio.Event()

    async def items(self):
        try:
            while (item := await self.queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed.set()


class TestBatches:
    async def test_items_come_in_order_and_the_end_ends(self):
        """Nothing is lost or turned round, and the feed ends with its source."""
        source = Source()
        for item in (1, 2, 3, None):
            source.queue.put_nowait(item)
        async with asyncio.timeout(5):
            got = [batch async for batch in batches(source.items(), quiet=10, clock=ManualClock())]
        assert [item for batch in got for item in batch] == [1, 2, 3]

    async def test_a_slow_reader_gets_what_has_gathered(self):
        """Items that came while the reader was busy come together; the source was not held up."""
        source = Source()
        async with asyncio.timeout(5), aclosing(batches(source.items(), quiet=10, clock=ManualClock())) as feed:
            source.queue.put_nowait("first")
            assert await anext(feed) == ["first"]
            for item in ("second", "third", None):
                source.queue.put_nowait(item)
            await source.closed.wait()
            assert await anext(feed) == ["second", "third"]

    async def test_silence_is_broken_after_the_quiet_time(self):
        """An empty batch comes each time nothing came for so long, and not sooner."""
        source, clock = Source(), ManualClock()
        async with asyncio.timeout(5), aclosing(batches(source.items(), quiet=10, clock=clock)) as feed:
            waiting = asyncio.ensure_future(anext(feed))
            await clock.until_asleep()
            clock.advance(seconds=6)
            source.queue.put_nowait("late")
            assert await waiting == ["late"]

            waiting = asyncio.ensure_future(anext(feed))
            clock.advance(seconds=4)  # 10 s after the beginning, 4 s after the item
            await clock.until_asleep()
            assert not waiting.done()
            clock.advance(seconds=6)
            assert await waiting == []

            waiting = asyncio.ensure_future(anext(feed))
            await clock.until_asleep()
            clock.advance(seconds=10)
            assert await waiting == []

    async def test_a_failure_comes_behind_what_came_before(self):
        """The reader gets every item, then the error."""
        source = Source()
        source.queue.put_nowait("so far")
        source.queue.put_nowait(ValueError("broken"))
        async with asyncio.timeout(5), aclosing(batches(source.items(), quiet=10, clock=ManualClock())) as feed:
            assert await anext(feed) == ["so far"]
            with pytest.raises(ValueError, match="broken"):
                await anext(feed)

    async def test_leaving_closes_the_source(self):
        """A reader that goes leaves nothing running."""
        source = Source()
        source.queue.put_nowait("first")
        async with asyncio.timeout(5):
            async with aclosing(batches(source.items(), quiet=10, clock=ManualClock())) as feed:
                await anext(feed)
            await source.closed.wait()
