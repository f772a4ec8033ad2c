"""What an operator keeps of each step while it draws: a hash of the logits and the likeliest tokens, worked out beside the engine.

The engine's thread only copies the logits. A thread of its own, which needs Python's lock for a small part of its time, does the
rest, some rows at once.
"""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aos.operator.sampling import Logits
from aos.verification.trace import STEP, STEP_TAG, TOP

BLOCK_BYTES: Final = 512 << 10
"""About how many bytes of logits are gathered and worked on at once."""
BLOCK_ROWS: Final = 64
"""Most rows that are."""
AHEAD: Final = 16
"""Most blocks of one answer that wait; then the engine waits, too."""
PART: Final = 64
"""So many logits are one in the search for the largest."""
SCALE: Final = 65536.0
_LEAST, _MOST = -(1 << 31), (1 << 31) - 1
_LEAF: Final = np.dtype(
    [("tag", "S8"), ("position", ">u4"), ("token", ">u4"), ("logits", "V32"), ("count", "u1"), ("spare", "V3"),
     ("top", [("id", ">u4"), ("logit", ">i4")], (TOP,))]
)  # fmt: skip
assert _LEAF.itemsize == STEP.size  # one layout, written twice

Rows = NDArray[np.float32]


class Witness:
    """Works for all answers of an engine, in the order in which they come."""

    def __init__(self, name: str, vocabulary: int) -> None:
        self.rows = max(1, min(BLOCK_ROWS, BLOCK_BYTES // (4 * vocabulary)))
        self.vocabulary = vocabulary
        self._work = ThreadPoolExecutor(1, f"aos-witness-{name}")
        self._free: deque[Rows] = deque()

    def block(self) -> Rows:
        """Return room for some rows."""
        try:
            return self._free.pop()
        except IndexError:
            return np.empty((self.rows, self.vocabulary), np.float32)

    def write(self, first: int, tokens: list[int], block: Rows) -> Future[bytes]:
        """Work on a block, which is this object's from now on."""

        def work() -> bytes:
            found = leaves(first, tokens, block[: len(tokens)])
            self._free.append(block)
            return found

        return self._work.submit(work)

    def close(self) -> None:
        """End the thread, once it has written what it was given. Idempotent."""
        self._work.shutdown()


class Steps:
    """The steps of one answer. The engine thread's, until the answer has ended."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._block: Rows | None = None
        self._tokens: list[int] = []
        self._first = 0
        self._written: list[Future[bytes]] = []

    def saw(self, token: int, logits: Logits) -> None:
        """Keep what the model gave, and what was taken."""
        if self._block is None:
            self._block = self._witness.block()
        self._block[len(self._tokens)] = logits
        self._tokens.append(token)
        if len(self._tokens) == len(self._block):
            self._flush()

    def end(self) -> None:
        """Nothing more comes. Called on the engine's thread."""
        if self._tokens:
            self._flush()

    def packed(self) -> bytes:
        """Return the leaves of all steps, one behind the other. Waits for the last of them; not for the engine's thread."""
        return b"".join(one.result() for one in self._written)

    def _flush(self) -> None:
        if self._block is not None:
            if len(self._written) >= AHEAD:
                self._written[-AHEAD].result()
            self._written.append(self._witness.write(self._first, self._tokens, self._block))
        self._first += len(self._tokens)
        self._block, self._tokens = None, []


def leaves(first: int, tokens: list[int], rows: Rows) -> bytes:
    """Return the leaves (trace.py) of steps that follow each other, the first at position ``first``."""
    made: NDArray[Any] = np.zeros(len(tokens), _LEAF)
    made["tag"], made["token"] = STEP_TAG, tokens
    made["position"] = np.arange(first, first + len(tokens))
    made["logits"] = np.frombuffer(b"".join(hashlib.sha256(row).digest() for row in rows), "V32")
    ids, logits = largest(rows, TOP)
    made["count"] = ids.shape[1]
    made["top"]["id"][:, : ids.shape[1]] = ids
    made["top"]["logit"][:, : ids.shape[1]] = np.clip(np.rint(logits * SCALE), _LEAST, _MOST)
    return made.tobytes()


def largest(rows: Rows, count: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the ids and values of each row's ``count`` largest, largest first, the lower id first among equals."""
    size = rows.shape[1]
    parts = size // PART
    count = min(count, size)
    if parts > count:
        # any of the largest is in a part whose own largest is among the largest of those; part i has every parts-th from i on
        cut = rows[:, : parts * PART].reshape(len(rows), PART, parts)
        tops = cut.max(axis=1)
        edge = np.partition(tops, parts - count, axis=1)[:, parts - count]
        row, part = np.nonzero(tops >= edge[:, None])
        pair, place = np.nonzero(cut[row, :, part] >= edge[row, None])
        rest, late = np.nonzero(rows[:, parts * PART :] >= edge[:, None])
        row = np.concatenate([row[pair], rest])
        at = np.concatenate([place * parts + part[pair], late + parts * PART])
    else:
        row, at = np.nonzero(np.ones(rows.shape, bool))
    values = rows[row, at]
    order = np.lexsort((at, -values, row))
    starts = np.searchsorted(row[order], np.arange(len(rows)))
    chosen = order[starts[:, None] + np.arange(count)]
    return at[chosen], values[chosen].astype(np.float64)
