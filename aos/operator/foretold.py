"""A model that is told what it is going to answer: it computes that in large pieces, ahead of being asked for it.

Where it is exact, its logits are those that it would have given token by token, so whatever draws from them, with all that a draw
depends on, draws the same; only the computing is faster. Where another token is drawn than was told, it goes on by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from aos.operator.batch import Row
from aos.operator.sampling import Logits

AHEAD_BYTES: Final = 64 << 20
"""Most memory of logits that are computed at once."""


class Forced(Protocol):
    """What is asked of the model beside ``Model``."""

    vocabulary: int
    step_tokens: int

    @property
    def block(self) -> int: ...

    def decode(self, rows: Sequence[Row]) -> Sequence[Logits]: ...
    def decode_all(self, slot: int, position: int, tokens: Sequence[int]) -> NDArray[np.float32]: ...
    def reuse(self, slot: int, source: int, count: int) -> None: ...
    def clear(self) -> None: ...


class Foretold:
    """A Model for one order at a time, in one slot. All but the computing is the model's own."""

    def __init__(self, model: Forced, answer: Sequence[int]) -> None:
        self._model, self._answer = model, list(answer)
        together = model.block - 1 if model.block else model.step_tokens
        self._most = max(1, min(together, AHEAD_BYTES // (4 * model.vocabulary)))
        self.computed = 0
        """How often the model was asked to compute."""
        self._forget()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def decode(self, rows: Sequence[Row]) -> Sequence[Logits]:
        """Return the logits of the rows, those that are there or, in one go, with those that will be asked for next."""
        (row,) = rows
        if self._start is None:
            self._start = row.position + len(row.tokens) if row.draws else None
            return self._decode(rows)
        at = row.position - self._start
        if row.tokens != self._answer[at : at + 1]:
            # what was computed ahead is of another answer
            self._model.reuse(row.slot, row.slot, row.position)
            self._answer = []
            return self._decode(rows)
        if not self._first <= at < self._first + len(self._ahead):
            self.computed += 1
            self._first, self._ahead = at, self._model.decode_all(row.slot, row.position, self._answer[at : at + self._most])
        return [self._ahead[at - self._first]]

    def reuse(self, slot: int, source: int, count: int) -> None:
        """Let a slot hold what the model lets it; nothing is ahead any more."""
        self._forget()
        self._model.reuse(slot, source, count)

    def clear(self) -> None:
        """Empty all sequences."""
        self._forget()
        self._model.clear()

    def _decode(self, rows: Sequence[Row]) -> Sequence[Logits]:
        self.computed += 1
        return self._model.decode(rows)

    def _forget(self) -> None:
        self._start: int | None = None
        self._first, self._ahead = 0, np.empty((0, 0), np.float32)
