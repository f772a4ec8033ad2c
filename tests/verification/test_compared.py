"""Where two runs of an answer part."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aos.verification.compared import apart, first_other, parted
from aos.verification.trace import Step


def a_step(token: int = 1, logits: bytes = bytes(32), *top: tuple[int, int]) -> bytes:
    return Step(0, token, logits, top or ((1, 5 << 16), (2, 3 << 16))).packed()


class TestFirstOther:
    @given(st.lists(st.integers(0, 1)), st.lists(st.integers(0, 1)))
    def test_first(self, one, other):
        """What comes before it is the same, and there it is not, or one of them has ended."""
        at = first_other(one, other)

        assert (at is None) == (one == other)
        if at is not None:
            assert one[:at] == other[:at]
            assert one[at : at + 1] != other[at : at + 1]


class TestParted:
    def test_bits(self):
        """Other bits of the logits are told from other likeliest tokens, and those from another draw."""
        assert parted(a_step(), a_step(1, b"x" * 32), 0) == "the logits of step 1 have other bits"
        assert parted(a_step(), a_step(1, bytes(32), (1, 5 << 16), (2, 1 << 16)), 0) == (
            "the likeliest tokens of step 1 are others, their logits 2 apart"
        )
        assert parted(a_step(1), a_step(2), 0) == ""

    def test_length(self):
        """A step too many and one that cannot be read are named."""
        assert parted(a_step(), a_step() + a_step(), 1) == "there is a step 2, and the answer has ended"
        assert parted(a_step(), bytes(116), 0) == "step 1 is malformed"


class TestApart:
    def test_least(self):
        """Of a token that only one names, the other is known to think no more than of the last that it names."""
        assert apart(a_step(), a_step()) == 0
        assert apart(a_step(), a_step(1, bytes(32), (1, 5 << 16), (3, 4 << 16))) == 1
        assert apart(a_step(), a_step(1, bytes(32), (9, 6 << 16), (8, 4 << 16))) == 3
        assert apart(a_step(), b"junk") == float("inf")
