"""More jobs than anyone runs, and operators that promise more than they do."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from aos.dispatcher import jobs
from aos.dispatcher.jobs import At
from aos.dispatcher.queue import LOOK
from aos.store.jobs import SqlJobStore
from aos.store.jobs_tables import MIGRATIONS
from aos.store.sqlite import sqlite_file
from aos.v1 import dispatcher_pb2 as pb
from tests.dispatcher.conftest import a_request, running
from tests.dispatcher.hand import an_offer
from tests.dispatcher.jobs import NOW, a_record
from tests.refusals import refused

QUEUE = 10_000
BEFORE = 9_990
"""Jobs that wait when the dispatcher starts."""


async def fill(path: Path, count: int) -> None:
    """Write so many accepted jobs into the file, as an earlier run leaves them."""
    at = At(NOW, "1")

    async def one(store: SqlJobStore, number: int) -> None:
        record = a_record(number, deadline=NOW + timedelta(days=1000))
        await store.admit(record.job.project, "", lambda _, __: record, now=NOW)
        await store.change(record.job.id, lambda view: jobs.accept(view, at))

    async with sqlite_file(path, MIGRATIONS) as file:
        store = SqlJobStore(file, node="1")
        for start in range(0, count, 500):
            await asyncio.gather(*(one(store, number) for number in range(start, min(start + 500, count))))


class TestTenThousand:
    async def test_they_wait_and_the_next_is_refused(self, tmp_path):
        """The last place is taken at once, one more is refused by the queue's name, and the oldest is the first to run."""
        await fill(tmp_path / "jobs.db", BEFORE)
        async with running(tmp_path, project_jobs=QUEUE, queue_jobs=QUEUE) as aos:
            operator = await aos.operator(an_offer(slots=1), attach=False)
            made = await asyncio.gather(*(aos.submit(f"job {number}", max_tokens=1) for number in range(QUEUE - BEFORE)))
            with refused("QUEUE_FULL", code="RESOURCE_EXHAUSTED", queue="unfinished jobs of projects/p", limit=str(QUEUE)):
                await aos.submit()
            told = [await aos.project.ExplainJob(pb.ExplainJobRequest(name=job.name)) for job in made]
            assert sorted(one.ahead for one in told) == list(range(BEFORE, QUEUE))
            assert {one.waiting for one in told} == {QUEUE}

            await operator.attach(aos.nobody)
            assert (await operator.lease()).job.hex() == a_record(0).job.id
            await aos.project.CancelJob(pb.CancelJobRequest(name=made[0].name))
            assert (await aos.submit()).state == pb.JOB_STATE_QUEUED


class TestLies:
    async def test_places_without_end(self, tmp_path):
        """An operator that says it takes more at once than there are jobs gets a bounded number; the others' jobs go on."""
        async with running(tmp_path, operator_leases=4) as aos:
            liar = await aos.operator(an_offer(slots=4096))
            made = [await aos.submit() for _ in range(6)]
            leased = [await liar.lease() for _ in range(4)]
            honest = await aos.operator(an_offer(slots=2))
            rest = [await honest.lease() for _ in range(2)]

            assert {lease.job.hex() for lease in (*leased, *rest)} == {job.name.removeprefix("jobs/") for job in made}

    async def test_one_that_takes_all_and_does_nothing(self, tmp_path):
        """Its silence costs it every lease at once, and the jobs are done by another."""
        async with running(tmp_path, operator_leases=LOOK) as aos:
            liar = await aos.operator(an_offer(slots=64))
            made = [await aos.submit() for _ in range(8)]
            for _ in made:
                await liar.lease()
            honest = await aos.operator(an_offer(slots=8))
            async with asyncio.timeout(20):
                aos.clock.advance(seconds=14)
                honest.heartbeat()
                await aos.eventually(lambda: aos.job(made[0]), lambda job: job.operator == honest.address, step=0.5)
            for _ in made:
                lease = await honest.lease()
                honest.start(lease)
                honest.say(lease, "Yes", [1])
                honest.finish(lease, "Yes", [1])

            assert {(await aos.ends(job)).state for job in made} == {pb.JOB_STATE_COMPLETED}

    async def test_one_that_has_places_and_none(self, aos):
        """Who offers places and refuses what it is given for want of them costs an attempt: the job goes to another."""
        liar = await aos.operator(an_offer(slots=256))
        job = await aos.submit()
        lease = await liar.lease()
        honest = await aos.operator(an_offer(slots=1))
        liar.fail(lease, "QUEUE_FULL", retryable=True)
        again = await honest.lease()
        honest.start(again)
        honest.say(again, "Yes", [1])
        honest.finish(again, "Yes", [1])

        done = await aos.ends(job)
        assert (again.job, done.operator, done.attempts) == (lease.job, honest.address, 2)

    async def test_finishing_work_that_it_was_not_given(self, aos):
        """What an operator says of leases that it does not have changes nothing, neither theirs nor its own."""
        one, two = await aos.operator(an_offer(slots=1)), await aos.operator(an_offer(slots=1))
        first, second = sorted([one, two], key=lambda hand: hand.address)
        job = await aos.submit()
        lease = await first.lease()
        second.start(lease)
        second.say(lease, "No", [1])
        second.finish(lease, "No", [1])
        second.fail(lease, "ENGINE_FAILED", retryable=False)
        other = await aos.project.CreateJob(a_request("another"))
        assert (await second.lease()).job.hex() == other.name.removeprefix("jobs/")
        first.start(lease)
        first.say(lease, "Yes", [1])
        first.finish(lease, "Yes", [1])

        assert (await aos.ends(job)).outcome.text == "Yes"
