"""Jobs that end otherwise than by an answer: cancelled in each state, or out of time."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.duration_pb2 import Duration

from aos.v1 import dispatcher_pb2 as pb
from aos.v1.errors_pb2 import ErrorReason
from tests.dispatcher.conftest import BALANCE, running
from tests.dispatcher.hand import an_offer
from tests.dispatcher.test_running import answered


class TestCancel:
    async def test_queued(self, aos):
        """A waiting job ends CANCELLED at once, its money goes back, and no operator ever gets it."""
        operator = await aos.operator(attach=False)
        job = await aos.submit()

        done = await aos.project.CancelJob(pb.CancelJobRequest(name=job.name))

        assert done.state == pb.JOB_STATE_CANCELLED
        assert done.outcome.error.reason == ErrorReason.ERROR_REASON_JOB_CANCELLED
        assert await aos.settles() == BALANCE
        await operator.attach(aos.nobody)
        next_job = await aos.submit()
        assert (await operator.lease()).job.hex() == next_job.name.removeprefix("jobs/")

    @pytest.mark.parametrize("begun", [False, True], ids=["assigned", "running"])
    async def test_leased(self, aos, begun):
        """A job with an operator ends CANCELLED with the text so far; the operator is told, and what it still says is ignored."""
        operator = await aos.operator()
        job = await aos.submit()
        lease = await operator.lease()
        if begun:
            operator.start(lease)
            operator.say(lease, "So far", [1])
            await aos.eventually(lambda: stored(aos, job), lambda text: text == "So far")

        done = await aos.project.CancelJob(pb.CancelJobRequest(name=job.name))
        assert await operator.cancelled() == lease.id
        operator.say(lease, " and more", [2])
        operator.finish(lease, "So far and more", [1, 2])

        assert done.state == pb.JOB_STATE_CANCELLED
        assert done.outcome.text == ("So far" if begun else "")
        assert await aos.settles() == BALANCE
        assert await aos.job(job) == done

    async def test_completed(self, aos):
        """Cancelling a job that has ended changes nothing."""
        operator = await aos.operator()
        job = await aos.submit()
        done = await answered(aos, operator, job)

        assert await aos.project.CancelJob(pb.CancelJobRequest(name=job.name)) == done

    async def test_frees_the_place(self, aos):
        """The cancelled job's place goes to the next one."""
        operator = await aos.operator(an_offer(slots=1))
        first, second = await aos.submit(), await aos.submit()
        lease = await operator.lease()
        await aos.project.CancelJob(pb.CancelJobRequest(name=first.name))
        assert await operator.cancelled() == lease.id

        assert (await operator.lease()).job.hex() == second.name.removeprefix("jobs/")


async def stored(aos, job) -> str:
    """The text that the log holds now."""
    call = aos.admin.WatchJob(pb.WatchJobRequest(name=job.name))
    text = ""
    try:
        async with asyncio.timeout(0.2):
            async for event in call:
                text += event.chunk.text
    except TimeoutError:
        pass
    finally:
        call.cancel()
    return text


class TestExpiry:
    async def test_waiting(self, aos):
        """A job that no operator takes in time is EXPIRED, says why it waited, and costs nothing."""
        await aos.operator(attach=False)
        job = await aos.submit(timeout=Duration(seconds=600))

        done = await aos.eventually(lambda: aos.job(job), lambda job: job.HasField("ended"), step=60)

        assert done.state == pb.JOB_STATE_EXPIRED
        assert done.outcome.error.reason == ErrorReason.ERROR_REASON_DEADLINE
        assert done.outcome.error.metadata["limit"] == "600"
        assert "no operator was attached" in done.outcome.error.message
        assert await aos.settles() == BALANCE

    async def test_running(self, tmp_path):
        """A job that an operator does not finish in time is EXPIRED with the text so far, and the operator is told to stop."""
        async with running(tmp_path, heartbeat_seconds=1000.0) as aos:
            operator = await aos.operator()
            job = await aos.submit()
            lease = await operator.lease()
            operator.say(lease, "Well", [1])
            await aos.eventually(lambda: stored(aos, job), lambda text: text == "Well")

            done = await aos.eventually(lambda: aos.job(job), lambda job: job.HasField("ended"), step=60)

            assert done.state == pb.JOB_STATE_EXPIRED
            assert done.outcome.text == "Well"
            assert await operator.cancelled() == lease.id
            assert await aos.settles() == BALANCE
