"""Checking controlled answers: who may, and what is compared."""

from __future__ import annotations

import asyncio

import pytest_asyncio
from eth_account import Account

from aos.v1 import dispatcher_pb2 as pb
from aos.verification.keys import OperatorKey
from aos.verification.vrf import VrfKey
from tests.dispatcher.checking import EPOCH, checking
from tests.dispatcher.hand import Hand
from tests.dispatcher.runs import STOP, Run, a_run, an_offer, an_order, do_run, finish_run, say_steps
from tests.dispatcher.test_controlled import uploaded


@pytest_asyncio.fixture
async def aos(tmp_path):
    async with checking(tmp_path) as harness:
        yield harness


async def keyed(aos, *numbers: int, controllers: bool = True) -> list[Hand]:
    """Operators that are exact and can be drawn, not attached yet."""
    hands = []
    for number in numbers:
        offer = an_offer()
        offer.exact, offer.controllers = True, controllers
        key = OperatorKey(Account.from_key(bytes([number]) * 32))
        hands.append(await aos.operator(offer, attach=False, key=key, vrf=VrfKey(bytes([number]) * 32)))
    aos.clock.advance(seconds=2 * EPOCH)
    return hands


async def answered(aos, main: Hand, others: list[Hand], run: Run, redundancy: int = 2) -> pb.Job:
    """A job that one operator has run, with others attached that could check it."""
    controller = await uploaded(aos)
    await main.attach(aos.nobody)
    job = await aos.project.CreateJob(pb.CreateJobRequest(order=an_order(controller), redundancy=redundancy))
    lease = await main.lease()
    main.start(lease)
    say_steps(main, lease, run.steps)
    for one in others:
        await one.attach(aos.nobody)
    finish_run(main, lease, run)
    return await aos.ends(job)


async def review(hand: Hand, run: Run) -> pb.Lease:
    hand.send(claimed=hand.claim(await hand.asked()))
    lease = await hand.lease()
    do_run(hand, lease, run)
    return lease


class TestReview:
    async def test_agrees_step_by_step(self, aos):
        """A second operator that runs the controller to the same steps agrees, whatever its logs and times."""
        main, second = await keyed(aos, 1, 2)
        job = await answered(aos, main, [second], a_run("a", "b"))
        again = a_run("a", "b")
        again.steps[0].branches[0].micros += 1
        again.steps[1].branches[0].logs = "other"

        lease = await review(second, again)

        assert lease.order == job.order
        assert not lease.accepted_tokens
        checked = await aos.concluded(job)
        assert checked.verdict == pb.VERDICT_CHECKED
        assert checked.verdict_reason == "2 of 2 wanted operators ran it, 2 agree, step by step."

    async def test_sees_what_the_answer_does_not_show(self, aos):
        """Two runs of one answer whose controllers decided otherwise on the way are not the same."""
        main, *others = await keyed(aos, 1, 2, 3)
        job = await answered(aos, main, others, a_run("a", "b"), redundancy=3)
        detour = Run().round("a", [10]).round(sampled=False).round("b", [11]).round(end=STOP)
        await asyncio.gather(*(review(one, detour) for one in others))

        assert (await aos.concluded(job)).verdict == pb.VERDICT_CHALLENGED
        (evidence,) = await aos.evidence(job=job.name)
        assert (evidence.what, evidence.operator) == ("dissent", main.address)
        assert list(evidence.fields) == ["completion_tokens", "steps"]

    async def test_is_only_by_operators_that_run_controllers(self, aos):
        """Others are not drawn; the job says that it could not be checked."""
        (main,) = await keyed(aos, 1)
        (plain,) = await keyed(aos, 2, controllers=False)
        job = await answered(aos, main, [plain], a_run("a"))

        checked = await aos.concluded(job)

        assert checked.verdict == pb.VERDICT_UNCHECKED
        assert "1 of 2 wanted operators ran it" in checked.verdict_reason
