"""How much of a prompt goes into a step: enough to get on, too little to be noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.operator.pace import FIRST_TOKENS, LEAST_TOKENS, Pace


class TestPace:
    def test_before_anything_is_known(self):
        """The first step has a fixed number of tokens, if so many fit."""
        assert Pace(256).prompt_tokens(1, 1) == FIRST_TOKENS
        assert Pace(10).prompt_tokens(1, 1) == 10

    @given(st.floats(1e-4, 0.1), st.floats(1e-6, 1e-3), st.lists(st.integers(1, 256), min_size=1, max_size=50))
    def test_three_decode_steps(self, decode, token, prompts):
        """Where steps take what they took, a step with prompts takes at most three without, or has the least that it may."""
        pace = Pace(256)
        pace.took(decode, drawing=4, prompt=0)
        for count in prompts:
            pace.took(decode + count * token, drawing=4, prompt=count)
        tokens = pace.prompt_tokens(4, 4)

        assert LEAST_TOKENS <= tokens <= 256
        assert tokens == LEAST_TOKENS or decode + tokens * token <= 3 * decode * 1.001
        assert tokens == 256 or decode + (tokens + 1) * token >= 3 * decode * 0.999 or tokens == LEAST_TOKENS

    def test_prompts_alone(self):
        """Steps of prompts alone tell what a token costs, too."""
        pace = Pace(256)
        pace.took(0.256, drawing=0, prompt=256)
        pace.took(0.01, drawing=1, prompt=0)

        assert pace.prompt_tokens(1, 1) == 20

    def test_one_slow_step(self):
        """One step that something else held up changes the budget little, and is forgotten."""
        pace = Pace(256)
        for _ in range(30):
            pace.took(0.01, drawing=2, prompt=0)
            pace.took(0.01 + 0.02, drawing=2, prompt=20)
        before = pace.prompt_tokens(2, 1)
        pace.took(0.1, drawing=2, prompt=0)
        after = pace.prompt_tokens(2, 1)
        for _ in range(60):
            pace.took(0.01, drawing=2, prompt=0)

        assert before <= after <= 2 * before
        assert abs(pace.prompt_tokens(2, 1) - before) <= 1

    def test_batches_that_grow(self):
        """While prompts keep coming, what a larger batch takes is guessed from smaller ones, and so the budget grows with it."""
        pace = Pace(256, [0.010, 0.014])
        pace.took(0.010 + 0.02, drawing=1, prompt=20)

        assert pace.decode_seconds(6) == pytest.approx(0.030, rel=1e-3)
        assert pace.prompt_tokens(6, 1) == pytest.approx(60, abs=1)

    def test_many_wait_for_few(self):
        """One that draws does not hold up thirty by little steps: the pause is measured by the batch that they will be."""
        pace = Pace(256, [0.002, 0.003])
        pace.took(0.002 + 0.02, drawing=1, prompt=40)

        assert pace.prompt_tokens(1, 1) == 8
        assert pace.prompt_tokens(1, 30) == pytest.approx(2 * 0.032 / 0.0005, abs=1)

    def test_one_measurement(self):
        """A model that was measured with one number of sequences only is taken to need more for more."""
        pace = Pace(256)
        pace.took(0.01, drawing=2, prompt=0)

        assert pace.decode_seconds(1) < pace.decode_seconds(2) < pace.decode_seconds(4)
        assert pace.decode_seconds(2) == pytest.approx(0.01, rel=1e-3)

    @given(
        st.lists(st.tuples(st.floats(0, 10), st.integers(0, 8), st.integers(0, 256)), max_size=40),
        st.lists(st.floats(0, 1), max_size=4),
        st.integers(1, 256),
        st.integers(1, 300),
        st.integers(1, 300),
    )
    def test_never_none(self, steps, tried, most, drawing, prompts):
        """Whatever was measured, prompts get on, and within what fits."""
        pace = Pace(most, tried)
        for seconds, count, prompt in steps:
            pace.took(seconds, drawing=count, prompt=prompt)

        assert 1 <= pace.prompt_tokens(drawing, prompts) <= most
