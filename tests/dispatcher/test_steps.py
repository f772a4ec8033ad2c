"""Answers that are the same and were computed otherwise; operators that state a profile that nobody else has."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from aos.dispatcher.checks import Risk, alone, conclude
from aos.dispatcher.risk import RiskSettings
from aos.dispatcher.verdict import Ruling, judge
from aos.store.sqlite import SqliteFile
from aos.v1 import dispatcher_pb2 as pb
from aos.verification.receipts import address
from aos.verification.states import header
from tests.dispatcher.checking import OTHER, OTHERS, TEXT, TOKENS, checking
from tests.dispatcher.test_verdict import AVX2, AVX512, receipt

OWN = {"profile": "of my own"}


@pytest_asyncio.fixture
async def aos(tmp_path):
    async with checking(tmp_path) as harness:
        yield harness


def root(operator: int, steps: int) -> tuple[bytes, bytes]:
    """An operator's `state_root`, which is its own, and the root over steps that it is of."""
    return bytes([operator, steps]) * 16, bytes([steps]) * 32


def judged(*said: tuple[int, int, str], exact: bool = True):
    """What answers, steps and profiles come to, one operator each."""
    roots = [root(index, steps) for index, (_, steps, _) in enumerate(said)]
    receipts = [receipt(index, one[0], profile=one[2], state_root=roots[index][0]) for index, one in enumerate(said)]
    return judge(receipts, exact=exact, steps=dict(roots))


class TestSteps:
    def test_one_profile_is_compared_step_by_step(self):
        """Of three with one text, the one that computed it otherwise is in the minority, and two receipts cannot both be true."""
        verdict = judged((0, 1, AVX2), (0, 2, AVX2), (0, 1, AVX2))

        assert verdict.ruling is Ruling.MAJORITY
        assert [(one.fields, one.proves) for one in verdict.dissents] == [(("steps",), True)]

    def test_other_profiles_are_not(self):
        """Builds for other instructions have other bits: their texts are compared, and that is all."""
        verdict = judged((0, 1, AVX2), (0, 2, AVX512), (0, 1, AVX2))

        assert (verdict.ruling, len(verdict.standing)) == (Ruling.AGREED, 3)

    def test_best_effort_is_not(self):
        """What need not be exact may have any steps."""
        assert judged((0, 1, AVX2), (0, 2, AVX2), exact=False).ruling is Ruling.AGREED

    def test_two_against_each_other(self):
        """With one text and two sets of steps nothing stands: more operators are needed."""
        verdict = judged((0, 1, AVX2), (0, 2, AVX2))

        assert (verdict.ruling, len(verdict.undecided)) == (Ruling.TIED, 2)

    def test_a_quarrel_of_one_profile_is_its_own(self):
        """It takes nothing from the others' answer: they stand, and the two that contradict each other do not."""
        verdict = judged((0, 1, AVX512), (0, 1, AVX512), (0, 1, AVX512), (0, 2, AVX2), (0, 3, AVX2))

        assert (verdict.ruling, len(verdict.standing), len(verdict.undecided)) == (Ruling.MAJORITY, 3, 2)

    @given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 3), st.sampled_from([AVX512, AVX2])), max_size=8))
    def test_everyone_is_somewhere_once(self, said):
        """Whatever they say; and of one profile no two stand with other steps."""
        verdict = judged(*said)
        named = [*verdict.standing, *(one.receipt for one in verdict.dissents), *verdict.undecided]

        assert sorted(address(one) for one in named) == sorted(address(receipt(index)) for index in range(len(said)))
        for profile in (AVX512, AVX2):
            assert len({one.state_root[1] for one in verdict.standing if one.profile == profile}) <= 1


class TestReason:
    @pytest.mark.parametrize(
        ("profiles", "agree"),
        [
            ((AVX2, AVX2), "2 agree, step by step"),
            ((AVX2, AVX512), "2 agree in their outputs, being of different profiles"),
            ((AVX2, AVX2, AVX512), "3 agree, 2 of them step by step and the others, of another profile, in their outputs"),
        ],
    )
    def test_it_says_what_was_compared(self, profiles, agree):
        """Steps within a profile, outputs between two."""
        results = []
        for index, profile in enumerate(profiles):
            state, steps = root(index, 1)
            one = receipt(index, profile=profile, state_root=state)
            results.append(pb.JobResult(operator=address(one), receipt=one, roots=pb.StateRoots(steps=steps)))
        found = conclude(results, main=results[0].operator, exact=True, wanted=2, there=len(results))

        assert found.verdict == pb.VERDICT_CHECKED
        assert found.reason == f"{len(results)} of {len(results)} wanted operators ran it, {agree}."


class TestSameTextOtherSteps:
    async def test_a_tie(self, aos):
        """The caller's text is the other's; what computed it is not the same, so one of them lies: CHALLENGED, not CHECKED."""
        main, second = await aos.many(1, 2)
        await main.attach(aos.nobody)
        job = await aos.answered(main, [second], redundancy=2)
        await second.review(TEXT, TOKENS, logits=1)

        assert (await aos.concluded(job)).verdict == pb.VERDICT_CHALLENGED

    async def test_the_evidence_can_be_checked(self, aos):
        """What is on record recomputes both receipts' `state_root`, by anyone, and shows the steps to be others."""
        main, *others = await aos.many(1, 2, 3)
        await main.attach(aos.nobody)
        job = await aos.answered(main, others, says={"logits": 1}, redundancy=3)
        await asyncio.gather(*(one.review(TEXT, TOKENS) for one in others))

        assert (await aos.concluded(job)).verdict == pb.VERDICT_CHALLENGED
        (found,) = await aos.evidence(job=job.name)
        assert (found.what, found.operator, found.fields, found.proves) == ("dissent", main.address, ["steps"], True)
        assert header(found.receipt, found.receipt_roots).state_root == found.receipt.state_root
        assert header(found.against, found.against_roots).state_root == found.against.state_root
        assert found.receipt_roots.steps != found.against_roots.steps
        (first, *_) = await aos.results(job)
        assert first.roots == found.receipt_roots


class TestProfilesOfTheirOwn:
    async def test_it_does_not_help_to_be_alone(self, aos):
        """Who lies and states a profile that nobody else has is not let off as UNCHECKED: CHALLENGED, though it proves nothing."""
        main, *others = await aos.many(1, 2, 3)
        await main.attach(aos.nobody)
        job = await aos.answered(main, others, OTHER, OTHERS, says=OWN, redundancy=3)
        await asyncio.gather(*(one.review(TEXT, TOKENS) for one in others))

        assert (await aos.concluded(job)).verdict == pb.VERDICT_CHALLENGED
        assert [(one.operator, one.proves) for one in await aos.evidence(job=job.name)] == [(main.address, False)]

    async def test_nor_where_nobody_else_can_be_asked(self, aos):
        """Two profiles, two answers, one network: the job was to be the same everywhere, and is not."""
        main, second = await aos.many(1, 2)
        await main.attach(aos.nobody)
        job = await aos.answered(main, [second], OTHER, OTHERS, says=OWN, redundancy=2)
        await second.review(TEXT, TOKENS)

        assert (await aos.concluded(job)).verdict == pb.VERDICT_CHALLENGED

    async def test_honest_ones_agree(self, aos):
        """A build of its own with the same text is no liar: CHECKED, and the reason says that the text is all that was compared."""
        main, second = await aos.many(1, 2)
        await main.attach(aos.nobody)
        job = await aos.answered(main, [second], says=OWN | {"logits": 1}, redundancy=2)
        await second.review(TEXT, TOKENS)

        checked = await aos.concluded(job)
        assert checked.verdict == pb.VERDICT_CHECKED
        assert checked.verdict_reason.endswith("2 agree in their outputs, being of different profiles.")


class TestNobodyToCheck:
    async def test_it_is_said_with_the_end(self, aos):
        """Where nobody else is there, what ends the job says so: there is no check to wait for, nor one after a crash."""
        main = await aos.keyed(1)
        job = await aos.answered(main, [], redundancy=3)
        await aos.crash()

        seen = await aos.job(job)
        (result,) = await aos.results(job)
        assert (seen.verdict, seen.verdict_reason) == (pb.VERDICT_UNCHECKED, job.verdict_reason)
        assert job.verdict_reason == "1 of 3 wanted operators ran it, 0 agree; 1 were there."
        assert result.reason == ""

    async def test_it_costs_no_transaction(self, tmp_path, monkeypatch):
        """A job that is to be checked, and that nobody can check, asks the store nothing about checks."""
        asked, real = list[str](), SqliteFile.transact

        async def counted(file: SqliteFile, work, **how):
            asked.append(work.__qualname__)
            return await real(file, work, **how)

        async with checking(tmp_path, risk=RiskSettings(plain=10_000)) as aos:
            main = await aos.keyed(1)
            monkeypatch.setattr(SqliteFile, "transact", counted)
            job = await aos.answered(main, [])
            await aos.settles()

            assert job.verdict_reason == "1 of 1 wanted operators ran it, 0 agree."
            assert [one for one in asked if one.startswith("SqlJobStore")], "they are seen by their names"
            assert [one for one in asked if one.startswith("SqlCheckStore")] == []

    async def test_those_who_could_not_do_not_count(self, aos):
        """An operator without a VRF key in force, and one that offers other weights, check nothing."""
        main = await aos.keyed(1)
        await aos.operator()
        job = await aos.answered(main, [], redundancy=2)

        assert job.verdict_reason == "1 of 2 wanted operators ran it, 0 agree; 1 were there."

    async def test_nobody_was_wanted(self, aos):
        """A job that nobody was to check has no reason."""
        main, second = await aos.keyed(1), await aos.keyed(2)
        job = await aos.answered(main if main.address < second.address else second, [])

        assert (job.verdict, job.verdict_reason) == (pb.VERDICT_UNCHECKED, "")

    def test_it_is_what_a_check_would_say(self):
        """The words are those of a check that finds nobody."""
        result = pb.JobResult(operator="0x" + "00" * 20, receipt=receipt(0))
        found = conclude([result], main=result.operator, exact=True, wanted=4, there=1)

        assert alone(Risk(redundancy=4, exact=True)) == found.reason
