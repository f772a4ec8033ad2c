"""A model that is told how a controlled answer went: it computes what its branches are going to have in large pieces, ahead.

As in foretold.py: where it is exact, its logits are those that it would have given token by token. What a branch is going to have
is looked up by all of its tokens so far, so nothing depends on which sequence is in which slot; where something else comes than was
told, it goes on by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aos.control_order import FORKS
from aos.operator.batch import Row
from aos.operator.foretold import AHEAD_BYTES, Forced
from aos.operator.sampling import Logits
from aos.v1.types_pb2 import RunStep

_BEGINNING: Final = 0
"""What stands for no tokens at all."""


def _behind(before: int, token: int) -> int:
    """Return what stands for tokens, of what stands for all but the last. That two stand for the same costs time, and no more."""
    return hash((before, token))


@dataclass(slots=True)
class _Branch:
    tokens: list[int]
    states: list[int]
    """What stands for the first 0, 1, 2, … of the tokens."""
    run: list[int] = field(default_factory=list[int])
    """What came since something was taken back the last time."""


class Course:
    """What came behind what in a run, by all the tokens before."""

    def __init__(self, prompt: Sequence[int], steps: Iterable[RunStep]) -> None:
        """``steps``: its rounds, as far as they can follow from each other; what is behind one that cannot is not looked at."""
        self._next: dict[int, deque[tuple[list[int], int]]] = {}
        first = _Branch([], [_BEGINNING])
        branches = {0: first}
        _append(first, prompt)
        for step in takewhile(lambda step: _fits(step, branches), steps):
            before = {index: (list(one.tokens), list(one.states)) for index, one in branches.items()} if _forks(step) else {}
            for one in step.branches:
                if one.HasField("forked_from"):
                    branches[one.index] = _Branch(*(list(part) for part in before[one.forked_from]))
                self._take(branches[one.index], one.backtrack, one.tokens)

    def ahead(self, state: int, most: int) -> list[int]:
        """Return up to so many tokens that came behind these. Where that was not one thing only, it is another one each time."""
        known = self._next.get(state)
        if known is None:
            return []
        known.rotate(-1)
        run, start = known[-1]
        return run[start : start + most]

    def _take(self, branch: _Branch, backtrack: int, tokens: Sequence[int]) -> None:
        if backtrack or not branch.run:
            kept = len(branch.tokens) - backtrack
            del branch.tokens[kept:], branch.states[kept + 1 :]
            branch.run = []
        for token in tokens:
            self._next.setdefault(branch.states[-1], deque()).append((branch.run, len(branch.run)))
            branch.run.append(token)
            _append(branch, (token,))


def _fits(step: RunStep, branches: dict[int, _Branch]) -> bool:
    """Say whether a round is of branches that there are, or come to be with it, and takes no more of them than they have."""
    count = len(branches)
    for one in step.branches:
        new = one.HasField("forked_from")
        origin = branches.get(one.forked_from if new else one.index)
        if origin is None or one.backtrack > len(origin.tokens) or (new and (one.index != count or count >= FORKS)):
            return False
        count += new
    return True


def _forks(step: RunStep) -> bool:
    return any(one.HasField("forked_from") for one in step.branches)


def _append(branch: _Branch, tokens: Sequence[int]) -> None:
    for token in tokens:
        branch.tokens.append(token)
        branch.states.append(_behind(branch.states[-1], token))


@dataclass(slots=True)
class _Slot:
    """What one of the model's sequences holds."""

    states: list[int] = field(default_factory=lambda: [_BEGINNING])
    """What stands for the first 0, 1, 2, … tokens that were asked for."""
    first: int = 0
    tokens: list[int] = field(default_factory=list[int])
    """What was computed ahead, from position ``first`` on, and the logits behind each."""
    logits: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))


class ForetoldRun:
    """A Model for one controlled order, in some slots. All but the computing is the model's own."""

    def __init__(self, model: Forced, course: Course, *, slots: int) -> None:
        self._model, self._course = model, course
        together = model.block - 1 if model.block else model.step_tokens
        self._most = max(1, min(together, AHEAD_BYTES // (4 * model.vocabulary * slots)))
        self.computed = 0
        """How often the model was asked to compute."""
        self._slots: dict[int, _Slot] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def decode(self, rows: Sequence[Row]) -> Sequence[Logits]:
        """Return the logits of the rows: those that are there, or, in one go, with those that will be asked for next."""
        found: dict[int, Logits] = {}
        rest: list[Row] = []
        for row in rows:
            slot = self._slots.setdefault(row.slot, _Slot())
            known = self._known(slot, row)
            if known is None:
                self._cut(row.slot, row.position)
            _append_states(slot, row)
            if known is not None:
                found[row.key] = known
            elif (ahead := self._ahead(slot, row)) is not None:
                found[row.key] = ahead
            else:
                rest.append(row)
        if rest:
            self.computed += 1
            drawing = [row.key for row in rest if row.draws]
            found |= zip(drawing, self._model.decode(rest), strict=True)
        return [found[row.key] for row in rows if row.draws]

    def reuse(self, slot: int, source: int, count: int) -> None:
        """Let a slot hold what the model lets it."""
        states = self._slots.setdefault(source, _Slot()).states[: count + 1]
        self._slots[slot] = _Slot(list(states))
        self._model.reuse(slot, source, count)

    def clear(self) -> None:
        """Empty all sequences."""
        self._slots.clear()
        self._model.clear()

    def _known(self, slot: _Slot, row: Row) -> Logits | None:
        """Return the logits behind a row that was computed ahead, all of it; None: it was not."""
        at = row.position - slot.first
        end = at + len(row.tokens)
        if at < 0 or end > len(slot.tokens) or slot.tokens[at:end] != row.tokens:
            return None
        return slot.logits[end - 1]

    def _ahead(self, slot: _Slot, row: Row) -> Logits | None:
        """Compute a row with what comes behind it; None: that is not known, or the row has more of a prompt."""
        room = self._most - len(row.tokens)
        if not row.draws or room <= 0 or not (more := self._course.ahead(slot.states[-1], room)):
            return None
        self.computed += 1
        slot.first, slot.tokens = row.position, [*row.tokens, *more]
        slot.logits = self._model.decode_all(row.slot, row.position, slot.tokens).copy()
        return slot.logits[len(row.tokens) - 1]

    def _cut(self, number: int, position: int) -> None:
        """Forget what was computed ahead, the model, too, from a position on."""
        slot = self._slots[number]
        if slot.first + len(slot.tokens) > position:
            self._model.reuse(number, number, position)
        slot.first, slot.tokens = 0, []


def _append_states(slot: _Slot, row: Row) -> None:
    del slot.states[row.position + 1 :]
    for token in row.tokens:
        slot.states.append(_behind(slot.states[-1], token))
