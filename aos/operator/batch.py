"""Which tokens of which sequence go into the next decode. Pure: no clock, no thread, no model.

A sequence is its prompt and the tokens drawn so far; what is not decoded yet is pending. Each step decodes, first, every sequence
with one token pending (it is drawing) and then, with what the budget leaves, the prompts of the others in the order in which they
came. So a long prompt never holds up those who are reading an answer, and every prompt goes on in every step.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """Neighbouring tokens of one sequence, to be decoded in one step."""

    key: int
    """Whose they are."""
    slot: int
    """The model's sequence id."""
    position: int
    """Where the first of them stands in the sequence, from 0."""
    tokens: list[int]
    """At least one."""
    draws: bool
    """Whether they reach the sequence's end, so that the next token can be drawn."""


@dataclass(slots=True)
class _Sequence:
    key: int
    slot: int
    tokens: list[int]
    decoded: int = 0

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.decoded


class Batcher:
    """Gives sequences their slots, first come first served, and plans each step within a budget of tokens."""

    def __init__(self, *, slots: int, budget: int) -> None:
        if not 1 <= slots <= budget:
            raise ValueError(f"a budget of {budget} tokens a step cannot serve {slots} slots")
        self._budget = budget
        # the lowest free slot goes first: llama.cpp splits a batch where its sequence ids are not neighbours
        self._free = list(range(slots))
        self._seated: dict[int, _Sequence] = {}
        self._waiting: dict[int, list[int]] = {}

    @property
    def running(self) -> int:
        """How many sequences have a slot."""
        return len(self._seated)

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._waiting)

    def add(self, key: int, tokens: list[int]) -> None:
        """Take in a sequence: its prompt, and behind it the tokens drawn elsewhere. At least one token."""
        if not tokens or key in self._seated or key in self._waiting:
            raise ValueError(f"sequence {key} has no tokens or is here already")
        self._waiting[key] = list(tokens)

    def drop(self, key: int) -> int | None:
        """Let a sequence go. Returns the slot that it had, for the model to forget; None if it had none or is gone already."""
        if self._waiting.pop(key, None) is not None:
            return None
        sequence = self._seated.pop(key, None)
        if sequence is None:
            return None
        heapq.heappush(self._free, sequence.slot)
        return sequence.slot

    def plan(self) -> list[Row]:
        """Return the next step's rows in order of slots, and count them as decoded. Empty only if there is nothing to do."""
        while self._free and self._waiting:
            key = next(iter(self._waiting))
            self._seated[key] = _Sequence(key, heapq.heappop(self._free), self._waiting.pop(key))
        left = self._budget
        rows: list[Row] = []
        # stable sort: those with one token pending, then the others, each in the order in which they came
        for sequence in sorted(self._seated.values(), key=lambda one: one.pending > 1):
            count = min(sequence.pending, left)
            if count:
                start, sequence.decoded = sequence.decoded, sequence.decoded + count
                chunk = sequence.tokens[start : sequence.decoded]
                rows.append(Row(sequence.key, sequence.slot, start, chunk, draws=not sequence.pending))
                left -= count
        rows.sort(key=lambda row: row.slot)
        return rows

    def drew(self, key: int, token: int) -> None:
        """Add the token that was drawn for a row; the sequence goes on with it."""
        self._seated[key].tokens.append(token)

    def rewind(self) -> None:
        """Begin all sequences that have a slot anew: the model forgot them. What was drawn stays drawn."""
        for sequence in self._seated.values():
            sequence.decoded = 0
