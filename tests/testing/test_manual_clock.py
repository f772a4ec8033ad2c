"""Time that passes when a test says so."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from aos.clock import SystemClock, within
from aos.testing.clock import ManualClock


class TestManualClock:
    async def test_wakes_those_due(self):
        """Advancing wakes everyone whose time has come, earliest first, and nobody else."""
        clock, woken = ManualClock(), []

        async def sleeper(seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append(seconds)

        tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (3, 1, 2, 10)]
        await clock.until_asleep(4)
        began = clock.now()
        clock.advance(seconds=3)
        await asyncio.wait(tasks[:3])

        assert woken == [1, 2, 3]
        assert clock.now() - began == timedelta(seconds=3)
        assert clock.sleepers == 1
        clock.advance(hours=1)
        await tasks[3]

    async def test_does_not_go_back(self):
        """Time does not go back."""
        with pytest.raises(ValueError, match="go back"):
            ManualClock().advance(seconds=-1)

    async def test_who_left_is_not_counted(self):
        """A sleeper that was cancelled no longer waits."""
        clock = ManualClock()
        task = asyncio.create_task(clock.sleep(1))
        await clock.until_asleep()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        assert clock.sleepers == 0
        clock.advance(seconds=1)


class TestWithin:
    async def test_in_time(self):
        """What is done in time gives its result, and no timer is left."""
        clock = ManualClock()

        assert await within(clock, 1, asyncio.sleep(0, "done")) == "done"
        assert clock.sleepers == 0

    async def test_too_late(self):
        """What is not done in time is cancelled."""
        clock, never = ManualClock(), asyncio.Event()
        work = asyncio.ensure_future(never.wait())
        waiting = asyncio.create_task(within(clock, 1, work))
        await clock.until_asleep()
        clock.advance(seconds=1)

        with pytest.raises(TimeoutError):
            await waiting
        assert work.cancelled()

    async def test_failure_is_its_own(self):
        """What fails in time raises what it raised."""

        async def fail() -> None:
            raise KeyError("x")

        with pytest.raises(KeyError):
            await within(SystemClock(), 10, fail())
