"""Checking answers: who is drawn, what they say, and what it comes to."""

from __future__ import annotations

import asyncio

import pytest_asyncio
from eth_account import Account

from aos.dispatcher.lottery import holds, read_evidence
from aos.dispatcher.risk import RiskSettings
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.types_pb2 import Determinism, Order, Sampling
from aos.verification.keys import OperatorKey
from aos.verification.vrf import VrfKey
from tests.dispatcher.checking import EPOCH, OTHER, OTHERS, TEXT, TOKENS, checking
from tests.dispatcher.conftest import BALANCE
from tests.dispatcher.hand import an_offer
from tests.refusals import refused


@pytest_asyncio.fixture
async def aos(tmp_path):
    async with checking(tmp_path) as harness:
        yield harness


async def claims(*hands) -> None:
    for hand in hands:
        hand.send(claimed=hand.claim(await hand.asked()))


async def leased(*hands) -> list[tuple]:
    """The hands that get a lease, in the order in which they do."""
    reads = {asyncio.create_task(hand.read()): hand for hand in hands}
    done, waiting = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
    return [(reads[one], one.result().lease) for one in done], {reads[one]: one for one in waiting}


class TestVerdict:
    async def test_a_second_operator_agrees(self, aos):
        """A job that two were to run is CHECKED: the caller saw one answer, paid for one, and can see both results."""
        main, second = await aos.many(1, 2)
        await main.attach(aos.nobody)
        job = await aos.answered(main, [second], redundancy=2)
        assert job.verdict == pb.VERDICT_UNCHECKED
        await second.review(TEXT, TOKENS)

        checked = await aos.concluded(job)

        assert checked.verdict == pb.VERDICT_CHECKED
        assert checked.verdict_reason == "2 of 2 wanted operators ran it, 2 agree, step by step."
        results = await aos.results(job)
        assert [(one.operator, one.review) for one in results] == [(main.address, False), (second.address, True)]
        assert {one.reason for one in results} == {"It agrees with more than half."}
        assert all(one.signature for one in results)
        events = await aos.watch(job)
        assert [event.chunk.text for event in events if event.HasField("chunk")] == [TEXT]
        assert await aos.settles() == BALANCE - (3 + 3 * 2), "one answer"

    async def test_the_caller_was_told_something_else(self, aos):
        """A job whose operator is outvoted is CHALLENGED, with both receipts on record."""
        main, *others = await aos.many(1, 2, 3)
        await main.attach(aos.nobody)
        job = await aos.answered(main, others, OTHER, OTHERS, redundancy=3)
        await asyncio.gather(*(one.review(TEXT, TOKENS) for one in others))

        checked = await aos.concluded(job)

        assert checked.verdict == pb.VERDICT_CHALLENGED
        (evidence,) = await aos.evidence(job=job.name)
        assert (evidence.what, evidence.operator, evidence.proves) == ("dissent", main.address, True)
        assert evidence.receipt == job.outcome.receipt
        assert "output_digest" in evidence.fields
        assert f"0x{evidence.against.operator.hex()}" in {one.address for one in others}

    async def test_one_that_checks_is_wrong(self, aos):
        """A reviewer in the minority is on record, and the job is CHECKED all the same."""
        main, *others = await aos.many(1, 2, 3)
        await main.attach(aos.nobody)
        job = await aos.answered(main, others, redundancy=3)
        await asyncio.gather(others[0].review(TEXT, TOKENS), others[1].review(OTHER, OTHERS))

        assert (await aos.concluded(job)).verdict == pb.VERDICT_CHECKED
        (evidence,) = await aos.evidence(job=job.name)
        assert (evidence.what, evidence.operator) == ("dissent", others[1].address)
        reasons = {one.operator: one.reason for one in await aos.results(job)}
        assert reasons[others[1].address].startswith("It differs from what more than half say, in output_digest")

    async def test_a_tie_is_appealed(self, aos):
        """One against one settles nothing: more operators are asked, five in all."""
        main, *others = await aos.many(1, 2, 3, 4, 5)
        await main.attach(aos.nobody)
        job = await aos.answered(main, others, redundancy=2)
        await claims(*others)
        first, waiting = await leased(*others)
        for hand, lease in first:
            hand.start(lease)
            hand.say(lease, OTHER, OTHERS)
            hand.finish(lease, OTHER, OTHERS)
        for hand, read in waiting.items():
            lease = (await read).lease
            hand.start(lease)
            hand.say(lease, TEXT, TOKENS)
            hand.finish(lease, TEXT, TOKENS)

        checked = await aos.concluded(job)

        assert checked.verdict == pb.VERDICT_CHECKED
        assert "5 of 5 wanted operators ran it, 4 agree" in checked.verdict_reason
        assert [one.operator for one in await aos.evidence(job=job.name)] == [first[0][0].address]

    async def test_a_tie_that_stays(self, aos):
        """With nobody left to ask, a job that was to be the same everywhere and is not is CHALLENGED."""
        main, second = await aos.many(1, 2)
        await main.attach(aos.nobody)
        job = await aos.answered(main, [second], redundancy=2)
        await second.review(OTHER, OTHERS)

        checked = await aos.concluded(job)

        assert checked.verdict == pb.VERDICT_CHALLENGED
        assert {one.reason for one in await aos.results(job)} == {"No answer has more than half."}

    async def test_answers_that_may_differ(self, aos):
        """Operators that were not to be exact may differ: nobody is accused, and nothing is confirmed."""
        main, *others = await aos.many(1, 2, 3)
        await main.attach(aos.nobody)
        order = Order(
            model="m",
            prompt="What is AI?",
            sampling=Sampling(max_tokens=100),
            determinism=Determinism.DETERMINISM_BEST_EFFORT,
        )
        made = await aos.project.CreateJob(pb.CreateJobRequest(order=order, redundancy=3))
        lease = await main.lease()
        main.start(lease)
        main.say(lease, OTHER, OTHERS)
        for one in others:
            await one.attach(aos.nobody)
        main.finish(lease, OTHER, OTHERS)
        await aos.ends(made)
        await asyncio.gather(*(one.review(TEXT, TOKENS) for one in others))

        assert (await aos.concluded(made)).verdict == pb.VERDICT_UNCHECKED
        assert not any(one.proves for one in await aos.evidence(job=made.name))


class TestSampling:
    async def test_one_operator_is_a_network(self, aos):
        """Where no other operator is there, the job completes and says that nobody could check it."""
        alone = await aos.keyed(1)
        job = await aos.answered(alone, [], redundancy=3)

        checked = await aos.concluded(job)

        assert (checked.state, checked.verdict) == (pb.JOB_STATE_COMPLETED, pb.VERDICT_UNCHECKED)
        assert checked.redundancy == 3
        assert checked.verdict_reason == "1 of 3 wanted operators ran it, 0 agree; 1 were there."

    async def test_a_width_of_the_whole_draws_everyone(self, tmp_path):
        """The settings' width alone decides, if the caller wants nothing: of all operators all are drawn."""
        async with checking(tmp_path, risk=RiskSettings(plain=10_000)) as aos:
            main, *others = await aos.many(1, 2, 3)
            await main.attach(aos.nobody)
            job = await aos.answered(main, others)
            leases = await asyncio.gather(*(one.review(TEXT, TOKENS) for one in others))

            assert (await aos.concluded(job)).verdict == pb.VERDICT_CHECKED
            assert {one.draw.width for one in leases} == {10_000}
            assert all(one.vrf.selected for one in await aos.results(job))

    async def test_lowest_first(self, aos):
        """Where one of several is wanted, the one with the lowest output gets it: nobody chooses."""
        main, *others = await aos.many(1, 2, 3, 4)
        await main.attach(aos.nobody)
        job = await aos.answered(main, others, redundancy=2)
        claimed = {hand: hand.claim(await hand.asked()) for hand in others}
        for hand, claim in claimed.items():
            hand.send(claimed=claim)
        lowest = min(claimed, key=lambda hand: claimed[hand].vrf.random_value[:8])
        lease = await lowest.lease()
        lowest.start(lease)
        lowest.say(lease, TEXT, TOKENS)
        lowest.finish(lease, TEXT, TOKENS)

        assert (await aos.concluded(job)).verdict == pb.VERDICT_CHECKED
        assert len(await aos.results(job)) == 2

    async def test_limits(self, aos):
        """More operators than a job can have, and tags that there are not, are refused by name."""
        with refused("INVALID_FIELD", field="redundancy", limit="16"):
            await aos.submit(redundancy=17)
        with refused("INVALID_FIELD", field="tag"):
            await aos.submit(tag=9)


class TestBadOperators:
    async def test_a_false_claim_wins_nothing(self, aos):
        """Who lies about its output to be drawn is on record, with its signature, and is not asked."""
        main, liar, honest = await aos.many(1, 2, 3)
        await main.attach(aos.nobody)
        job = await aos.answered(main, [liar, honest], redundancy=2)
        asked = await liar.asked()
        claim = liar.claim(asked)
        claim.vrf.random_value = bytes(64)
        liar.send(claimed=claim)
        await honest.review(TEXT, TOKENS)

        assert (await aos.concluded(job)).verdict == pb.VERDICT_CHECKED
        (evidence,) = await aos.evidence(job=job.name)
        assert (evidence.what, evidence.operator) == ("other_output", liar.address)
        assert holds(read_evidence(evidence.record.encode()))
        assert evidence.message.vrf == claim.vrf
        assert not evidence.proves, "the signature was for the true output"

    async def test_one_that_does_not_answer_the_draw(self, aos):
        """Silence costs the time that a draw may take, and no more."""
        main, silent, honest = await aos.many(1, 2, 3)
        await main.attach(aos.nobody)
        job = await aos.answered(main, [silent, honest], redundancy=2)
        await silent.asked()
        honest.send(claimed=honest.claim(await honest.asked()))
        lease = asyncio.create_task(honest.lease())
        await aos.eventually(lambda: asyncio.sleep(0, lease.done()), bool, step=0.1)
        given = await lease
        honest.start(given)
        honest.say(given, TEXT, TOKENS)
        honest.finish(given, TEXT, TOKENS)

        assert (await aos.concluded(job)).verdict == pb.VERDICT_CHECKED

    async def test_one_that_leaves(self, aos):
        """Another is drawn in place of one that leaves with the lease, gives it up, or answers badly."""
        main, *others = await aos.many(1, 2, 3, 4, 5)
        await main.attach(aos.nobody)
        job = await aos.answered(main, others, redundancy=2)
        await claims(*others)
        bad = [
            lambda hand, lease: hand.drop(),
            lambda hand, lease: hand.fail(lease, "ENGINE_FAILED", retryable=True),
            lambda hand, lease: hand.finish(lease, "Not what was said.", [7]),
            lambda hand, lease: (hand.say(lease, TEXT, TOKENS), hand.finish(lease, TEXT, TOKENS)),
        ]
        reads = {asyncio.create_task(hand.read()): hand for hand in others}
        for act in bad:
            done, _ = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
            (one,) = done
            hand = reads.pop(one)
            act(hand, one.result().lease)

        checked = await aos.concluded(job)

        assert checked.verdict == pb.VERDICT_CHECKED
        assert checked.verdict_reason == "2 of 2 wanted operators ran it, 2 agree, step by step."
        results = await aos.results(job)
        assert [one.review for one in results] == [False, True, True, True, True]
        assert [one.HasField("receipt") for one in results] == [True, False, False, False, True]
        failed = [one.reason for one in results if not one.HasField("receipt")]
        assert failed[:2] == ["It did not check the job: it left, or gave it up."] * 2
        assert "output_digest: is not that of the job" in failed[2]
        assert not any(one.signature or one.result for one in results[1:4])

    async def test_one_that_takes_too_long(self, aos):
        """A reviewer that does not end has its lease taken, and the check its end."""
        main, slow = await aos.many(1, 2)
        await main.attach(aos.nobody)
        job = await aos.answered(main, [slow], redundancy=2)
        await claims(slow)
        lease = await slow.lease()
        slow.start(lease)

        async def look() -> pb.Job:
            main.heartbeat()
            slow.heartbeat()
            return await aos.job(job)

        done = await aos.eventually(look, lambda seen: seen.verdict_reason, step=4.0)

        assert done.verdict == pb.VERDICT_UNCHECKED
        assert await slow.cancelled() == lease.id
        (_, failed) = await aos.results(job)
        assert (failed.operator, failed.reason) == (slow.address, "It did not check the job: it took more than 600 s.")


class TestRestart:
    async def test_a_check_is_not_forgotten(self, aos):
        """A dispatcher that is killed while a job is checked checks it again when it is back."""
        main, second = await aos.many(1, 2)
        await main.attach(aos.nobody)
        job = await aos.answered(main, [second], redundancy=2)
        await claims(second)
        await second.lease()
        await aos.crash()
        await second.attach(aos.nobody)
        reviewing = asyncio.create_task(second.review(TEXT, TOKENS))
        await aos.eventually(lambda: asyncio.sleep(0, reviewing.done()), bool, step=0.1)

        assert (await aos.concluded(job)).verdict == pb.VERDICT_CHECKED
        assert [one.operator for one in await aos.results(job)] == [main.address, second.address]


class TestExact:
    async def test_who_cannot_be_exact_is_not_asked(self, aos):
        """It takes nothing from those that can: the job is exact, and its check waits for nobody who could not do it."""
        main = await aos.keyed(1)
        key = OperatorKey(Account.from_key(bytes([2]) * 32))
        rough = await aos.operator(an_offer(), key=key, vrf=VrfKey(bytes([2]) * 32), attach=False)
        aos.clock.advance(seconds=2 * EPOCH)
        await rough.attach(aos.nobody)
        job = await aos.answered(main, [], redundancy=2)

        assert job.verdict == pb.VERDICT_UNCHECKED
        assert job.verdict_reason.startswith("1 of 2 wanted operators ran it")
