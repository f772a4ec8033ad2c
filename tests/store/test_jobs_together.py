"""Dispatchers that keep jobs in one PostgreSQL at the same time: each thing once, and nothing lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
import pytest_asyncio

from aos.dispatcher import jobs, news
from aos.dispatcher.jobs import At, State, View
from aos.dispatcher.store import More
from aos.errors import JobNotFound
from aos.store.jobs import SqlJobStore
from aos.store.opening import opened
from aos.v1.operator_pb2 import Chunk
from tests.dispatcher.jobs import NOW, PRICE, a_record
from tests.store.test_jobs import kept

SOON = 20


@asynccontextmanager
async def dispatchers(url: str, **how: Callable[[], bool]) -> AsyncGenerator[tuple[SqlJobStore, SqlJobStore]]:
    """Two, each with a pool of its own."""
    async with opened(url, connections=6) as one, opened(url, connections=6) as other:
        yield SqlJobStore(one, node="1", **how), SqlJobStore(other, node="2", **how)


@pytest_asyncio.fixture
async def two(postgres_url):
    async with dispatchers(postgres_url) as stores:
        yield stores


def assign(node: str):
    return lambda view: jobs.assign(view, At(NOW, node), operator=f"0x{node}", price=PRICE)


async def waits_for_lock(url: str) -> None:
    """Return once somebody waits for a lock of the database."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        async with asyncio.timeout(SOON):
            while (await (await connection.execute(sql)).fetchone())[0] == 0:
                await asyncio.sleep(0.01)


class Held:
    """A decision that is being made: the transaction stays open until it is let go."""

    def __init__(self, decide: Callable[[View], jobs.Move | None]) -> None:
        self._decide = decide
        self._begun, self._go_on = threading.Event(), threading.Event()

    def __call__(self, view: View) -> jobs.Move | None:
        self._begun.set()
        assert self._go_on.wait(SOON)
        return self._decide(view)

    async def begun(self) -> None:
        assert await asyncio.to_thread(self._begun.wait, SOON)

    def let_go(self) -> None:
        self._go_on.set()


class TestLeases:
    async def test_each_job_once(self, two):
        """All try to lease all jobs at once: each is leased by one, and the others are told that they did not get it."""
        records = [await kept(two[0], number) for number in range(20)]

        tries = [(record, index) for record in records for index in (0, 1, 0, 1)]
        leased = await asyncio.gather(*(two[index].lease(record.job.id, assign(f"{index + 1}")) for record, index in tries))

        assert sorted(one.change.job.id for one in leased if one) == sorted(record.job.id for record in records)
        for record in records:
            events = (await two[0].behind(record.job.id, project=None, after=0, limit=9))[1]
            assert [event.sequence for event in events] == [1, 2]

    async def test_one_that_another_is_about_to_have(self, two):
        """Nobody waits for a job that another dispatcher has its hands on: there are others."""
        record = await kept(two[0])
        held = Held(assign("1"))
        first = asyncio.create_task(two[0].lease(record.job.id, held))
        await held.begun()

        async with asyncio.timeout(SOON):
            assert await two[1].lease(record.job.id, assign("2")) is None
        held.let_go()

        leased = await first
        assert leased is not None
        assert leased.change.job.operator == "0x1"

    async def test_one_that_is_gone(self, two):
        """A job that is not there is not one that another has."""
        with pytest.raises(JobNotFound):
            await two[1].lease("0" * 64, assign("2"))


class TestChanges:
    async def test_one_at_a_time(self, two, postgres_url):
        """A decision about a job waits for the one before it, and is made once, about what came of that."""
        record = await kept(two[0])
        held, seen = Held(assign("1")), list[State]()
        first = asyncio.create_task(two[0].change(record.job.id, held))
        await held.begun()

        def cancel(view: View) -> jobs.Move | None:
            seen.append(view.job.state)
            return jobs.cancel(view, At(NOW, "2"))

        second = asyncio.create_task(two[1].change(record.job.id, cancel))
        await waits_for_lock(postgres_url)
        held.let_go()
        await asyncio.gather(first, second)

        assert seen == [State.ASSIGNED]
        events = (await two[0].behind(record.job.id, project=None, after=0, limit=9))[1]
        assert [event.WhichOneof("event") for event in events] == ["state", "state", "outcome"]

    async def test_no_event_is_lost(self, two):
        """Output that is added from several connections, while other moves are made, comes out whole and without a gap."""
        records = [await kept(two[0], number) for number in range(4)]
        for record in records:
            await two[0].change(record.job.id, assign("1"))
            chunk = Chunk(text="0", tokens=[0])
            lease = f"{record.job.id}/1"
            await two[0].change(record.job.id, lambda view, c=chunk, x=lease: jobs.extend(view, At(NOW, "1"), lease=x, chunk=c))

        async def add(index: int, number: int) -> list[int]:
            more = [More(record.job.id, f"{record.job.id}/1", Chunk(text="x", tokens=[number])) for record in records] * 2
            foreign = More(records[0].job.id, "another", Chunk(text="y", tokens=[0]))
            events = await two[index].extend([more[0], foreign, *more[1:]])
            assert events[1] is None
            return [event.sequence for event in events if event is not None]

        told = await asyncio.gather(*(add(number % 2, number) for number in range(1, 16)))

        assert [len(one) for one in told] == [8] * 15
        for record in records:
            events = (await two[1].behind(record.job.id, project=None, after=0, limit=99))[1]
            assert [event.sequence for event in events] == list(range(1, 3 + 2 + 30))
            tokens = [token for event in events for token in event.chunk.tokens]
            assert sorted(tokens) == sorted([0, *(number for number in range(1, 16) for _ in range(2))])

    async def test_no_count_comes_twice(self, two):
        """No two events of a dispatcher share a number, whatever runs beside what, and a job's later events count higher."""
        records = await asyncio.gather(*(kept(two[0], number) for number in range(30)))
        before = [(await two[1].standing(record.job.id, project=None)).clock["1"] for record in records]
        changes = await asyncio.gather(*(two[0].change(record.job.id, assign("1")) for record in records))
        after = [change.job.clock["1"] for change in changes if change]

        assert len({*before, *after}) == 60
        assert all(one < two for one, two in zip(before, after, strict=True))

    async def test_what_was_heard_is_known_afterwards(self, two, postgres_url):
        """A dispatcher that comes back knows all that it had heard, on whichever connections."""
        records = [await kept(two[0], number) for number in range(12)]

        def hears(number: int):
            at = At(NOW, "1", {f"operator{number}": number + 1})
            return lambda view: jobs.assign(view, at, operator="0x1", price=PRICE)

        await asyncio.gather(*(two[0].change(one.job.id, hears(number)) for number, one in enumerate(records)))
        async with dispatchers(postgres_url) as (again, _):
            clock = (await again.change((await kept(again, 99)).job.id, assign("1"))).job.clock

        assert {node: count for node, count in clock.items() if node != "1"} == {f"operator{n}": n + 1 for n in range(12)}
        assert clock["1"] > 24


class TestAdmission:
    async def test_one_request_makes_one_job(self, two):
        """Two that come with one request_id at once, at different dispatchers, get one job."""
        for number in range(10):
            offered = [a_record(2 * number + index, request_id=f"r{number}") for index in range(2)]
            found = await asyncio.gather(
                *(
                    two[index].admit("projects/p", f"r{number}", lambda existing, _, one=one: existing or one, now=NOW)
                    for index, one in enumerate(offered)
                )
            )
            assert found[0] == found[1]
            assert found[0] in offered

    async def test_the_load_adds_up(self, two):
        """However jobs come and end beside each other, their number is right in the end."""
        records = await asyncio.gather(*(kept(two[number % 2], number) for number in range(24)))
        await asyncio.gather(
            *(
                two[number % 2].change(record.job.id, lambda view: jobs.cancel(view, At(NOW, "1")))
                for number, record in enumerate(records[:15])
            )
        )
        seen = []
        await two[1].admit("projects/p", "", lambda _, load: seen.append(load) or a_record(99), now=NOW)

        assert [(load.project, load.everywhere) for load in seen] == [(9, 9)]

    async def test_the_kept_add_up(self, two, postgres_url):
        """However jobs are settled and purged beside each other, it is known how many of a project are there."""
        records = await asyncio.gather(*(kept(two[number % 2], number) for number in range(24)))

        async def end(number: int, job_id: str) -> None:
            await two[number % 2].change(job_id, lambda view: jobs.cancel(view, At(NOW, "1")))
            await asyncio.gather(*(store.settled([job_id]) for store in two))

        await asyncio.gather(*(end(number, record.job.id) for number, record in enumerate(records)))
        purged = [
            *await asyncio.gather(*(store.purge(ended_before=NOW + timedelta(days=1), project=None, limit=3) for store in two * 2)),
            *await asyncio.gather(*(store.purge_beyond(6, own={}, limit=2) for store in two * 4)),
        ]
        async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
            counted = await (await connection.execute("SELECT sum(jobs) FROM project_kept")).fetchone()
            there = await (await connection.execute("SELECT count(*) FROM jobs")).fetchone()

        assert there == (24 - sum(purged),)
        assert counted == there

    async def test_taken_over(self, two):
        """A decision may return the job that is there with something else about it: that is kept."""
        record = await kept(two[0], request_id="r", accepted=False)

        def take(existing, _):
            return replace(existing, job=replace(existing.job, node="2"))

        await two[1].admit("projects/p", "r", take, now=NOW)
        found = await two[0].find("projects/p", "r")
        assert found is not None
        assert (found.job.id, found.job.node) == (record.job.id, "2")


class TestNews:
    async def test_who_is_not_alone_says_what_moves(self, postgres_url):
        """Others hear of each move, and of each batch of output; while a dispatcher is alone it says nothing."""
        alone = [True]
        async with dispatchers(postgres_url, alone=lambda: alone[0]) as (one, other), other._database.listen(news.CHANNEL) as heard:
            record = await kept(one)
            alone[0] = False
            await one.change(record.job.id, assign("1"))
            lease, chunk = f"{record.job.id}/1", Chunk(text="0", tokens=[0])
            await one.change(record.job.id, lambda view: jobs.extend(view, At(NOW, "1"), lease=lease, chunk=chunk))
            await one.extend([More(record.job.id, lease, chunk)])
            async with asyncio.timeout(SOON):
                said = [news.read(await anext(heard)) for _ in range(3)]

        assert said == [
            news.Moved("1", record.job.id, State.ASSIGNED, 2),
            news.Moved("1", record.job.id, State.RUNNING, 4),
            news.Grew("1", (record.job.id,)),
        ]
