"""Drawing from what a mask allows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.operator.control_draw import BRANCH_BITS, allowed, checked, draw_masked
from aos.operator.control_run import Branch, Refused
from aos.operator.control_text import BranchText
from aos.operator.controllers import Choice, Mask, packed
from aos.operator.sampling import Draw, draw

SIZES = st.sampled_from([2, 31, 32, 33, 258, 1000])


def branch(index: int = 0, drawn: int = 0, temperature: float | None = None) -> Branch:
    return Branch(index, [1], 1, BranchText(lambda _: b""), temperature, drawn)


def masked(mask: Mask | None) -> Choice:
    return Choice(mask, ())


class TestMask:
    @settings(max_examples=80, deadline=None)
    @given(size=SIZES, seed=st.integers(0, 1 << 40), data=st.data(), temperature=st.sampled_from([0.0, 0.5, 2.0]))
    def test_only_what_is_allowed(self, size: int, seed: int, data: st.DataObject, temperature: float):
        """A token is always one that the mask allows; without a temperature the likeliest of them, the lower id among equals."""
        tokens = data.draw(st.lists(st.integers(0, size - 1), min_size=1, unique=True))
        logits = np.random.default_rng(seed).integers(-3, 3, size).astype(np.float32)
        token = draw_masked(logits, Draw(temperature, top_k=5, top_p=0.9, seed=seed), branch(drawn=7), masked(packed(tokens, size)))

        assert token in tokens
        if not temperature:
            assert token == min(tokens, key=lambda one: (-logits[one], one))

    @settings(max_examples=40, deadline=None)
    @given(size=SIZES, seed=st.integers(0, 1 << 40), drawn=st.integers(0, 1 << 20))
    def test_all_allowed(self, size: int, seed: int, drawn: int):
        """Where all is allowed, the first branch draws what an answer without a controller draws."""
        logits, how = np.random.default_rng(seed).standard_normal(size, np.float32), Draw(1.0, seed=seed)

        assert draw_masked(logits, how, branch(drawn=drawn), masked(packed(list(range(size)), size))) == draw(logits, how, drawn)

    def test_own_number(self):
        """Each branch has random numbers of its own, and each draw of it."""
        logits, how = np.zeros(1000, np.float32), Draw(1.0, seed=1)

        assert draw_masked(logits, how, branch(3, 5), masked(None)) == draw(logits, how, 3 << BRANCH_BITS | 5)
        assert len({draw_masked(logits, how, branch(at, drawn), masked(None)) for at in range(4) for drawn in range(4)}) > 10

    def test_temperature(self):
        """What the controller set counts, not what the order says."""
        logits = np.asarray([0, 1, 2, 3], np.float32)

        assert draw_masked(logits, Draw(2.0, seed=1), branch(temperature=0.0), masked(None)) == 3

    def test_nothing_allowed(self):
        """A mask that allows nothing is refused."""
        with pytest.raises(Refused, match="no token"):
            draw_masked(np.zeros(40, np.float32), Draw(), branch(), masked(packed([], 40)))

    def test_of_another_vocabulary(self):
        """A mask of another size is refused."""
        with pytest.raises(Refused, match="2 words"):
            allowed(packed([1], 40), 80)

    def test_token_from_elsewhere(self):
        """A token that was drawn elsewhere is taken if the mask allows it."""
        assert checked(3, masked(packed([3], 40)), 40) == 3
        with pytest.raises(Refused):
            checked(4, masked(packed([3], 40)), 40)
