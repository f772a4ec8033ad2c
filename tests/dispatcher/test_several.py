"""Several dispatchers on one database: any accepts, any serves a watcher, and each job is run once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest_asyncio

from aos.v1 import dispatcher_pb2 as pb
from aos.v1.dispatcher_pb2 import CancelJobRequest, WatchJobRequest
from tests.dispatcher.conftest import BALANCE
from tests.dispatcher.hand import an_offer
from tests.dispatcher.several import Fleet, answer, several
from tests.refusals import reason_of

STATES = (pb.JOB_STATE_QUEUED, pb.JOB_STATE_ASSIGNED, pb.JOB_STATE_RUNNING)


@pytest_asyncio.fixture
async def fleet(tmp_path: Path, database_address: str):
    async with several(tmp_path, database_address, "a", "b") as running:
        yield running


class TestJobs:
    async def test_runs_elsewhere(self, fleet: Fleet):
        """A job that one dispatcher accepted is run by an operator of another, is billed once, and is the same everywhere."""
        hand = await fleet.operator("b")

        job = await fleet["a"].submit()
        answer(hand, await hand.lease())

        ended = await fleet["a"].ends(job)
        assert ended.state == pb.JOB_STATE_COMPLETED
        assert await fleet["b"].job(job) == ended
        assert await fleet["a"].settles() == BALANCE - (3 * 1 + 2 * 2)

    async def test_events_cross(self, fleet: Fleet):
        """Who watches at the other dispatcher sees each event once and in order, as it comes and while no time passes."""
        hand = await fleet.operator("b")
        job = await fleet["a"].submit()
        call = fleet["a"].project.WatchJob(WatchJobRequest(name=job.name))
        lease = await hand.lease()
        hand.start(lease)
        seen = [await call.read() for _ in STATES]

        for number, word in enumerate(("one ", "two ", "three")):
            hand.say(lease, word, [number])
            event = await asyncio.wait_for(call.read(), 10)
            assert event.chunk.text == word
            seen.append(event)
        hand.finish(lease, "one two three", [0, 1, 2])
        seen.append(await asyncio.wait_for(call.read(), 10))

        assert [one.state for one in seen[:3]] == list(STATES)
        assert [one.sequence for one in seen] == list(range(1, 8))
        assert seen[-1].outcome.text == "one two three"
        assert await fleet["b"].watch(job) == seen

    async def test_one_lease(self, fleet: Fleet):
        """Operators of both dispatchers want the same jobs, and each job goes to one of them."""
        hands = [await fleet.operator("a"), await fleet.operator("b")]

        served: list[str] = []

        async def serve(hand):
            while True:
                lease = await hand.lease()
                served.append(lease.job.hex())
                answer(hand, lease)

        jobs = list(range(20))
        tasks = [asyncio.create_task(serve(hand)) for hand in hands]
        made = await asyncio.gather(*(fleet["ab"[number % 2]].submit(f"Question {number}") for number in jobs))
        ended = await asyncio.gather(*(fleet["ba"[number % 2]].ends(job) for number, job in enumerate(made)))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        assert {one.state for one in ended} == {pb.JOB_STATE_COMPLETED}
        assert sorted(served) == sorted(job.name.removeprefix("jobs/") for job in made)
        assert await fleet["a"].settles() == BALANCE - 20 * (3 * 1 + 2 * 2)

    async def test_cancelled_elsewhere(self, fleet: Fleet):
        """A job that is cancelled at one dispatcher stops at once with the operator of another."""
        hand = await fleet.operator("b")
        job = await fleet["b"].submit()
        lease = await hand.lease()
        hand.start(lease)
        await fleet["b"].until(job, "RUNNING")

        await fleet["a"].project.CancelJob(CancelJobRequest(name=job.name))

        assert await hand.cancelled() == lease.id
        assert (await fleet["b"].ends(job)).state == pb.JOB_STATE_CANCELLED
        assert await fleet["a"].settles() == BALANCE

    async def test_cancelled_while_it_waits(self, fleet: Fleet):
        """It waits nowhere any more: an operator that comes later gets the next job."""
        hand = await fleet["a"].operator(attach=False)
        job = await fleet["a"].submit("first")
        await fleet["a"].eventually(lambda: asyncio.sleep(0, fleet["b"].node._relay.queued), lambda queued: queued == 1)

        await fleet["b"].project.CancelJob(CancelJobRequest(name=job.name))
        second = await fleet["b"].submit("second")
        await fleet["a"].eventually(lambda: asyncio.sleep(0, fleet["a"].node._relay.queued), lambda queued: queued == 1)
        await fleet.move(hand, "a")

        assert (await hand.lease()).job.hex() == second.name.removeprefix("jobs/")


class TestProjects:
    async def test_token_is_revoked_everywhere(self, fleet: Fleet):
        """A token that was replaced at one dispatcher is refused by another that knew it, while no time passes."""
        await fleet["a"].operator(attach=False)
        job = await fleet["b"].submit()
        await fleet["b"].project.GetJob(pb.GetJobRequest(name=job.name))

        await fleet["a"].admin.RotateProjectToken(pb.RotateProjectTokenRequest(name="projects/p"))

        async def reason():
            return await reason_of(fleet["b"].project.GetJob(pb.GetJobRequest(name=job.name)))

        assert await fleet["b"].eventually(reason, lambda why: why != "") == "UNAUTHENTICATED"

    async def test_weights_hold_everywhere(self, fleet: Fleet):
        """A weight that was set at one dispatcher is a share of what another's operators do, while no time passes."""
        await fleet["a"].deposit(BALANCE, "q")
        limits = pb.ProjectLimits(weight=300)
        await fleet["a"].admin.SetProjectLimits(pb.SetProjectLimitsRequest(name="projects/p", limits=limits))

        async def weight():
            return fleet["b"].node._relay.queue._weight("projects/p")

        assert await fleet["b"].eventually(weight, lambda weight: weight != 100) == 300
        hand = await fleet["a"].operator(an_offer(slots=8), attach=False)
        mine = [(await fleet["a"].submit(f"job {number}")).name for number in range(8)]
        for number in range(8):
            await fleet["a"].submit(f"job {number}", by=fleet["a"].other)
        await fleet["b"].eventually(lambda: asyncio.sleep(0, fleet["b"].node._relay.queued), lambda queued: queued == 16)
        await fleet.move(hand, "b")
        leased = [f"jobs/{(await hand.lease()).job.hex()}" for _ in range(8)]

        assert sum(name in mine for name in leased) == 6

    async def test_limits_hold_everywhere(self, fleet: Fleet):
        """A limit that was set at one dispatcher holds at another, and counts the jobs of both."""
        await fleet["a"].operator(attach=False)
        await fleet["b"].submit()
        limits = pb.ProjectLimits(unfinished_jobs=2)
        await fleet["a"].admin.SetProjectLimits(pb.SetProjectLimitsRequest(name="projects/p", limits=limits))
        await fleet["a"].submit()

        async def reason():
            return await reason_of(fleet["b"].submit())

        assert await fleet["b"].eventually(reason, lambda why: why != "") == "QUEUE_FULL"


class TestWhoSaysSo:
    async def test_each_speaks_of_its_own(self, fleet: Fleet):
        """What one dispatcher knows alone comes with its name: the operators attached to it, and the placements that it made."""
        hand = await fleet.operator("b")
        job = await fleet["a"].submit()
        await hand.lease()

        health = [await fleet[name].project.ListHealth(pb.ListHealthRequest()) for name in "ab"]
        told = [await fleet[name].project.ExplainJob(pb.ExplainJobRequest(name=job.name)) for name in "ab"]

        assert [one.dispatcher for one in (*health, *told)] == ["a", "b", "a", "b"]
        assert [[one.operator for one in said.health] for said in health] == [[], [hand.address]]
        assert [one.chosen for one in told] == ["", hand.address]
