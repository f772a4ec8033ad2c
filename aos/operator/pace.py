"""How much of the waiting prompts goes into a step in which others read their answers. Pure: it is told what steps took.

What a step takes is fitted as a line over how many sequences draw and how many tokens of prompts are computed, by recursive least
squares that forget (Haykin, Adaptive Filter Theory, ch. 10). Averages of steps without prompts would not do: while prompts keep
coming there are none, and what the batch has grown to since would count as the prompts' cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

PAUSE: Final = 2.0
"""How much longer prompts may make a step, in decode steps without any: no stream pauses for more than about three."""
FIRST_TOKENS: Final = 64
"""As many tokens of prompts as go into such a step before anything was measured."""
LEAST_TOKENS: Final = 8
"""Prompts get on by so many in every step, however dear they are."""
MEMORY: Final = 0.95
"""What an earlier step still counts when the next one comes."""
UNKNOWN: Final = 1e6
"""How uncertain the line is before the first step, and at most where steps are all of one kind."""
OUTLIER: Final = 3.0
"""A step that took more than so many times what was expected counts as that: something else held it up."""

SETTLED: Final = 20
"""So many steps tell what is to be expected."""

EVERY: Final = 4
"""Then, of steps without prompts, one in so many is enough to learn from."""


class Pace:
    """The line, and the budget that follows."""

    def __init__(self, most: int, seconds: Sequence[float] = ()) -> None:
        """``most``: tokens that fit into one step. ``seconds``: what decodes of 1, 2, … sequences took when that was tried."""
        self._most = most
        self._line = [0.0, 0.0, 0.0]
        """Seconds of a step, and what a sequence and a prompt's token add."""
        self._uncertain = [[UNKNOWN * (row == column) for column in range(3)] for row in range(3)]
        self._steps = self._prompts = 0
        for count, one in enumerate(seconds, 1):
            self.took(one, drawing=count, prompt=0)

    def took(self, seconds: float, *, drawing: int, prompt: int) -> None:
        """Learn what a step took that had so many sequences drawing on, and so many tokens of prompts."""
        self._steps += 1
        if not prompt and self._steps > SETTLED and self._steps % EVERY:
            return
        step = (1.0, float(drawing), float(prompt))
        expected = self._expected(step)
        if self._steps > SETTLED and expected > 0:
            seconds = min(seconds, OUTLIER * expected)
        self._prompts += prompt > 0
        spread = [sum(one * two for one, two in zip(row, step, strict=True)) for row in self._uncertain]
        total = MEMORY + sum(one * two for one, two in zip(step, spread, strict=True))
        error = (seconds - expected) / total
        self._line = [one + two * error for one, two in zip(self._line, spread, strict=True)]
        grown = [
            [(self._uncertain[row][column] - spread[row] * spread[column] / total) / MEMORY for column in range(3)]
            for row in range(3)
        ]
        # steps of one kind only say nothing of the others: without a bound the doubt would grow for ever
        too_much = max(1.0, max(grown[at][at] for at in range(3)) / UNKNOWN)
        self._uncertain = [[one / too_much for one in row] for row in grown]

    def decode_seconds(self, drawing: int) -> float:
        """Return what a step takes in which so many sequences draw, and no prompts are computed; 0 if that is not known."""
        return max(0.0, self._expected((1.0, float(drawing), 0.0)))

    def prompt_tokens(self, drawing: int, prompts: int) -> int:
        """Return how many tokens of so many prompts go into a step in which so many sequences draw; at least one.

        Where more wait than draw, the pause is measured by what a step takes once all of them draw: else those who came first,
        and take little time, would keep the others waiting for long.
        """
        if not self._prompts or self._prompts == self._steps:
            return min(FIRST_TOKENS, self._most)
        decode = self.decode_seconds(drawing if prompts <= drawing else drawing + prompts)
        cost = self._line[2]
        tokens = PAUSE * decode / cost if cost > 0 else self._most
        return min(max(int(min(tokens, self._most)), LEAST_TOKENS), self._most)

    def _expected(self, step: tuple[float, float, float]) -> float:
        return sum(one * two for one, two in zip(self._line, step, strict=True))
