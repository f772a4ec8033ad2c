"""What the dispatcher does about operators that fail, are idle or answer wrongly, and what it says about them."""

from __future__ import annotations

import pytest
import pytest_asyncio

from aos.dispatcher.canaries import AT_ONCE, CALLERS_FAULT, YOUNG_SECONDS
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.types_pb2 import Determinism
from tests.dispatcher.conftest import running
from tests.dispatcher.hand import an_offer

OPEN, IDLE, ANSWER = 30.0, 300.0, 60.0
HEALTHY, SUSPECT, BROKEN = pb.HEALTH_STATE_HEALTHY, pb.HEALTH_STATE_SUSPECT, pb.HEALTH_STATE_OPEN
TEXT, TOKENS = " four, five", (4, 5)


@pytest_asyncio.fixture
async def aos(tmp_path):
    """A dispatcher whose operators may be silent for long."""
    async with running(tmp_path, heartbeat_seconds=1e6, canary_seconds=ANSWER) as harness:
        yield harness


def exact_offer(**changes):
    offer = an_offer(**changes)
    offer.exact = True
    return offer


async def health(aos, operator, by=None) -> pb.OperatorHealth:
    listed = (await (by or aos.project).ListHealth(pb.ListHealthRequest())).health
    return next(one for one in listed if one.operator == operator.address)


async def becomes(aos, operator, state) -> pb.OperatorHealth:
    return await aos.eventually(lambda: health(aos, operator), lambda seen: seen.state == state)


async def broken(aos):
    """An operator that failed three jobs."""
    operator = await aos.operator()
    for number in range(3):
        job = await aos.submit()
        operator.fail(await operator.lease(), "ENGINE_FAILED", retryable=True, message="out of order")
        if number < 2:  # then it is still given the job again, being the only one
            lease = await operator.lease()
            await aos.project.CancelJob(pb.CancelJobRequest(name=job.name))
            assert await operator.cancelled() == lease.id
        else:
            await becomes(aos, operator, BROKEN)
            await aos.project.CancelJob(pb.CancelJobRequest(name=job.name))
    return operator


def answer(operator, lease, text=TEXT, tokens=TOKENS, **changes) -> None:
    operator.start(lease)
    operator.say(lease, text, tokens)
    operator.finish(lease, text, tokens, **changes)


class TestBroken:
    async def test_it_gets_no_jobs_until_a_canary_comes_back(self, aos):
        """Three jobs failed: the next waits and says why, and the answer to a canary brings it, within the interval."""
        operator = await broken(aos)
        job = await aos.submit()
        told = await aos.project.ExplainJob(pb.ExplainJobRequest(name=job.name))
        assert told.operators[0].reason == "does not work: out of order"
        assert told.operators[0].health == BROKEN
        assert told.operators[0].next_probe == (await health(aos, operator)).next_probe
        aos.clock.advance(seconds=OPEN)
        canary = await operator.lease()
        assert (canary.tenant, canary.priority, canary.order.sampling.max_tokens) == (canary.id, -9, 8)
        assert canary.id.startswith("canary/")
        answer(operator, canary)
        lease = await operator.lease()

        assert f"jobs/{lease.job.hex()}" == job.name
        assert (await health(aos, operator)).state == HEALTHY

    async def test_a_canary_costs_nobody_anything(self, aos):
        """It is no job: no list shows it and no account pays."""
        operator = await broken(aos)
        before = await aos.settles()
        aos.clock.advance(seconds=OPEN)
        answer(operator, await operator.lease())
        await becomes(aos, operator, HEALTHY)

        assert await aos.settles() == before
        assert len((await aos.admin.ListJobs(pb.ListJobsRequest())).jobs) == 3

    @pytest.mark.parametrize("how", ["fails", "lies", "is silent"])
    async def test_a_canary_that_fails(self, aos, how):
        """It stays without jobs, and is looked at again after the interval."""
        operator = await broken(aos)
        aos.clock.advance(seconds=OPEN)
        canary = await operator.lease()
        match how:
            case "fails":
                operator.fail(canary, "ENGINE_FAILED", retryable=True, message="still no")
            case "lies":
                answer(operator, canary, usage=None, model_digest=b"\xbb" * 32)
            case _:
                aos.clock.advance(seconds=ANSWER)
                assert await operator.cancelled() == canary.id
        words = {
            "fails": "it failed a canary: still no",
            "lies": "model_digest",
            "is silent": "did not answer a canary within 60 s",
        }
        seen = await aos.eventually(lambda: health(aos, operator), lambda one: words[how] in one.reason)
        assert seen.state == BROKEN
        aos.clock.advance(seconds=OPEN)
        answer(operator, await operator.lease())
        await becomes(aos, operator, HEALTHY)

    @pytest.mark.parametrize("reason", sorted(CALLERS_FAULT))
    async def test_a_model_that_cannot_take_it(self, aos, reason):
        """An operator that refuses the canary itself has looked at it: it works."""
        operator = await broken(aos)
        aos.clock.advance(seconds=OPEN)
        operator.fail(await operator.lease(), reason, retryable=False)

        assert (await becomes(aos, operator, HEALTHY)).reason == ""

    async def test_coming_back(self, aos):
        """One that attaches anew is looked at at once: it need not wait for the interval."""
        operator = await broken(aos)
        operator.drop()
        await aos.eventually(lambda: health(aos, operator), lambda seen: not seen.attached)
        assert (await health(aos, operator)).reason == "out of order; it is not attached"
        await operator.attach(aos.nobody)
        answer(operator, await operator.lease())

        assert (await becomes(aos, operator, HEALTHY)).attached


class TestSwallowed:
    async def test_it_costs_no_time(self, aos):
        """Who works again gets jobs within the interval, though a canary before was never answered and has time left."""
        operator = await broken(aos)
        aos.clock.advance(seconds=OPEN)
        swallowed = await operator.lease()
        aos.clock.advance(seconds=OPEN)
        answer(operator, await operator.lease())
        assert await operator.cancelled() == swallowed.id
        await becomes(aos, operator, HEALTHY)
        job = await aos.submit("The next?")

        assert f"jobs/{(await operator.lease()).job.hex()}" == job.name
        assert (await health(aos, operator)).running == 1, "what was swallowed takes no place any more"

    async def test_two_at_most(self, tmp_path):
        """The oldest has all its time, as a model that is being loaded needs it; the latest takes the place of the one before."""
        async with running(tmp_path, heartbeat_seconds=1e6, canary_seconds=1e5) as aos:
            operator = await broken(aos)
            leases = []
            for number in range(4):
                aos.clock.advance(seconds=OPEN)
                messages = [await operator.read() for _ in range(2 if number > 1 else 1)]
                leases += [one.lease for one in messages if one.HasField("lease")]
                assert [one.cancel.lease for one in messages if one.HasField("cancel")] == [one.id for one in leases[1:-1][-1:]]
            answer(operator, leases[0])

            assert (await becomes(aos, operator, HEALTHY)).running == 0
            assert await operator.cancelled() == leases[-1].id

    async def test_it_blocks_nobody(self, aos):
        """The others are looked at all the same, a few seconds later."""
        hands = [await aos.operator() for _ in range(AT_ONCE + 1)]
        aos.clock.advance(seconds=IDLE)
        for hand in hands[:AT_ONCE]:
            await hand.lease()
        aos.clock.advance(seconds=YOUNG_SECONDS)

        assert (await hands[-1].lease()).id.startswith("canary/")


class TestOutcomes:
    async def test_another_one_serves(self, aos):
        """A job that one operator failed is answered by another, and the one that failed comes last from then on."""
        one, other = sorted([await aos.operator(), await aos.operator()], key=lambda hand: hand.address)
        job = await aos.submit()
        one.fail(await one.lease(), "ENGINE_FAILED", retryable=True)
        answer(other, await other.lease())
        assert (await aos.ends(job)).operator == other.address
        assert (await becomes(aos, one, SUSPECT)).failures == 1
        again = await aos.submit("Something else?")
        await other.lease()
        told = await aos.project.ExplainJob(pb.ExplainJobRequest(name=again.name))

        assert told.choice == "The others may not work."
        assert [hand.health for hand in told.operators] == [HEALTHY, SUSPECT]

    @pytest.mark.parametrize("reason", ["DEADLINE", "QUEUE_FULL", "SHUTTING_DOWN"])
    async def test_what_is_nobodys_fault(self, aos, reason):
        """A deadline, a full queue or a shutdown says nothing of whether it works."""
        operator, other = sorted([await aos.operator(), await aos.operator()], key=lambda hand: hand.address)
        job = await aos.submit()
        operator.fail(await operator.lease(), reason, retryable=True)
        answer(other, await other.lease())
        await aos.ends(job)

        assert (await health(aos, operator)).state == HEALTHY

    async def test_the_callers_fault_and_cancellation(self, aos):
        """An order that cannot be computed and a job that its caller ends say nothing either."""
        operator = await aos.operator()
        job = await aos.submit()
        operator.fail(await operator.lease(), "CONTEXT_OVERFLOW", retryable=False)
        await aos.until(job, "FAILED")
        job = await aos.submit()
        lease = await operator.lease()
        await aos.project.CancelJob(pb.CancelJobRequest(name=job.name))
        assert await operator.cancelled() == lease.id

        assert (await health(aos, operator)).state == HEALTHY

    async def test_a_stream_that_breaks(self, aos):
        """Counts once, however many jobs it had."""
        operator = await aos.operator()
        for _ in range(2):
            await aos.submit()
            await operator.lease()
        operator.drop()
        seen = await becomes(aos, operator, SUSPECT)

        assert (seen.failures, seen.attached, seen.reason) == (
            1,
            False,
            "its stream ended while it had jobs: 2; it is not attached",
        )

    async def test_a_bad_receipt(self, aos):
        """Counts, with what was wrong in it."""
        one, other = sorted([await aos.operator(), await aos.operator()], key=lambda hand: hand.address)
        job = await aos.submit()
        one.finish(await one.lease(), "", (), model_digest=b"\xbb" * 32)
        answer(other, await other.lease())
        await aos.ends(job)

        assert "model_digest" in (await becomes(aos, one, SUSPECT)).reason


class TestIdle:
    async def test_exact_answers_are_compared(self, aos):
        """Of three idle operators the one that says something else gets no jobs, and its state says why, until it says the same."""
        hands = [await aos.operator(exact_offer()) for _ in range(3)]
        aos.clock.advance(seconds=IDLE)
        leases = [await hand.lease() for hand in hands]
        assert {lease.order.determinism for lease in leases} == {Determinism.DETERMINISM_EXACT}
        for hand, lease in zip(hands[:2], leases[:2], strict=True):
            answer(hand, lease)
            await aos.eventually(lambda hand=hand: health(aos, hand), lambda one: one.running == 0)
        answer(hands[2], leases[2], " nine", (9,))
        assert (await becomes(aos, hands[2], BROKEN)).reason == (
            "it answered the canary otherwise than 2 operators with the same weights and profile (by hand)"
        )
        aos.clock.advance(seconds=OPEN)
        answer(hands[2], await hands[2].lease())
        await becomes(aos, hands[2], HEALTHY)

    async def test_answers_that_may_differ(self, aos):
        """Operators that are not exact are only to answer."""
        hands = [await aos.operator() for _ in range(3)]
        aos.clock.advance(seconds=IDLE)
        for number, hand in enumerate(hands):
            answer(hand, await hand.lease(), f"{number}", (number,))
            await aos.eventually(lambda hand=hand: health(aos, hand), lambda one: one.running == 0)

        assert {(await health(aos, hand)).state for hand in hands} == {HEALTHY}

    async def test_who_has_jobs_is_left_alone(self, aos):
        """While a job runs, and for the interval after it, no canary comes."""
        operator = await aos.operator()
        job = await aos.submit()
        lease = await operator.lease()
        aos.clock.advance(seconds=IDLE)
        answer(operator, lease)
        await aos.ends(job)
        await aos.submit("The next?")

        assert not (await operator.lease()).id.startswith("canary/")

    async def test_turned_off(self, tmp_path):
        """With intervals of 0 nothing is planned, and failures keep no jobs away."""
        off = {"canary_open_seconds": 0, "canary_idle_seconds": 0}
        async with running(tmp_path, heartbeat_seconds=1e6, max_attempts=50, **off) as aos:
            operator = await aos.operator()
            for _ in range(4):
                job = await aos.submit()
                operator.fail(await operator.lease(), "ENGINE_FAILED", retryable=True)
                lease = await operator.lease()
                await aos.project.CancelJob(pb.CancelJobRequest(name=job.name))
                assert await operator.cancelled() == lease.id
            seen = await health(aos, operator)

        assert (seen.state, seen.HasField("next_probe")) == (SUSPECT, False)


class TestListHealth:
    async def test_in_pages(self, aos):
        """Each operator's models, in order, a page at a time; only one model's if that is asked."""
        hands = [await aos.operator(an_offer(), an_offer("n")) for _ in range(2)]
        wanted, seen, token = sorted((hand.address, model) for hand in hands for model in "mn"), [], ""
        for _ in wanted:
            page = await aos.project.ListHealth(pb.ListHealthRequest(page_size=1, page_token=token))
            seen, token = seen + [(one.operator, one.model) for one in page.health], page.next_page_token

        assert (seen, token) == (wanted, "")
        only = (await aos.project.ListHealth(pb.ListHealthRequest(model="n"))).health
        assert {(one.model, one.state, one.attached, one.slots) for one in only} == {("n", HEALTHY, True, 2)}

    async def test_a_silent_one(self, tmp_path):
        """An operator whose heartbeat is overdue is suspect before it is given up, and jobs go to the others."""
        async with running(tmp_path, missed_heartbeats=1000) as aos:
            silent, heard = sorted([await aos.operator(), await aos.operator()], key=lambda hand: hand.address)
            aos.clock.advance(seconds=6)
            heard.heartbeat()
            await becomes(aos, heard, HEALTHY)
            await aos.submit()
            assert not (await heard.lease()).id.startswith("canary/")
            seen = await health(aos, silent)

        assert (seen.state, seen.reason) == (SUSPECT, "it is silent: its heartbeat is overdue")


class TestExact:
    async def test_one_that_cannot_takes_nothing_from_the_others(self, aos):
        """Jobs that are to be exact, or leave it open, go to the operator that can; the others get those that need not be."""
        can, cannot = await aos.operator(exact_offer()), await aos.operator(an_offer())
        left_open = await aos.submit()
        await can.lease()
        told = await aos.project.ExplainJob(pb.ExplainJobRequest(name=left_open.name))
        assert {one.operator: one.reason for one in told.operators}[cannot.address] == "cannot be exact"
        await aos.submit("Another?")
        await can.lease()
        waits = await aos.submit("A third?")
        told = await aos.project.ExplainJob(pb.ExplainJobRequest(name=waits.name))
        assert not any(one.free for one in told.operators)
        await aos.crash()
        await can.attach(aos.nobody)
        await cannot.attach(aos.nobody)

        assert [(await can.lease()).order.prompt for _ in range(2)]
        told = await aos.project.ExplainJob(pb.ExplainJobRequest(name=waits.name))
        assert not any(one.free for one in told.operators), "what is to be exact stays so after a crash"
