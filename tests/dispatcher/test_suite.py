"""The older ECVRF as the network's: told with each draw, proved, verified, and on record when it is lied about."""

from __future__ import annotations

import pytest
import pytest_asyncio

from aos.dispatcher.lottery import holds, read_evidence
from aos.errors import InvalidField
from aos.v1 import dispatcher_pb2 as pb
from aos.verification.draw import OLD_RANGE
from aos.verification.results import read_draw
from aos.verification.vrf import Suite, verify
from tests.dispatcher.checking import TEXT, TOKENS, checking
from tests.dispatcher.test_claims import finished, signed_again

DRAFT = pb.VRF_SUITE_DRAFT04


@pytest_asyncio.fixture
async def aos(tmp_path):
    async with checking(tmp_path, vrf_suite=Suite.DRAFT04) as harness:
        yield harness


class TestDraft:
    async def test_a_job_is_drawn_for_and_checked_with_it(self, aos):
        """Lease and question name the suite; both proofs verify under it, about the prompt alone, and not under the other."""
        main, second = await aos.many(1, 2)
        await main.attach(aos.nobody)
        job = await aos.answered(main, [second], redundancy=2)
        lease = await second.review(TEXT, TOKENS)

        assert (await aos.concluded(job)).verdict == pb.VERDICT_CHECKED
        assert lease.draw.suite == DRAFT
        draw = read_draw(lease.draw)
        for one, hand in zip(await aos.results(job), (main, second), strict=True):
            assert one.vrf.suite == DRAFT
            assert verify(hand.vrf.public, draw.alpha, one.vrf.proof, Suite.DRAFT04) == one.vrf.random_value
        assert draw.alpha == draw.prompt_hash.hex().encode()

    async def test_a_false_claim_is_evidence(self, aos):
        """The record names the suite, and anyone can run its check again."""
        liar, honest = await aos.many(1, 2)
        await liar.attach(aos.nobody)
        job = await aos.submit()
        lease = await liar.lease()
        await honest.attach(aos.nobody)
        liar.start(lease)
        liar.say(lease, TEXT, TOKENS)
        said = finished(liar, lease)
        said.vrf.selected = not said.vrf.selected
        liar.send(finished=signed_again(liar, lease, said))
        await honest.lease()

        (evidence,) = await aos.evidence(job=job.name)
        record = read_evidence(evidence.record.encode())
        assert (record.draw.suite, holds(record)) == (Suite.DRAFT04, True)

    async def test_a_proof_by_the_other_suite_is_no_claim(self, aos):
        """An operator that knows the newer suite only is refused, and not accused: it says which it used."""
        other, honest = await aos.many(1, 2)
        await other.attach(aos.nobody)
        job = await aos.submit()
        lease = await other.lease()
        await honest.attach(aos.nobody)
        lease.draw.suite = pb.VRF_SUITE_UNSPECIFIED
        other.start(lease)
        other.say(lease, TEXT, TOKENS)
        other.finish(lease, TEXT, TOKENS)

        again = await honest.lease()
        assert again.job == lease.job
        assert await aos.evidence(job=job.name) == []


class TestDraw:
    @pytest.mark.parametrize(
        ("width", "threshold"), [(0, 0), (1_000, 60_000), (1_600, 96_000), (3_000, 180_000), (10_000, OLD_RANGE)]
    )
    def test_widths(self, width, threshold):
        """In the older network's values, as its range of 10 % is widened there."""
        message = pb.Draw(job=bytes(32), prompt_hash=bytes(64), width=width, suite=DRAFT)

        assert read_draw(message).threshold == threshold

    def test_a_suite_that_there_is_not(self):
        """It is refused by name, rather than taken for another."""
        with pytest.raises(InvalidField, match=r"draw\.suite"):
            read_draw(pb.Draw(job=bytes(32), prompt_hash=bytes(64), suite=9))
