"""WatchJob, GetJob, ListJobs: what callers see of a job, and of whose."""

from __future__ import annotations

import asyncio

import pytest

from aos.v1 import dispatcher_pb2 as pb
from tests.dispatcher.conftest import BALANCE
from tests.dispatcher.hand import WAIT
from tests.refusals import refused

WORDS = [f"word{number} " for number in range(20)]


async def answer(aos, operator, job):
    """Let the operator say the words one by one, each kept before the next is sent."""
    lease = await operator.lease()
    operator.start(lease)
    call = aos.admin.WatchJob(pb.WatchJobRequest(name=job.name))
    for number, word in enumerate(WORDS):
        operator.say(lease, word, [number])
        async with asyncio.timeout(WAIT):
            while (await call.read()).chunk.text != word:
                pass
    operator.finish(lease, "".join(WORDS), range(len(WORDS)))
    call.cancel()
    return await aos.ends(job)


class TestWatchJob:
    async def test_whole_story(self, aos):
        """A watch from the beginning shows each state, all text and the outcome, numbered from 1 without gaps."""
        operator = await aos.operator()
        job = await aos.submit()
        await answer(aos, operator, job)

        events = await aos.watch(job)

        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert [event.state for event in events if event.HasField("state")] == [
            pb.JOB_STATE_QUEUED,
            pb.JOB_STATE_ASSIGNED,
            pb.JOB_STATE_RUNNING,
        ]
        assert "".join(event.chunk.text for event in events) == "".join(WORDS)
        assert [event.HasField("outcome") for event in events] == [False] * (len(events) - 1) + [True]
        assert events[-1].outcome == (await aos.job(job)).outcome

    async def test_from_any_sequence(self, aos):
        """A watch from any point shows exactly what is behind it, whether the job runs or has ended."""
        operator = await aos.operator()
        job = await aos.submit()
        early = [asyncio.create_task(aos.watch(job, after)) for after in range(6)]
        await answer(aos, operator, job)

        whole = await aos.watch(job)

        for after, watching in enumerate(early):
            assert await watching == whole[after:]
        for after in range(len(whole) + 1):
            assert await aos.watch(job, after) == whole[after:]

    async def test_beyond_the_end(self, aos):
        """A watch from beyond the outcome ends, too, with nothing to show: before the job has ended and after."""
        operator = await aos.operator()
        job = await aos.submit()
        early = asyncio.create_task(aos.watch(job, 1000))
        lease = await operator.lease()
        operator.finish(lease, "", [])

        assert await early == []
        assert await aos.watch(job, 1000) == []

    async def test_slow_reader_holds_nobody_up(self, aos):
        """A watcher that does not read keeps neither the operator nor other watchers waiting, and misses nothing itself."""
        operator = await aos.operator()
        job = await aos.submit(max_tokens=1000)
        slow = aos.project.WatchJob(pb.WatchJobRequest(name=job.name))
        async with asyncio.timeout(WAIT):
            assert (await slow.read()).sequence == 1
        lease = await operator.lease()
        text = "".join(f"{number:0500d}" for number in range(900))
        for number in range(900):
            operator.say(lease, f"{number:0500d}", [number])
            if number % 3 == 0:
                await asyncio.sleep(0)
        operator.finish(lease, text, range(900))

        done = await aos.ends(job)
        async with asyncio.timeout(WAIT):
            rest = [event async for event in slow]

        assert done.outcome.text == text
        assert [event.sequence for event in rest] == list(range(2, len(rest) + 2))
        assert "".join(event.chunk.text for event in rest) == text
        assert rest[-1].HasField("outcome")

    async def test_leaving_stops_the_watching_only(self, aos):
        """Cancelling the watch never touches the job."""
        operator = await aos.operator()
        job = await aos.submit()
        call = aos.project.WatchJob(pb.WatchJobRequest(name=job.name))
        async with asyncio.timeout(WAIT):
            await call.read()
        call.cancel()

        assert (await answer(aos, operator, job)).state == pb.JOB_STATE_COMPLETED

    async def test_below_zero(self, aos):
        """A sequence below 0 is refused."""
        await aos.operator(attach=False)
        job = await aos.submit()

        with refused("INVALID_FIELD", field="after_sequence"):
            await aos.watch(job, -1)


class TestWhose:
    async def test_other_projects_job_is_not_there(self, aos):
        """A job of another project cannot be told from one that does not exist, whatever is asked of it."""
        await aos.operator(attach=False)
        job = await aos.submit()

        for name in (job.name, "jobs/" + "0" * 64):
            for refusal in (
                aos.other.GetJob(pb.GetJobRequest(name=name)),
                aos.other.CancelJob(pb.CancelJobRequest(name=name)),
                aos.other.GetReceipt(pb.GetReceiptRequest(name=name)),
                aos.other.WatchJob(pb.WatchJobRequest(name=name)).read(),
            ):
                with refused("JOB_NOT_FOUND", code="NOT_FOUND", job=name):
                    await refusal
        assert not (await aos.other.ListJobs(pb.ListJobsRequest())).jobs
        assert (await aos.job(job)).state == pb.JOB_STATE_QUEUED

    @pytest.mark.parametrize("name", ["", "jobs/", "job/1", "projects/p"])
    async def test_no_name(self, aos, name):
        """What cannot be a job's name is refused as such."""
        with refused("INVALID_FIELD", field="name"):
            await aos.project.GetJob(pb.GetJobRequest(name=name))

    @pytest.mark.parametrize("name", ["jobs/x", "jobs/" + "A" * 64, "jobs/" + "a" * 1000])
    async def test_no_id(self, aos, name):
        """What is no job's id is not found."""
        with refused("JOB_NOT_FOUND"):
            await aos.project.GetJob(pb.GetJobRequest(name=name))


class TestListJobs:
    async def test_pages_newest_first(self, aos):
        """Pages go from the newest job to the oldest, each job once, though new ones come in between."""
        await aos.operator(attach=False)
        made = [(await aos.submit()).name for _ in range(5)]
        seen, token = [], ""
        while True:
            page = await aos.project.ListJobs(pb.ListJobsRequest(page_size=2, page_token=token))
            seen += [job.name for job in page.jobs]
            token = page.next_page_token
            if not token:
                break
            await aos.submit()

        assert seen == made[::-1]

    async def test_administrator_sees_all(self, aos):
        """The administrator's list holds every project's jobs."""
        await aos.operator(attach=False)
        await aos.deposit(BALANCE, "q")
        await aos.submit()
        await aos.submit(by=aos.other)

        assert {job.project for job in (await aos.admin.ListJobs(pb.ListJobsRequest())).jobs} == {"projects/p", "projects/q"}

    async def test_pages_are_bounded_in_bytes(self, aos):
        """A page of large jobs is shorter than asked for, and the next goes on behind it."""
        await aos.operator(attach=False)
        made = [(await aos.submit("x" * (1 << 20))).name for _ in range(5)]

        first = await aos.project.ListJobs(pb.ListJobsRequest())
        second = await aos.project.ListJobs(pb.ListJobsRequest(page_token=first.next_page_token))

        assert [job.name for job in first.jobs] == made[:2:-1]
        assert [job.name for job in second.jobs] == made[2:0:-1]

    @pytest.mark.parametrize(
        ("asked", "field"),
        [
            (pb.ListJobsRequest(page_size=-1), "page_size"),
            (pb.ListJobsRequest(page_size=1001), "page_size"),
            (pb.ListJobsRequest(page_token="?"), "page_token"),
        ],
    )
    async def test_bad_page(self, aos, asked, field):
        """A size or a token that cannot be is refused."""
        with refused("INVALID_FIELD", field=field):
            await aos.project.ListJobs(asked)
