"""What several operators' receipts for one job say together."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.dispatcher.verdict import ASKED, Ruling, VerdictSettings, appeal, differing, judge
from aos.errors import BadReceipt
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import FINISH_REASON_STOP, Usage, VectorClock
from aos.verification.receipts import address

AVX512, AVX2 = "llama.cpp AVX512", "llama.cpp AVX2"


def receipt(operator: int, answer: int = 0, *, profile: str = AVX512, **changes) -> Receipt:
    """One operator's; what is its own, price, clock and time, differs from all others'."""
    fields = {
        "job": bytes(32),
        "request_digest": b"r" * 32,
        "model_digest": b"m" * 32,
        "parameters": "{}",
        "seed": 5,
        "prompt_digest": b"p" * 32,
        "output_digest": bytes([answer]) * 32,
        "output_tokens_digest": bytes([answer]) * 32,
        "usage": Usage(prompt_tokens=3, completion_tokens=4),
        "finish_reason": FINISH_REASON_STOP,
        "price": str(operator),
        "clock": VectorClock(counts={str(operator): 1}),
        "issued_at": 1000 + operator,
        "operator": operator.to_bytes(20, "big"),
        "signature": bytes([operator % 256]) * 65,
    } | changes
    return Receipt(profile=profile, **fields)


votes = st.lists(st.integers(0, 3), max_size=9)
said = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.sampled_from([AVX512, AVX2])), max_size=10)


def cast(answers: list[int]) -> list[Receipt]:
    return [receipt(index, answer) for index, answer in enumerate(answers)]


def operators(receipts) -> list[str]:
    return [address(one) for one in receipts]


class TestMajority:
    @given(st.integers(2, 9))
    def test_all_the_same(self, count):
        """Price, clock and time are each operator's own: equal answers agree."""
        verdict = judge(cast([0] * count), exact=True)

        assert verdict.ruling is Ruling.AGREED
        assert len(verdict.standing) == count
        assert (verdict.dissents, verdict.undecided, verdict.contradictions) == ((), (), ())

    def test_one_of_three_differs(self):
        """The two stand; the third has their receipt against its own, and the fields in which it differs."""
        receipts = cast([0, 1, 0])
        verdict = judge(receipts, exact=True)

        assert verdict.ruling is Ruling.MAJORITY
        assert list(verdict.standing) == [receipts[0], receipts[2]]
        (dissent,) = verdict.dissents
        assert (dissent.receipt, dissent.against) == (receipts[1], receipts[0])
        assert dissent.fields == ("output_digest", "output_tokens_digest")
        assert dissent.proves

    @given(votes)
    def test_more_than_half_stand_and_nothing_less(self, answers):
        """An answer stands if and only if more than half of at least two operators gave it."""
        verdict = judge(cast(answers), exact=True)
        most = max((answers.count(one) for one in answers), default=0)

        stands = len(answers) >= 2 and most > len(answers) / 2
        assert (verdict.ruling in {Ruling.AGREED, Ruling.MAJORITY}) == stands == bool(verdict.standing)
        assert (verdict.ruling is Ruling.ALONE) == (len(answers) < 2)

    @given(votes, st.randoms(use_true_random=False))
    def test_the_order_they_come_in_does_not_matter(self, answers, random):
        """Who answers first gains nothing, ties included."""
        receipts = cast(answers)
        shuffled = list(receipts)
        random.shuffle(shuffled)
        assert judge(shuffled, exact=True) == judge(receipts, exact=True)

    @given(votes)
    def test_one_more_that_agrees_changes_nobodys_mind(self, answers):
        """What stands still stands when another operator says the same."""
        verdict = judge(cast(answers), exact=True)
        if not verdict.standing:
            return
        (answer,) = {answers[int(one.price)] for one in verdict.standing}
        grown = judge([*cast(answers), receipt(99, answer)], exact=True)
        assert set(operators(verdict.standing)) < set(operators(grown.standing))

    @pytest.mark.parametrize(("count", "stands"), [(7, False), (8, True)])
    def test_a_larger_share_can_be_asked_for(self, count, stands):
        """With two thirds, more than two thirds of eleven are needed."""
        settings = VerdictSettings(share=Fraction(2, 3))
        verdict = judge(cast([0] * count + list(range(1, 12 - count))), exact=True, settings=settings)
        assert bool(verdict.standing) == stands

    def test_more_operators_can_be_asked_for(self):
        """Fewer than the least decide nothing, even if they agree."""
        verdict = judge(cast([0, 0]), exact=True, settings=VerdictSettings(least=3))
        assert (verdict.ruling, len(verdict.undecided)) == (Ruling.ALONE, 2)

    @pytest.mark.parametrize("change", [{"share": Fraction(1, 3)}, {"share": Fraction(1)}, {"least": 0}])
    def test_what_cannot_work_is_refused(self, change):
        """With less than half, two answers could stand; with the whole, none."""
        with pytest.raises(ValueError, match=next(iter(change))):
            VerdictSettings(**change)


class TestTies:
    @pytest.mark.parametrize("answers", [[0, 1], [0, 0, 1, 1], [0, 1, 2], [0, 0, 1, 2]])
    def test_nobody_stands(self, answers):
        """Without a majority nobody is right and nobody is blamed."""
        verdict = judge(cast(answers), exact=True)

        assert verdict.ruling is Ruling.TIED
        assert len(verdict.undecided) == len(answers)
        assert (verdict.standing, verdict.dissents) == ((), ())

    @given(st.integers(1, 50), st.integers(0, 101))
    def test_an_appeal_settles_between_two(self, asked, one):
        """Asked in all, operators with two answers cannot be tied again."""
        count = appeal(asked)
        split = min(one, count)
        assert max(split, count - split) > count / 2
        assert count > asked

    def test_no_receipts(self):
        """Nothing comes to nothing."""
        assert judge([], exact=True).ruling is Ruling.ALONE


class TestWhatItProves:
    def test_another_profile_proves_nothing(self):
        """Two builds may honestly differ in a bit: the minority is on record, and not blamed."""
        verdict = judge([receipt(1), receipt(2), receipt(3, 1, profile=AVX2)], exact=True)
        assert [one.proves for one in verdict.dissents] == [False]

    def test_the_same_profile_among_those_that_stand_does(self):
        """It is set against the one that stands and ran the same build, if there is one."""
        verdict = judge([receipt(1), receipt(2, profile=AVX2), receipt(3, 1, profile=AVX2)], exact=True)
        assert [(one.against.price, one.proves) for one in verdict.dissents] == [("2", True)]

    @given(said)
    def test_best_effort_blames_nobody(self, given_):
        """A job that need not be exact may come out differently."""
        assert not any(one.proves for one in judge([receipt(*one[:2], profile=one[2]) for one in given_], exact=False).dissents)

    @given(said)
    def test_a_proof_is_two_receipts_that_cannot_both_be_true(self, given_):
        """Whatever came in: what proves has two operators, one profile, one question and two answers."""
        for one in judge([receipt(*one[:2], profile=one[2]) for one in given_], exact=True).dissents:
            assert one.fields == differing(one.receipt, one.against) != ()
            assert one.receipt.operator != one.against.operator
            assert not one.proves or one.receipt.profile == one.against.profile
            assert all(getattr(one.receipt, name) == getattr(one.against, name) for name in ASKED)

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"output_digest": b"x" * 32}, "output_digest"),
            ({"output_tokens_digest": b"x" * 32}, "output_tokens_digest"),
            ({"prompt_digest": b"x" * 32}, "prompt_digest"),
            ({"usage": Usage(prompt_tokens=4, completion_tokens=4)}, "prompt_tokens"),
            ({"usage": Usage(prompt_tokens=3, completion_tokens=5)}, "completion_tokens"),
            ({"finish_reason": 2}, "finish_reason"),
        ],
    )
    def test_every_part_of_an_answer_counts(self, change, field):
        """Text, tokens, counts and the reason for the end are compared to the bit."""
        (dissent,) = judge([receipt(1), receipt(2), receipt(3, **change)], exact=True).dissents
        assert dissent.fields == (field,)


class TestOneWordEach:
    @given(said)
    def test_every_operator_is_somewhere_once(self, given_):
        """However often operators speak: each is among those that stand, differ, are undecided or contradict themselves, once."""
        verdict = judge([receipt(*one[:2], profile=one[2]) for one in given_], exact=True)
        named = [
            *operators(verdict.standing),
            *operators(one.receipt for one in verdict.dissents),
            *operators(verdict.undecided),
            *operators(one.one for one in verdict.contradictions),
        ]
        assert sorted(named) == sorted({f"0x{one[0]:040x}" for one in given_})

    @given(st.integers(2, 20))
    def test_saying_it_often_is_saying_it_once(self, times):
        """An operator cannot outvote two others."""
        verdict = judge([receipt(1), receipt(2), *[receipt(3, 1, issued_at=index) for index in range(times)]], exact=True)

        assert operators(verdict.standing) == operators([receipt(1), receipt(2)])
        assert len(verdict.dissents) == 1

    def test_two_words_are_none(self):
        """An operator that signed two answers has both set side by side, and counts for neither."""
        verdict = judge([receipt(1), receipt(2, 1), receipt(3), receipt(3, 1)], exact=True)

        assert verdict.ruling is Ruling.TIED
        (found,) = verdict.contradictions
        assert found.one.operator == found.other.operator == receipt(3).operator
        assert found.fields == ("output_digest", "output_tokens_digest")

    @pytest.mark.parametrize("name", ASKED)
    def test_receipts_of_other_jobs_are_refused(self, name):
        """Receipts are compared only if they answer the same."""
        other = {"seed": 6, "parameters": "[]"}.get(name, b"x" * 32)
        with pytest.raises(BadReceipt, match=name):
            judge([receipt(1), receipt(2, **{name: other})], exact=True)


def test_committee_error():
    """Of operators 20 % are bad, eleven are drawn, two thirds needed: a false answer stands about 2.4 times in 10 000."""
    two_thirds = VerdictSettings(share=Fraction(2, 3))
    answers = ([0] * count + list(range(1, 12 - count)) for count in range(12))
    needed = next(one.count(0) for one in answers if judge(cast(one), exact=True, settings=two_thirds).standing)

    false = sum(math.comb(11, bad) * 0.2**bad * 0.8 ** (11 - bad) for bad in range(needed, 12))
    assert false == pytest.approx(2.4e-4, rel=0.05)
