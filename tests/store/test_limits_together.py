"""Projects' limits while several dispatchers take jobs in, in one PostgreSQL."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest
import pytest_asyncio

from aos.dispatcher import admission
from aos.dispatcher.admission import Load, Record
from aos.dispatcher.quotas import Limits, OwnLimits, limits_of
from aos.dispatcher.settings import DispatcherSettings
from aos.errors import QueueFull, QuotaExceeded
from aos.store.jobs import SqlJobStore
from tests.dispatcher.jobs import NOW, a_record
from tests.store.test_jobs_together import SOON, dispatchers

TOKENS = 110
"""Of each job."""
PLAIN = limits_of(OwnLimits(), DispatcherSettings())


@pytest_asyncio.fixture
async def two(postgres_url):
    async with dispatchers(postgres_url) as stores:
        yield stores


def decided(record: Record, limits: Limits, existing: Record | None, load: Load) -> Record:
    return admission.admit(record, existing, load, limits, queue_jobs=10_000, node="1")


async def taken(store: SqlJobStore, record: Record, limits: Limits) -> Record:
    return await store.admit(record.job.project, "", lambda existing, load: decided(record, limits, existing, load), now=NOW)


async def at_once(two: tuple[SqlJobStore, SqlJobStore], jobs: int, limits: Limits) -> list[int]:
    """Take in so many jobs at once, and return how many became jobs, and how many were refused for the limits."""
    records = [a_record(1000 + number) for number in range(jobs)]
    said = await asyncio.gather(*(taken(two[n % 2], one, limits) for n, one in enumerate(records)), return_exceptions=True)
    return [sum(isinstance(one, kind) for one in said) for kind in (Record, QueueFull | QuotaExceeded)]


class TestProject:
    @pytest.mark.parametrize("limits", [replace(PLAIN, unfinished_jobs=7), replace(PLAIN, tokens_per_day=7 * TOKENS)])
    async def test_a_limit_is_exact(self, two, limits):
        """However many jobs of a project come at once, at whichever dispatcher, it has as many as it may and not one more."""
        assert await at_once(two, 40, limits) == [7, 33]

    async def test_others_do_not_wait_for_it(self, two):
        """While a project's job is decided upon, another one's are taken in."""
        begun, go_on = threading.Event(), threading.Event()
        one = replace(PLAIN, unfinished_jobs=1)

        def slow(existing: Record | None, load: Load) -> Record:
            record = decided(a_record(1), one, existing, load)
            begun.set()
            assert go_on.wait(SOON)
            return record

        first = asyncio.create_task(two[0].admit("projects/p", "", slow, now=NOW))
        assert await asyncio.to_thread(begun.wait, SOON)
        async with asyncio.timeout(SOON):
            other = await taken(two[1], a_record(2, project="projects/q"), one)
        assert not first.done()
        go_on.set()

        assert (other.job.project, (await first).job.project) == ("projects/q", "projects/p")
