"""How much of a prompt goes into a step: enough to get on, too little to be noticed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aos.operator.pace import FIRST_TOKENS, LEAST_TOKENS, Pace


class TestPace:
    def test_before_anything_is_known(self):
        """The first step has a fixed number of tokens, if so many fit."""
        assert Pace(256).prompt_tokens == FIRST_TOKENS
        assert Pace(10).prompt_tokens == 10

    @given(st.floats(1e-4, 0.1), st.floats(1e-6, 1e-3), st.lists(st.integers(1, 256), min_size=1, max_size=50))
    def test_three_decode_steps(self, decode, token, prompts):
        """Where steps take what they took, a step with prompts takes at most three without, or has the least that it may."""
        pace = Pace(256)
        pace.took(decode, drawing=4, prompt=0)
        for count in prompts:
            pace.took(decode + count * token, drawing=4, prompt=count)
        tokens = pace.prompt_tokens

        assert LEAST_TOKENS <= tokens <= 256
        assert tokens == LEAST_TOKENS or decode + tokens * token <= 3 * decode * 1.001
        assert tokens == 256 or decode + (tokens + 1) * token >= 3 * decode * 0.999 or tokens == LEAST_TOKENS

    def test_prompts_alone(self):
        """Steps of prompts alone tell what a token costs, too."""
        pace = Pace(256)
        pace.took(0.256, drawing=0, prompt=256)
        pace.took(0.01, drawing=1, prompt=0)

        assert pace.prompt_tokens == 20

    def test_one_slow_step(self):
        """One step that something else held up changes the budget little, and is forgotten."""
        pace = Pace(256)
        for _ in range(30):
            pace.took(0.01, drawing=2, prompt=0)
            pace.took(0.01 + 0.02, drawing=2, prompt=20)
        before = pace.prompt_tokens
        pace.took(0.1, drawing=2, prompt=0)
        after = pace.prompt_tokens
        for _ in range(60):
            pace.took(0.01, drawing=2, prompt=0)

        assert before <= after <= 2 * before
        assert abs(pace.prompt_tokens - before) <= 1

    @given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 8), st.integers(0, 256)), max_size=40), st.integers(1, 256))
    def test_never_none(self, steps, most):
        """Whatever was measured, prompts get on, and within what fits."""
        pace = Pace(most)
        for seconds, drawing, prompt in steps:
            pace.took(seconds, drawing=drawing, prompt=prompt)

        assert 1 <= pace.prompt_tokens <= most
