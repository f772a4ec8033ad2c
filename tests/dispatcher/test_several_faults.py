"""Several dispatchers on one database, when one of them is gone, cut off, deaf, or one of its answers is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import pytest_asyncio

from aos.settings import StartError
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.dispatcher_pb2 import CancelJobRequest, WatchJobRequest
from tests.dispatcher.conftest import BALANCE, Crash
from tests.dispatcher.hand import Hand
from tests.dispatcher.several import Fleet, answer, several
from tests.refusals import reason_of

BILL = 3 * 1 + 2 * 2
"""What an answer of two tokens costs."""


@pytest_asyncio.fixture
async def fleet(tmp_path: Path, database_address: str):
    async with several(tmp_path, database_address, "a", "b") as running:
        yield running


async def running_at(fleet: Fleet, name: str, said: str = "Half ") -> tuple[Hand, pb.Job, pb.Lease]:
    """A job that runs at a dispatcher, its first token in the log."""
    hand = await fleet.operator(name)
    job = await fleet[name].submit()
    lease = await hand.lease()
    hand.start(lease)
    hand.say(lease, said, [1])
    call = fleet[name].project.WatchJob(WatchJobRequest(name=job.name))
    while (await call.read()).chunk.text != said:
        pass
    call.cancel()
    return hand, job, lease


class TestKilled:
    async def test_mid_stream(self, fleet: Fleet):
        """Its operator moves on, the job goes on behind the tokens that were accepted, and is billed once."""
        hand, job, _ = await running_at(fleet, "a")
        watching = asyncio.create_task(fleet["b"].watch(job))

        await fleet.kill("a")
        await fleet.silent()
        await fleet.move(hand, "b")
        lease = await hand.lease()
        assert list(lease.accepted_tokens) == [1]
        hand.start(lease)
        hand.say(lease, "done.", [2])
        hand.finish(lease, "Half done.", [1, 2])

        events = await watching
        assert [one.sequence for one in events] == list(range(1, len(events) + 1))
        assert "".join(one.chunk.text for one in events) == events[-1].outcome.text == "Half done."
        assert await fleet["b"].settles() == BALANCE - BILL

    async def test_no_attempt_failed(self, fleet: Fleet):
        """However often dispatchers die under a job, that is no failure of its operators."""
        hand, job, _ = await running_at(fleet, "a")
        for last, name in (("a", "c"), ("c", "d"), ("d", "e"), ("e", "f"), ("f", "g"), ("g", "h")):
            await fleet.start(name)
            await fleet.kill(last)
            await fleet.silent()
            await fleet.move(hand, name)
            lease = await hand.lease()
            hand.start(lease)
            await fleet[name].until(job, "RUNNING")

        hand.say(lease, "done.", [2])
        hand.finish(lease, "Half done.", [1, 2])
        assert (await fleet["h"].ends(job)).state == pb.JOB_STATE_COMPLETED

    async def test_what_waited(self, fleet: Fleet):
        """A job that only waited is run by the others at once: it waited there, too."""
        hand = await fleet["b"].operator(attach=False)
        job = await fleet["a"].submit()

        await fleet.kill("a")
        await fleet.move(hand, "b")

        lease = await hand.lease()
        assert lease.job.hex() == job.name.removeprefix("jobs/")
        answer(hand, lease)
        assert (await fleet["b"].ends(job)).state == pb.JOB_STATE_COMPLETED

    async def test_hold_of_a_submission(self, fleet: Fleet):
        """A hold that nobody waits for any more is released by another, once it knows that its dispatcher is gone."""
        await fleet["b"].operator(attach=False)

        def gone(method: str) -> None:
            fleet["a"].link.dead = True
            raise Crash

        fleet["a"].interference.after = gone
        assert await reason_of(fleet["a"].submit(request_id="r")) != ""
        assert (await fleet["b"].balance())[1] > 0
        await fleet.kill("a")
        await fleet.silent()

        async def pots():
            await fleet.silent(beats=1)
            return await fleet["b"].balance()

        assert await fleet["b"].eventually(pots, lambda found: found[1] == 0, step=5) == (BALANCE, 0)
        assert (await fleet["b"].submit(request_id="r")).state == pb.JOB_STATE_QUEUED


class TestCutOff:
    async def test_late_words(self, fleet: Fleet):
        """Others take over its jobs; what its operator says late adds nothing; that one is sent away, and the bill is one."""
        cut, job, _ = await running_at(fleet, "a")
        other = await fleet.operator("b")

        fleet["a"].link.cut = True
        await fleet.silent()
        again = await other.lease()
        assert list(again.accepted_tokens) == [1]
        other.start(again)
        other.say(again, "done.", [2])
        await fleet["b"].until(job, "RUNNING")
        await cut.ended()
        fleet["a"].link.heal()
        other.finish(again, "Half done.", [1, 2])

        ended = await fleet["b"].ends(job)
        assert ended.outcome.text == "Half done."
        assert await fleet["b"].settles() == BALANCE - BILL
        events = await fleet["b"].watch(job)
        assert "".join(one.chunk.text for one in events) == "Half done."

    async def test_without_an_answer(self, tmp_path: Path, database_address: str):
        """A database that does not even refuse is out of reach in the same time; an answer that comes late is one."""
        async with several(tmp_path, database_address, "a", "b", node_seconds=0.1) as fleet:
            hand = await fleet.operator("a")
            nodes = fleet["a"].node.nodes
            fleet["a"].link.answers.clear()
            fleet.clock.advance(seconds=0.1)
            await hand.ended()
            assert nodes.cut_off

            fleet["a"].link.answers.set()
            async with asyncio.timeout(10):
                while nodes.cut_off:
                    await asyncio.sleep(0.01)
            await fleet.move(hand, "a")

    async def test_back_before_it_knows(self, fleet: Fleet):
        """One that is given up and comes back finds its lease taken: its operator is told to stop, and is heard no more."""
        cut, job, lease = await running_at(fleet, "a")
        other = await fleet.operator("b")
        row = next(one for one in await fleet["b"].node.nodes._store.nodes() if one.node == "a")

        fleet["a"].link.deaf = True
        assert await fleet["b"].node.nodes._store.give_up(row)
        again = await other.lease()
        cut.say(lease, "late", [9])

        assert await cut.cancelled() == lease.id
        other.start(again)
        other.say(again, "done.", [2])
        other.finish(again, "Half done.", [1, 2])
        assert (await fleet["b"].ends(job)).outcome.text == "Half done."
        assert await fleet["b"].settles() == BALANCE - BILL

    async def test_takes_operators_again(self, fleet: Fleet):
        """While it is cut off it takes no operators; once it is back it does, and is one of them again."""
        hand = await fleet.operator("a")
        fleet["a"].link.cut = True
        while not fleet["a"].node.nodes.cut_off:
            await fleet.silent(beats=1)
            await asyncio.sleep(0.005)
        await hand.ended()
        hand.open(fleet["a"].nobody)
        assert await reason_of(hand.read()) == "SERVICE_UNAVAILABLE"

        fleet["a"].link.heal()
        await fleet["a"].eventually(lambda: asyncio.sleep(0, fleet["a"].node.nodes.cut_off), lambda away: not away, step=1)
        await fleet.move(hand, "a")

        job = await fleet["b"].submit()
        answer(hand, await hand.lease())
        assert (await fleet["b"].ends(job)).state == pb.JOB_STATE_COMPLETED

    async def test_watchers_are_sent_on(self, fleet: Fleet):
        """Who watches at one that is cut off is told to go elsewhere, and goes on there from the last event."""
        hand, job, lease = await running_at(fleet, "b")
        call = fleet["a"].project.WatchJob(WatchJobRequest(name=job.name))
        while (seen := await call.read()).chunk.text != "Half ":
            pass

        fleet["a"].link.cut = True
        last = asyncio.ensure_future(call.read())
        while not last.done():
            await fleet.silent(beats=1)
            await asyncio.sleep(0.005)
        assert await reason_of(last) == "SERVICE_UNAVAILABLE"
        hand.say(lease, "done.", [2])
        hand.finish(lease, "Half done.", [1, 2])

        assert [one.chunk.text for one in await fleet["b"].watch(job, seen.sequence)] == ["done.", ""]


class TestUnheard:
    async def test_new_job(self, fleet: Fleet):
        """A job of which no news came is found, and run, within the time between two looks."""
        hand = await fleet.operator("b")
        fleet["b"].link.deaf = True
        job = await fleet["a"].submit()
        assert fleet["b"].node._relay.queued == 0

        fleet.clock.advance(seconds=5)

        answer(hand, await hand.lease())
        assert (await fleet["a"].ends(job)).state == pb.JOB_STATE_COMPLETED

    async def test_watcher(self, fleet: Fleet):
        """A watcher of whose job no news came sees the whole of it all the same."""
        hand, job, lease = await running_at(fleet, "b")
        call = fleet["a"].project.WatchJob(WatchJobRequest(name=job.name))
        while (await call.read()).chunk.text != "Half ":
            pass
        fleet["a"].link.deaf = True
        hand.say(lease, "done.", [2])
        hand.finish(lease, "Half done.", [1, 2])
        await fleet["b"].ends(job)

        fleet.clock.advance(seconds=5)

        assert (await asyncio.wait_for(call.read(), 10)).chunk.text == "done."
        assert (await asyncio.wait_for(call.read(), 10)).outcome.text == "Half done."

    async def test_cancelled(self, fleet: Fleet):
        """An operator whose job was cancelled, unheard, stops within the time between two looks."""
        hand, job, lease = await running_at(fleet, "b")
        fleet["b"].link.deaf = True
        await fleet["a"].project.CancelJob(CancelJobRequest(name=job.name))

        fleet.clock.advance(seconds=5)

        assert await hand.cancelled() == lease.id


class TestLostAnswers:
    async def test_every_other(self, tmp_path: Path, database_address: str):
        """Where the answers of transactions are lost on the way, nothing is done twice: no text, no bill."""
        async with several(tmp_path, database_address, "a", "b", heartbeat_seconds=1000.0) as fleet:
            hand = await fleet.operator("a")
            job = await fleet["a"].submit()
            watching = asyncio.create_task(fleet["b"].watch(job))
            lost = [True, False, False] * 20
            fleet["a"].link.loses = lambda: bool(lost) and lost.pop()
            words = [f"{number} " for number in range(8)]

            async def turn() -> None:
                while not watching.done():
                    fleet.clock.advance(seconds=1)
                    await asyncio.sleep(0.01)

            turning = asyncio.create_task(turn())
            lease = await hand.lease()
            hand.start(lease)
            for number, word in enumerate(words):
                hand.say(lease, word, [number])
                await asyncio.sleep(0)
            hand.finish(lease, "".join(words), list(range(8)))

            events = await asyncio.wait_for(watching, 20)
            await turning
            assert "".join(one.chunk.text for one in events) == events[-1].outcome.text == "".join(words)
            pots = await fleet["b"].eventually(fleet["b"].balance, lambda found: found[1] == 0, step=1)
            assert pots == (BALANCE - (3 * 1 + 8 * 2), 0)


class TestOperators:
    async def test_attaches_elsewhere(self, fleet: Fleet):
        """One that attaches to another dispatcher while its stream with the first is half open leaves the first."""
        first = await fleet.operator("a")
        second = Hand(key=first.key)

        await fleet.move(second, "b")

        await first.ended()
        job = await fleet["a"].submit()
        answer(second, await second.lease())
        assert (await fleet["a"].ends(job)).state == pb.JOB_STATE_COMPLETED

    async def test_back_and_forth(self, fleet: Fleet):
        """The stream that was opened last stays, wherever it is."""
        hand = await fleet.operator("a")
        for name in ("b", "a", "b", "a"):
            last, hand = hand, Hand(key=hand.key)
            await fleet.move(hand, name)
            await last.ended()

        await fleet["a"].submit()
        assert (await hand.lease()).order.prompt == "What is AI?"

    async def test_nobody_here_is_not_nobody(self, tmp_path: Path, database_address: str):
        """A job is not given up by a dispatcher without operators while another has one that is busy."""
        async with several(tmp_path, database_address, "a", "b", unroutable_seconds=20) as fleet:
            hand = await fleet.operator("a")
            running = [await fleet["a"].submit(f"{number}") for number in range(2)]
            leases = [await hand.lease() for _ in running]
            waits = await fleet["b"].submit("waits")

            words = [f"{number} " for number in range(8)]
            hand.start(leases[0])
            call = fleet["a"].project.WatchJob(WatchJobRequest(name=f"jobs/{leases[0].job.hex()}"))
            for number, word in enumerate(words):
                fleet.clock.advance(seconds=3)
                # no time goes by before the operator was heard, and the dispatchers by each other
                hand.say(leases[0], word, [number])
                while (await call.read()).chunk.text != word:
                    pass
                for one in fleet.running:
                    await one.node.nodes.beat()
            call.cancel()
            assert (await fleet["b"].job(waits)).state == pb.JOB_STATE_QUEUED
            hand.finish(leases[0], "".join(words), list(range(8)))
            answer(hand, leases[1])
            answer(hand, await hand.lease())
            assert (await fleet["b"].ends(waits)).state == pb.JOB_STATE_COMPLETED


class TestNames:
    async def test_of_one_that_lives(self, tmp_path: Path, postgres_url: str):
        """A second dispatcher of the same name does not start while the first is there; the first goes on."""
        async with several(tmp_path, postgres_url, "a") as fleet:
            first = fleet["a"]
            starting = asyncio.create_task(fleet.start("a"))
            while not starting.done():
                fleet.clock.advance(seconds=1)
                await first.node.nodes.beat()
                await asyncio.sleep(0.01)

            with pytest.raises(StartError, match="runs under the name 'a'"):
                await starting
            fleet._of["a"] = first
            hand = await fleet.operator("a")
            await first.submit()
            assert (await hand.lease()).order.prompt == "What is AI?"

    async def test_of_one_that_died(self, tmp_path: Path, postgres_url: str):
        """It starts under the name of one that was killed, once that is silent for long enough, and finishes what that had."""
        async with several(tmp_path, postgres_url, "a") as fleet:
            hand, job, _ = await running_at(fleet, "a")
            await fleet.kill("a")
            starting = asyncio.create_task(fleet.start("a"))
            while not starting.done():
                fleet.clock.advance(seconds=1)
                await asyncio.sleep(0.01)
            await starting

            await fleet.move(hand, "a")
            lease = await hand.lease()
            assert list(lease.accepted_tokens) == [1]
            hand.start(lease)
            hand.say(lease, "done.", [2])
            hand.finish(lease, "Half done.", [1, 2])
            assert (await fleet["a"].ends(job)).state == pb.JOB_STATE_COMPLETED

    async def test_of_one_in_the_same_file(self, tmp_path: Path):
        """In a file, which one process uses, the later one has the name at once; the earlier one learns it, and stops."""
        async with several(tmp_path, str(tmp_path / "aos.db"), "a") as fleet:
            first = fleet["a"]
            hand = await fleet.operator("a")
            second = await fleet.start("a")

            await first.node.nodes.beat()

            await hand.ended()
            assert await reason_of(first.submit()) == "SERVICE_UNAVAILABLE"
            await hand.attach(second.nobody)
            job = await second.submit()
            answer(hand, await hand.lease())
            assert (await second.ends(job)).state == pb.JOB_STATE_COMPLETED
