"""What operators' VRFs say, with the result of each lease: proved, signed, kept, and held against whoever lies."""

from __future__ import annotations

from dataclasses import replace

import pytest
import pytest_asyncio

from aos.dispatcher.lottery import holds, read_evidence
from aos.operator.drawing import Drawer
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.operator_pb2 import Finish
from aos.v1.types_pb2 import FinishReason, VectorClock
from aos.verification.attribution import check_result, sign_result
from aos.verification.results import read_draw, said_of_result
from aos.verification.vrf import VrfKey, verify
from tests.dispatcher.checking import TEXT, TOKENS, checking
from tests.dispatcher.hand import WAIT
from tests.receipts import a_trace


@pytest_asyncio.fixture
async def aos(tmp_path):
    async with checking(tmp_path) as harness:
        yield harness


def finished(hand, lease) -> pb.LeaseFinished:
    """What an honest operator sends."""
    receipt = hand.receipt(lease, TEXT, TOKENS)
    finish = Finish(reason=FinishReason.FINISH_REASON_STOP, receipt=receipt, trace=a_trace(TOKENS))
    return Drawer(hand.key, hand.vrf).finished(lease, finish)


def signed_again(hand, lease, said: pb.LeaseFinished) -> pb.LeaseFinished:
    said.signature = sign_result(said_of_result(said.finish.receipt, said.vrf, tag=lease.tag), hand.key)
    return said


def lies(what: str, hand, lease) -> pb.LeaseFinished:
    """A claim that is false in one way, signed by its operator."""
    said = finished(hand, lease)
    match what:
        case "other_key":
            other = Drawer(hand.key, VrfKey(b"\x77" * 32)).finished(lease, said.finish)
            said.vrf.CopyFrom(other.vrf)
        case "bad_proof":
            said.vrf.proof = said.vrf.proof[:40] + bytes([said.vrf.proof[40] ^ 1]) + said.vrf.proof[41:]
        case "other_output":
            said.vrf.random_value = bytes(64)
        case "other_result":
            said.vrf.selected = not said.vrf.selected
    return signed_again(hand, lease, said)


class TestClaim:
    async def test_a_result_is_proved_and_signed(self, aos):
        """The result shows what the operator's VRF says, its proof and its signature: anyone can check both."""
        operator = await aos.keyed(1)
        job = await aos.answered(operator, [])

        (result,) = await aos.results(job)

        assert (result.operator, result.review, result.result) == (operator.address, False, TEXT)
        draw = pb.Draw(job=bytes.fromhex(job.name.removeprefix("jobs/")), prompt_hash=result.vrf.prompt_hash)
        draw.epoch = int(job.created.ToSeconds() // 1)
        assert verify(operator.vrf.public, read_draw(draw).alpha, result.vrf.proof) == result.vrf.random_value
        said = said_of_result(result.receipt, result.vrf, tag=result.tag)
        assert check_result(said, result.signature).lower() == operator.address
        assert result.name == f"{job.name}/results/1"

    async def test_a_key_does_not_count_at_once(self, aos):
        """A job of the epoch in which the key was registered has no draw: no one can choose a key for a job."""
        hand = await aos.operator(vrf=VrfKey(b"\x01" * 32), attach=True)
        job = await aos.submit()
        lease = await hand.lease()
        assert not lease.HasField("draw")
        hand.start(lease)
        hand.say(lease, TEXT, TOKENS)
        hand.finish(lease, TEXT, TOKENS)

        assert (await aos.ends(job)).state == pb.JOB_STATE_COMPLETED
        (result,) = await aos.results(job)
        assert not result.HasField("vrf")
        assert result.signature == ""

    @pytest.mark.parametrize("what", ["other_key", "bad_proof", "other_output", "other_result"])
    async def test_a_false_claim_is_evidence(self, aos, what):
        """A false claim is kept with the operator's signed message, for anyone to check, and the job goes to another."""
        liar, honest = await aos.many(1, 2)
        await liar.attach(aos.nobody)
        job = await aos.submit()
        lease = await liar.lease()
        await honest.attach(aos.nobody)
        liar.start(lease)
        liar.say(lease, TEXT, TOKENS)
        liar.send(finished=lies(what, liar, lease))

        again = await honest.lease()
        honest.start(again)
        honest.finish(again, TEXT, TOKENS)
        done = await aos.ends(job)

        assert (done.state, done.operator) == (pb.JOB_STATE_COMPLETED, honest.address)
        (evidence,) = await aos.evidence(job=job.name)
        assert (evidence.what, evidence.operator, evidence.job, evidence.proves) == (what, liar.address, job.name, True)
        record = read_evidence(evidence.record.encode())
        assert holds(record)
        assert record.what.value == what
        message = evidence.message
        said = said_of_result(message.receipt, message.vrf, tag=message.tag)
        assert check_result(said, message.signature).lower() == liar.address
        assert await aos.evidence(by=aos.other) == [], "another project's"

    @pytest.mark.parametrize("what", ["unsigned", "of another", "malformed", "of another prompt"])
    async def test_what_cannot_be_read_is_refused(self, aos, what):
        """A claim without the operator's signature, or one that is malformed, shows nothing: the job goes to another."""
        bad, honest = await aos.many(1, 2)
        await bad.attach(aos.nobody)
        job = await aos.submit()
        lease = await bad.lease()
        await honest.attach(aos.nobody)
        bad.start(lease)
        bad.say(lease, TEXT, TOKENS)
        said = finished(bad, lease)
        match what:
            case "unsigned":
                said.signature = ""
            case "of another":
                said.vrf.selected = not said.vrf.selected
            case "malformed":
                said.vrf.proof = b"short"
                signed_again(bad, lease, said)
            case _:
                said.vrf.prompt_hash = bytes(64)
                signed_again(bad, lease, said)
        bad.send(finished=said)

        again = await honest.lease()
        honest.start(again)
        honest.finish(again, TEXT, TOKENS)

        assert (await aos.ends(job)).operator == honest.address
        assert await aos.evidence(by=aos.admin) == []


class TestBadInput:
    async def test_a_replayed_result(self, aos):
        """The result of one job, sent for another, is none; the operator's own job goes on elsewhere."""
        cheat, honest = await aos.many(1, 2)
        await cheat.attach(aos.nobody)
        await aos.answered(cheat, [])
        job = await aos.submit("Another question?")
        lease = await cheat.lease()
        await honest.attach(aos.nobody)
        (first,) = await aos.results((await aos.project.ListJobs(pb.ListJobsRequest())).jobs[1])
        cheat.start(lease)
        cheat.say(lease, TEXT, TOKENS)
        finish = Finish(reason=FinishReason.FINISH_REASON_STOP, receipt=first.receipt, trace=a_trace(TOKENS))
        cheat.send(finished=pb.LeaseFinished(lease=lease.id, finish=finish, vrf=first.vrf, signature=first.signature))

        again = await honest.lease()
        honest.start(again)
        honest.finish(again, TEXT, TOKENS)

        assert (await aos.ends(job)).operator == honest.address

    async def test_a_result_for_a_lease_of_another(self, aos):
        """Who was not leased a job cannot end it, nor add to it."""
        operator, stranger = await aos.keyed(1), (await aos.many(2))[0]
        job = await aos.submit()
        lease = await operator.lease()
        await stranger.attach(aos.nobody)
        stranger.say(lease, "No.", [9])
        stranger.finish(lease, "No.", [9])
        stranger.send(claimed=pb.DrawClaimed(job=lease.job, vrf=pb.Vrf(selected=True), signature="0x"))
        operator.start(lease)
        operator.say(lease, TEXT, TOKENS)
        operator.finish(lease, TEXT, TOKENS)

        done = await aos.ends(job)

        assert (done.operator, done.outcome.text) == (operator.address, TEXT)
        assert [one.operator for one in await aos.results(job)] == [operator.address]

    async def test_answering_twice(self, aos):
        """The first result counts; another one changes nothing."""
        operator = await aos.keyed(1)
        job = await aos.submit()
        lease = await operator.lease()
        operator.start(lease)
        operator.say(lease, TEXT, TOKENS)
        operator.finish(lease, TEXT, TOKENS)
        operator.finish(lease, "Other.", [9])
        done = await aos.ends(job)
        following = await aos.answered(operator, [])

        assert following.state == pb.JOB_STATE_COMPLETED, "the stream goes on"
        assert (await aos.job(job)).outcome == done.outcome
        assert [one.result for one in await aos.results(job)] == [TEXT]


class TestClocks:
    async def test_a_clock_that_goes_back_ends_the_stream(self, aos):
        """It is refused and recorded; the operator's job goes to another."""
        broken, honest = await aos.many(1, 2)
        await broken.attach(aos.nobody)
        job = await aos.submit()
        lease = await broken.lease()
        await honest.attach(aos.nobody)
        for _ in range(4):
            broken.heartbeat()
        broken.start(lease)
        await aos.until(job, "RUNNING")
        broken.send(heartbeat=pb.Heartbeat(clock=VectorClock(counts={broken.address: 2})))

        assert (await honest.lease()).job == lease.job
        (evidence,) = await aos.recorded()
        assert (evidence.what, evidence.operator, evidence.proves) == ("clock", broken.address, False)
        assert '"after":"2","before":"5"' in evidence.record

    async def test_a_receipt_from_before_the_lease(self, aos):
        """Its clock must count what the operator had counted when it began; else it is refused and on record with the receipt."""
        broken, honest = await aos.many(1, 2)
        await broken.attach(aos.nobody)
        job = await aos.submit()
        lease = await broken.lease()
        await honest.attach(aos.nobody)
        broken.events = 6
        broken.start(lease)
        broken.say(lease, TEXT, TOKENS)
        broken.events = 0
        receipt = broken.finish(lease, TEXT, TOKENS)

        assert (await honest.lease()).job == lease.job
        (evidence,) = await aos.evidence(job=job.name)
        assert (evidence.what, evidence.receipt) == ("clock", receipt)

    async def test_jobs_are_ordered(self, aos):
        """A job that ended before another was made is before it; a job is equal to itself."""
        first, second = await aos.keyed(1), (await aos.many(2))[0]
        one = await aos.answered(first, [])
        first.drop()
        await aos.eventually(lambda: aos_attached(aos), lambda attached: not attached)
        await second.attach(aos.nobody)
        other = await aos.answered(second, [])

        async def order(a: pb.Job, b: pb.Job) -> str:
            said = await aos.project.CompareJobs(pb.CompareJobsRequest(name=a.name, other=b.name), timeout=WAIT)
            return pb.ClockOrder.Name(said.order).removeprefix("CLOCK_ORDER_")

        assert await order(one, other) == "BEFORE"
        assert await order(other, one) == "AFTER"
        assert await order(one, one) == "EQUAL"
        assert first.address in other.clock.counts, "what the dispatcher had heard of by then"

    async def test_jobs_of_two_dispatchers(self, aos):
        """Two that never heard of each other's events: their jobs are CONCURRENT, whichever way one asks."""
        hand, other = await aos.many(1, 2)
        await hand.attach(aos.nobody)
        one = await aos.answered(hand, [])
        await aos.stop()
        aos.settings = replace(aos.settings, node="2")
        await aos.start()
        await other.attach(aos.nobody)
        two = await aos.answered(other, [])

        for a, b in ((one, two), (two, one)):
            said = await aos.project.CompareJobs(pb.CompareJobsRequest(name=a.name, other=b.name))
            assert said.order == pb.CLOCK_ORDER_CONCURRENT
        assert (said.clock.counts.keys(), said.other_clock.counts.keys()) == ({"2", other.address}, {"1", hand.address})


async def aos_attached(aos) -> int:
    return aos.node._relay.attached
