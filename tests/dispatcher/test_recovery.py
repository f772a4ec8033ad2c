"""What a crash leaves, and how the next start finishes it: nothing lost, nothing billed twice, no hold forgotten."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import grpc
import pytest

from aos.v1 import dispatcher_pb2 as pb
from tests.dispatcher.conftest import BALANCE, Crash
from tests.dispatcher.hand import Hand, an_offer
from tests.refusals import refused


def crashing(on: str):
    """Return what makes one call of the broker's method raise."""

    def crash(method: str) -> None:
        if method == on:
            raise Crash

    return crash


class TestSubmitting:
    @pytest.mark.parametrize("when", ["before", "after"])
    async def test_cut_off_at_the_hold(self, aos, when):
        """A crash around the broker's Reserve leaves no job and, once the next start has looked, no hold."""
        await aos.operator(attach=False)
        setattr(aos.interference, when, crashing("Reserve"))
        with pytest.raises(grpc.aio.AioRpcError):
            await aos.submit()

        await aos.crash()

        assert not (await aos.admin.ListJobs(pb.ListJobsRequest())).jobs
        await aos.eventually(lambda: aos.node._log.store.pending(limit=9), lambda rows: not rows, step=5)
        assert await aos.balance() == (BALANCE, 0)

    @pytest.mark.parametrize("when", ["before", "after"])
    async def test_retry_after_it(self, aos, when):
        """A retry of the submission that was cut off is accepted, held for once."""
        operator = await aos.operator(attach=False)
        setattr(aos.interference, when, crashing("Reserve"))
        with pytest.raises(grpc.aio.AioRpcError):
            await aos.submit(request_id="r")

        await aos.crash()
        job = await aos.submit(request_id="r")
        held = (await aos.balance())[1]
        for _ in range(5):
            aos.clock.advance(seconds=10)
            await asyncio.sleep(0.02)

        assert held == 11 + 256 + 2 * 100
        assert await aos.balance() == (BALANCE - held, held)
        await operator.attach(aos.nobody)
        assert (await operator.lease()).job.hex() == job.name.removeprefix("jobs/")

    async def test_retry_after_the_release(self, aos):
        """A crash between the release of the cut-off hold and its clean-up does not spoil the retry: it gets a new hold."""
        await aos.operator(attach=False)
        aos.interference.after = crashing("Reserve")
        with pytest.raises(grpc.aio.AioRpcError):
            await aos.submit(request_id="r")
        aos.interference.after = crashing("Settle")
        await aos.eventually(lambda: asyncio.sleep(0, aos.interference.calls), lambda calls: "Settle" in calls, step=5)

        await aos.crash()
        job = await aos.submit(request_id="r")

        held = 11 + 256 + 2 * 100
        assert await aos.balance() == (BALANCE - held, held)
        assert [one.name for one in (await aos.project.ListJobs(pb.ListJobsRequest())).jobs] == [job.name]

    async def test_broker_away(self, aos):
        """While the broker does not answer, submissions are refused at once as to be retried, and leave nothing."""
        await aos.operator(attach=False)

        def away(method: str) -> None:
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())

        aos.interference.before = away
        with refused("SERVICE_UNAVAILABLE", code="UNAVAILABLE", service="broker"):
            await aos.submit()
        aos.interference.before = lambda _: None

        await aos.eventually(lambda: aos.node._log.store.pending(limit=9), lambda rows: not rows, step=5)
        assert await aos.balance() == (BALANCE, 0)

    async def test_caller_gone(self, aos):
        """A caller that leaves while its submission is under way finds the job with its request_id."""
        await aos.operator(attach=False)
        call = asyncio.ensure_future(aos.submit(request_id="r"))
        await aos.eventually(lambda: asyncio.sleep(0, aos.interference.calls), lambda calls: "Reserve" in calls)
        call.cancel()

        job = await aos.submit(request_id="r")

        assert aos.interference.calls == ["Reserve"]
        assert len((await aos.project.ListJobs(pb.ListJobsRequest())).jobs) == 1
        assert job.state == pb.JOB_STATE_QUEUED


class TestRunning:
    async def test_queued_job_survives(self, aos):
        """A waiting job waits on after a restart, and its order is what it was."""
        operator = await aos.operator(attach=False)
        job = await aos.submit()

        await aos.crash()

        assert await aos.job(job) == job
        await operator.attach(aos.nobody)
        assert (await operator.lease()).order == job.order

    async def test_running_job_goes_on(self, aos):
        """A job that ran when the dispatcher died goes on behind the text that was kept; the crash is no failed attempt."""
        operator = await aos.operator()
        job = await aos.submit()
        lease = await operator.lease()
        operator.start(lease)
        operator.say(lease, "Half ", [1])
        call = aos.project.WatchJob(pb.WatchJobRequest(name=job.name))
        while (seen := await call.read()).chunk.text != "Half ":
            pass

        await aos.crash()
        assert (await aos.job(job)).state == pb.JOB_STATE_QUEUED
        watching = asyncio.create_task(aos.watch(job, seen.sequence))
        same = Hand(key=operator.key)
        await same.attach(aos.nobody)
        again = await same.lease()
        assert (list(again.accepted_tokens), again.accepted_text_bytes) == ([1], 5)
        assert again.id != lease.id
        same.say(again, "done.", [2])
        same.finish(again, "Half done.", [1, 2])

        assert "".join(event.chunk.text for event in await watching) == "done."
        done = await aos.job(job)
        assert done.outcome.text == "Half done."
        assert await aos.settles() == BALANCE - (3 + 2 * 2)

    async def test_own_count_never_goes_back(self, aos):
        """The dispatcher's own event count goes on over a restart."""
        await aos.operator(attach=False)
        first = await aos.submit()
        await aos.crash()
        second = await aos.submit()

        assert second.clock.counts["1"] > first.clock.counts["1"]

    async def test_tokens_survive(self, aos):
        """Projects' tokens go on over a restart."""
        await aos.operator(attach=False)
        await aos.crash()

        assert (await aos.project.GetProject(pb.GetProjectRequest(name="projects/-"))).name == "projects/p"


class TestSettling:
    @pytest.mark.parametrize("when", ["before", "after"])
    async def test_cut_off_at_the_settlement(self, aos, when):
        """A crash around the broker's Settle is finished by the next start: paid once, the rest given back."""
        operator = await aos.operator()
        job = await aos.submit()
        lease = await operator.lease()
        operator.say(lease, "Yes.", [1, 2, 3])
        setattr(aos.interference, when, crashing("Settle"))
        operator.finish(lease, "Yes.", [1, 2, 3])
        await aos.ends(job)
        await aos.eventually(lambda: asyncio.sleep(0, aos.interference.calls), lambda calls: "Settle" in calls)

        await aos.crash()

        assert await aos.settles() == BALANCE - 9
        assert await aos.balance(operator.address) == (9, 0)
        await aos.eventually(lambda: aos.node._log.store.unsettled(limit=9), lambda rows: not rows, step=5)
        assert await aos.balance(operator.address) == (9, 0)

    async def test_broker_comes_back(self, aos):
        """Without a restart, too: what the broker did not take it is asked for again."""
        operator = await aos.operator(an_offer(slots=8))
        jobs = [await aos.submit() for _ in range(3)]
        aos.interference.before = crashing("Settle")
        for _ in jobs:
            operator.finish(await operator.lease(), "", [])
        for job in jobs:
            await aos.ends(job)
        assert (await aos.balance())[1] > 0
        aos.interference.before = lambda _: None

        await aos.eventually(aos.balance, lambda pots: pots[1] == 0, step=5)

        assert await aos.balance(operator.address) == (9, 0)


class TestStorm:
    async def test_everything_ends_and_is_paid_once(self, aos):
        """Whenever the dispatcher is killed, all that it had accepted is answered, and the money adds up."""
        operator = await aos.operator(an_offer(slots=3), attach=False)
        accepted, over = [], asyncio.Event()

        async def answer() -> None:
            """Answer every lease in three steps, over one stream after another."""
            while not over.is_set():
                # a closed channel cancels its calls
                with suppress(grpc.aio.AioRpcError, grpc.aio.UsageError, EOFError, asyncio.CancelledError):
                    await operator.attach(aos.nobody)
                    while True:
                        lease = (await operator.read()).lease
                        done = list(lease.accepted_tokens)
                        for token in range(len(done), 3):
                            operator.say(lease, str(token), [token])
                            await asyncio.sleep(0.002)
                        operator.finish(lease, "012", [0, 1, 2])
                await asyncio.sleep(0.01)

        answering = asyncio.create_task(answer())
        for number in range(4):
            accepted += [await aos.submit(request_id=f"{number}.{one}") for one in range(5)]
            await asyncio.sleep(0.015 * number)
            await aos.crash()
        for job in accepted:
            assert (await aos.ends(job)).outcome.text == "012"
        assert not answering.done(), answering.exception()
        over.set()
        answering.cancel()

        price = 3 + 2 * 3
        assert await aos.settles() == BALANCE - price * len(accepted)
        assert await aos.balance(operator.address) == (price * len(accepted), 0)
