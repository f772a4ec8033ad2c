"""How long ended jobs are kept, and what goes with them."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from aos.v1 import dispatcher_pb2 as pb
from tests.dispatcher.conftest import running
from tests.refusals import refused


async def cancelled(aos, count: int, *, by=None, **fields) -> list[pb.Job]:
    """So many jobs that have ended and are settled, oldest first."""
    made = [await aos.submit(f"job {number}", by=by, **fields) for number in range(count)]
    for job in made:
        await (by or aos.project).CancelJob(pb.CancelJobRequest(name=job.name))
    await aos.settles()
    # the broker's word is noted behind the hold's end
    await aos.eventually(lambda: settled(aos), lambda left: left == 0)
    return made


async def settled(aos) -> int:
    with sqlite3.connect(aos.path) as db:
        left = db.execute("SELECT count(*) FROM jobs WHERE state >= 4 AND money < 3").fetchone()[0]
    db.close()
    return left


async def names(aos) -> list[str]:
    return [job.name for job in (await aos.admin.ListJobs(pb.ListJobsRequest(page_size=1000))).jobs]


def rows(aos) -> dict[str, int]:
    """How many rows each table of jobs has."""
    tables = ("jobs", "job_requests", "job_outcomes", "job_events")
    with sqlite3.connect(aos.path) as db:
        found = {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}
    db.close()
    return found


class TestAge:
    async def test_old_jobs_go(self, tmp_path):
        """Some time after their end they are gone with all their rows; those that have not ended stay, however old."""
        async with running(tmp_path, retention_seconds=1000.0, purge_seconds=10.0) as aos:
            await aos.operator(attach=False)
            await cancelled(aos, 60)
            waiting = await aos.submit()
            aos.clock.advance(seconds=900)
            fresh = await aos.submit()
            await aos.project.CancelJob(pb.CancelJobRequest(name=fresh.name))
            await aos.eventually(lambda: names(aos), lambda left: len(left) == 2, step=20)

            assert set(await names(aos)) == {waiting.name, fresh.name}
            assert rows(aos) == {"jobs": 2, "job_requests": 2, "job_outcomes": 2, "job_events": 4}

    async def test_a_request_id_is_free_again(self, tmp_path):
        """What is not kept cannot be given back: the same request makes a new job."""
        async with running(tmp_path, retention_seconds=1000.0, purge_seconds=10.0) as aos:
            await aos.operator(attach=False)
            (old,) = await cancelled(aos, 1, request_id="r")
            await aos.eventually(lambda: names(aos), lambda left: not left, step=100)
            with refused("JOB_NOT_FOUND"):
                await aos.job(old)

            assert (await aos.submit(request_id="r")).name != old.name


class TestNumber:
    async def test_the_oldest_go_first(self, tmp_path):
        """Of each project so many are kept, the newest; another project's are its own."""
        async with running(tmp_path, kept_jobs=3, purge_seconds=10.0) as aos:
            await aos.operator(attach=False)
            await aos.deposit(1_000_000, "q")
            mine, others = await cancelled(aos, 40), await cancelled(aos, 2, by=aos.other)
            await aos.eventually(lambda: names(aos), lambda left: len(left) == 5, step=10)

            assert await names(aos) == [job.name for job in [*mine[-3:], *others][::-1]]


class TestPurge:
    async def test_a_bounded_number_a_call(self, aos):
        """The administrator's call deletes the oldest that it may, and says whether there are more."""
        await aos.operator(attach=False)
        made = await cancelled(aos, 7)
        aos.clock.advance(seconds=1)
        before = Timestamp()
        before.FromDatetime(aos.clock.now())
        first = await aos.admin.PurgeJobs(pb.PurgeJobsRequest(ended_before=before, max_jobs=5))
        left = await names(aos)
        second = await aos.admin.PurgeJobs(pb.PurgeJobsRequest(ended_before=before, max_jobs=5))

        assert [(first.purged, first.more), (second.purged, second.more)] == [(5, True), (2, False)]
        assert left == [job.name for job in made[5:][::-1]]
        assert await names(aos) == []

    async def test_of_one_project(self, aos):
        """Another project's jobs stay, and so do those that ended later."""
        await aos.operator(attach=False)
        await aos.deposit(1_000_000, "q")
        mine, others = await cancelled(aos, 2), await cancelled(aos, 1, by=aos.other)
        times = [Timestamp(), Timestamp()]
        times[0].FromDatetime(aos.clock.now())
        times[1].FromDatetime(aos.clock.now() + timedelta(seconds=1))
        none = await aos.admin.PurgeJobs(pb.PurgeJobsRequest(ended_before=times[0], project="projects/p"))
        two = await aos.admin.PurgeJobs(pb.PurgeJobsRequest(ended_before=times[1], project="projects/p"))

        assert (none.purged, two.purged, len(mine)) == (0, 2, 2)
        assert await names(aos) == [others[0].name]

    async def test_a_job_that_has_not_ended_stays(self, aos):
        """Whatever time is given."""
        await aos.operator(attach=False)
        job = await aos.submit()
        aos.clock.advance(seconds=1)
        purged = await aos.admin.PurgeJobs(pb.PurgeJobsRequest(ended_before=Timestamp(seconds=4_000_000_000)))

        assert purged.purged == 0
        assert (await aos.job(job)).name == job.name

    async def test_only_the_administrator_may(self, aos):
        """A project cannot delete, not even its own."""
        with refused("PERMISSION_DENIED"):
            await aos.project.PurgeJobs(pb.PurgeJobsRequest(ended_before=Timestamp(seconds=1)))

    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            (pb.PurgeJobsRequest(), "ended_before"),
            (pb.PurgeJobsRequest(ended_before=Timestamp(seconds=1 << 62)), "ended_before"),
            (pb.PurgeJobsRequest(ended_before=Timestamp(seconds=1), max_jobs=1001), "max_jobs"),
            (pb.PurgeJobsRequest(ended_before=Timestamp(seconds=1), project="p"), "name"),
        ],
    )
    async def test_a_wrong_field_is_named(self, aos, request_, field):
        """And nothing is deleted."""
        with refused("INVALID_FIELD", field=field):
            await aos.admin.PurgeJobs(request_)
