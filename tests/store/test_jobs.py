"""What any JobStore does: each method one transaction, durable, and nothing of a move that was not made."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
import pytest_asyncio

from aos.dispatcher import jobs
from aos.dispatcher.jobs import At, Money, State
from aos.dispatcher.listing import JobFilter
from aos.dispatcher.log import READ, UNREAD, EventLog
from aos.errors import JobNotFound
from aos.store.jobs import SqlJobStore
from aos.store.opening import opened
from aos.v1.operator_pb2 import Chunk
from tests.dispatcher.jobs import NOW, PRICE, a_job, a_record

AT = At(NOW, "1")


@pytest_asyncio.fixture
async def store(database) -> SqlJobStore:
    await database.migrate("jobs")
    return SqlJobStore(database, node="1")


async def kept(store: SqlJobStore, number: int = 1, *, accepted: bool = True, **changes):
    record = a_record(number, **changes)
    await store.admit(record.job.project, record.submission.request_id, lambda _, __: record, now=record.job.created)
    if accepted:
        await store.change(record.job.id, lambda view: jobs.accept(view, AT))
    return record


def assign(view):
    return jobs.assign(view, AT, operator="0xa", price=PRICE)


class TestAdmit:
    async def test_gives_back_what_it_keeps(self, store):
        """A job comes back as it went in, amounts beyond 64 bits and all."""
        record = await kept(store, request_id="r", accepted=False)

        assert await store.find("projects/p", "r") == record

    async def test_shows_the_first(self, store):
        """The decision sees what the request_id made before, and keeps nothing if it answers with that."""
        first = await kept(store, request_id="r")

        found = await store.admit("projects/p", "r", lambda existing, _: existing or a_record(2), now=NOW)

        assert found.submission == first.submission
        assert found.job.money is Money.HELD

    async def test_counts_the_unended(self, store):
        """The decision is told how many jobs have not ended, the project's own and all."""
        await kept(store, 1)
        await kept(store, 2, project="projects/q")
        ended = await kept(store, 3)
        await store.change(ended.job.id, lambda view: jobs.cancel(view, AT))
        seen = []

        await store.admit("projects/p", "", lambda _, load: seen.append(load) or a_record(4), now=NOW)

        assert [(load.project, load.everywhere) for load in seen] == [(1, 2)]

    async def test_refusal_keeps_nothing(self, store):
        """A decision that raises leaves no trace."""

        def refuse(*_):
            raise JobNotFound("x")

        with pytest.raises(JobNotFound):
            await store.admit("projects/p", "r", refuse, now=NOW)
        assert await store.find("projects/p", "r") is None

    async def test_pending_is_not_there(self, store):
        """Until its money is held, a job is shown to nobody and waits for nobody."""
        record = await kept(store, accepted=False)

        for look in (store.get(record.job.id, project=None), store.standing(record.job.id, project=None)):
            with pytest.raises(JobNotFound):
                await look
        assert await store.page(JobFilter(), before=None, limit=9, size=10**9) == []
        assert await store.waiting() == []
        assert await store.due(NOW + timedelta(days=1), limit=9) == []
        assert [found.job.id for found in await store.pending(limit=9)] == [record.job.id]


class TestForget:
    async def test_pending_only(self, store):
        """A job whose money is not held is removed whole; an accepted one stays."""
        cut_off, accepted = await kept(store, 1, request_id="r", accepted=False), await kept(store, 2)

        await store.forget(cut_off.job.id)
        await store.forget(accepted.job.id)

        assert await store.find("projects/p", "r") is None
        assert (await store.get(accepted.job.id, project=None)).job.id == accepted.job.id


class TestChange:
    async def test_numbers_events_without_gaps(self, store):
        """Events get consecutive numbers, each read back as it was written."""
        record = await kept(store)
        told = [*(await store.change(record.job.id, assign)).events]
        lease = f"{record.job.id}/1"
        for number in range(3):
            chunk = Chunk(text=str(number), tokens=[number])
            told += (await store.change(record.job.id, lambda view, c=chunk: jobs.extend(view, AT, lease=lease, chunk=c))).events
        told += (await store.change(record.job.id, lambda view: jobs.cancel(view, AT))).events

        assert [event.sequence for event in told] == list(range(2, len(told) + 2))
        assert list((await store.behind(record.job.id, project=None, after=1, limit=100))[1]) == told
        assert (await store.output(record.job.id)).tokens == [0, 1, 2]
        assert (await store.get(record.job.id, project=None)).outcome == told[-1].outcome

    async def test_no_move_changes_nothing(self, store):
        """A decision for no move leaves all as it was."""
        record = await kept(store)
        before = await store.get(record.job.id, project=None)

        assert await store.change(record.job.id, lambda _: None) is None
        assert await store.get(record.job.id, project=None) == before

    async def test_raising_undoes_all(self, store):
        """A decision that raises undoes its transaction and no other that shares the commit."""
        first, second = await kept(store, 1), await kept(store, 2)

        def refuse(view):
            raise JobNotFound(view.job.name)

        outcomes = await asyncio.gather(
            store.change(first.job.id, refuse), store.change(second.job.id, assign), return_exceptions=True
        )

        assert isinstance(outcomes[0], JobNotFound)
        assert (await store.standing(first.job.id, project=None)).state is State.QUEUED
        assert (await store.standing(second.job.id, project=None)).state is State.ASSIGNED

    async def test_counts_over_all_jobs(self, store):
        """No two events of the dispatcher share a number."""
        records = [await kept(store, number) for number in range(3)]
        counts = [(await store.change(record.job.id, assign)).job.clock["1"] for record in records]

        assert counts == [4, 5, 6]

    async def test_unknown(self, store):
        """A job that is not there cannot be changed."""
        with pytest.raises(JobNotFound):
            await store.change("0" * 64, assign)

    async def test_lease_brings_what_the_operator_needs(self, store):
        """Leasing gives the order and the answer so far from the same transaction."""
        record = await kept(store)

        leased = await store.lease(record.job.id, assign)

        assert leased is not None
        assert leased.submission == record.submission
        assert (leased.output.text, leased.output.tokens) == ("", [])


class TestLists:
    async def test_waiting_oldest_first(self, store):
        """Waiting jobs come oldest first; leased and ended ones do not."""
        records = [await kept(store, number) for number in range(4)]
        await store.change(records[1].job.id, assign)
        await store.change(records[2].job.id, lambda view: jobs.cancel(view, AT))

        assert [waiting.job.id for waiting in await store.waiting()] == [records[0].job.id, records[3].job.id]
        assert [job.id for job in await store.leased()] == [records[1].job.id]

    async def test_due(self, store):
        """Jobs whose deadline has come are due until they end."""
        early = await kept(store, 1, deadline=NOW)
        await kept(store, 2, deadline=NOW + timedelta(seconds=1))
        ended = await kept(store, 3, deadline=NOW)
        await store.change(ended.job.id, lambda view: jobs.cancel(view, AT))

        assert [job.id for job in await store.due(NOW, limit=9)] == [early.job.id]

    async def test_settled_after_the_end_only(self, store):
        """A job that has not ended has its money held, whoever says otherwise; those beside it are marked."""
        running, ended = await kept(store), await kept(store, 2)
        await store.change(ended.job.id, lambda view: jobs.cancel(view, AT))
        await store.settled([running.job.id, "f" * 64, ended.job.id])

        assert [await store.money(one.job.id) for one in (running, ended)] == [Money.HELD, Money.SETTLED]

    async def test_unsettled(self, store):
        """Ended jobs are listed until their settlement is marked."""
        record = await kept(store)
        assert await store.unsettled(limit=9) == []
        await store.change(record.job.id, lambda view: jobs.cancel(view, AT))
        assert [row.job.id for row in await store.unsettled(limit=9)] == [record.job.id]
        await store.settled([record.job.id])

        assert await store.unsettled(limit=9) == []
        assert await store.money(record.job.id) is Money.SETTLED


class TestReopen:
    async def test_all_is_there(self, database_address):
        """What was acknowledged is there after the database is opened again, and counting goes on behind it."""
        async with opened(database_address) as database:
            await database.migrate("jobs")
            store = SqlJobStore(database, node="1")
            record = await kept(store)
            last = (await store.change(record.job.id, assign)).job.clock["1"]
            before = await store.get(record.job.id, project=None)
            events = (await store.behind(record.job.id, project=None, after=0, limit=9))[1]
        async with opened(database_address) as database:
            store = SqlJobStore(database, node="1")

            assert await store.get(record.job.id, project=None) == before
            assert (await store.behind(record.job.id, project=None, after=0, limit=9))[1] == events
            second = await kept(store, 2)
            assert (await store.standing(second.job.id, project=None)).clock["1"] > last

    async def test_counts_go_on_from_before_there_were_clocks(self, tmp_path):
        """A file in which only the dispatcher's own events were counted goes on from that count."""
        async with opened(tmp_path / "jobs.db") as database:
            await database.migrate("jobs")
            await database.transact(lambda tx: tx.execute("INSERT INTO node_counts VALUES ('1', 7)") and None)
            store = SqlJobStore(database, node="1")
            first, second = await kept(store), await kept(store, 2)

            assert [(await store.standing(one.job.id, project=None)).clock["1"] for one in (first, second)] == [8, 9]


class TestTwoOfOneName:
    async def test_neither_counts_twice(self, tmp_path):
        """A process that another has taken its name from, in the same file, goes on from where that one is."""
        async with opened(tmp_path / "jobs.db") as one, opened(tmp_path / "jobs.db") as other:
            await one.migrate("jobs")
            stores = SqlJobStore(one, node="1"), SqlJobStore(other, node="1")
            records = [await kept(stores[number % 2], number) for number in range(4)]

            counts = [(await stores[0].standing(record.job.id, project=None)).clock["1"] for record in records]
        assert counts == [1, 2, 3, 4]


class TestEventsBehind:
    async def test_of_its_project_only(self, store):
        """The events of a job are shown to its project, and to who may see all; to another it is none, nor is one not accepted."""
        record, pending = await kept(store), await kept(store, 2, accepted=False)

        for project in (record.job.project, None):
            state, events = await store.behind(record.job.id, project=project, after=0, limit=9)
            assert (state, len(events)) == (State.QUEUED, 1)
        for job_id, project in ((record.job.id, "projects/other"), (pending.job.id, None)):
            with pytest.raises(JobNotFound):
                await store.behind(job_id, project=project, after=0, limit=9)


class TestEventLog:
    async def test_reader_that_fell_behind(self, store):
        """A watcher that misses more than is kept in memory reads the rest from the store: each event once, in order."""
        log = EventLog(store, ended=lambda *_: None)
        record = await kept(store)
        watching = log.watch(record.job.id, 0)
        assert (await anext(watching)).sequence == 1
        reading = asyncio.ensure_future(anext(watching))
        await log.change(record.job.id, assign)
        assert (await reading).sequence == 2
        lease, many = f"{record.job.id}/1", UNREAD + READ + 10

        for number in range(many):
            chunk = Chunk(text="x", tokens=[number])
            await log.change(record.job.id, lambda view, c=chunk: jobs.extend(view, AT, lease=lease, chunk=c))
        await log.change(record.job.id, lambda view: jobs.cancel(view, AT))

        rest = [event async for event in watching]
        assert [event.sequence for event in rest] == list(range(3, len(rest) + 3))
        assert [token for event in rest for token in event.chunk.tokens] == list(range(many))
        assert log._watchers == {}

    async def test_news_out_of_order(self, store):
        """Two changes that are told in another order than they were kept in are still seen in theirs."""
        log = EventLog(store, ended=lambda *_: None)
        record = await kept(store)
        watching = log.watch(record.job.id, 1)
        reading = asyncio.ensure_future(anext(watching))
        await asyncio.wait_for(_listening(log), 5)
        assigned = await store.change(record.job.id, assign)
        ended = await store.change(record.job.id, lambda view: jobs.cancel(view, AT))

        log._tell(record.job.id, ended)
        log._tell(record.job.id, assigned)

        assert [(await reading).sequence, *[event.sequence async for event in watching]] == [2, 3]

    async def test_ends_are_told_once(self, store):
        """Whoever follows up on ended jobs hears of each once, and of no move after it."""
        ended = []
        log = EventLog(store, ended=lambda job, _: ended.append(job))
        record = await kept(store)
        for _ in range(2):
            await log.change(record.job.id, lambda view: jobs.cancel(view, AT))
        await store.settled([record.job.id])

        assert [job.state for job in ended] == [State.CANCELLED]


async def _listening(log: EventLog) -> None:
    while not log._watchers:
        await asyncio.sleep(0.001)


def test_jobs_are_values():
    """Two jobs with the same contents are equal, so a store can tell whether a move changed anything."""
    assert a_job() == replace(a_job(), clock={})
