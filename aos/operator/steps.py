"""What an operator keeps of each step while it draws: a hash of the logits and the likeliest tokens, worked out beside the engine.

The engine's thread only copies the logits. A thread of its own, which needs Python's lock for a small part of its time, does the
rest, some rows at once.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, Lock, Thread
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
    """Works for all answers of an engine, in the order in which they come.

    ``block``, ``write`` and ``hand_over`` are the engine thread's.
    """

    def __init__(self, name: str, vocabulary: int) -> None:
        self.rows = max(1, min(BLOCK_ROWS, BLOCK_BYTES // (4 * vocabulary)))
        self.vocabulary = vocabulary
        self._free: deque[Rows] = deque()
        self._filled: list[Callable[[], None]] = []
        self._work: SimpleQueue[list[Callable[[], None]]] = SimpleQueue()
        self._lock, self._closed = Lock(), False
        self._thread = Thread(target=self._run, name=f"aos-witness-{name}", daemon=True)
        self._thread.start()

    def block(self) -> Rows:
        """Return room for some rows."""
        try:
            return self._free.pop()
        except IndexError:
            return np.empty((self.rows, self.vocabulary), np.float32)

    def write(self, first: int, tokens: list[int], block: Rows, into: list[bytes | Exception]) -> None:
        """Work on a block, which is this object's from now on, once it is handed over; add to ``into`` what comes of it."""

        def work() -> None:
            try:
                into.append(self.read(first, tokens, block))
            except Exception as error:  # whoever wants the steps gets it
                into.append(error)

        self._filled.append(work)

    def hand_over(self) -> None:
        """Begin with the blocks that were written: all of a step in one go, as it takes Python's lock from the engine's thread."""
        if self._filled:
            self._put(self._filled)
            self._filled = []

    def read(self, first: int, tokens: list[int], block: Rows) -> bytes:
        """Do the work at once, on the thread that asks."""
        found = leaves(first, tokens, block[: len(tokens)])
        self._free.append(block)
        return found

    def wait(self) -> None:
        """Return once all that was handed over by now is done."""
        done = Event()
        self._put([done.set])
        done.wait()

    def close(self) -> None:
        """End the thread, once it has done what it was given. Idempotent."""
        with self._lock:
            self._closed = True
            self._work.put([])
        self._thread.join()

    def _put(self, work: list[Callable[[], None]]) -> None:
        with self._lock:
            if not self._closed:
                self._work.put(work)
                return
        self._thread.join()
        for one in work:
            one()

    def _run(self) -> None:
        while work := self._work.get():
            for one in work:
                one()


class Steps:
    """The steps of one answer. The engine thread's, until the answer has ended."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._block: Rows | None = None
        self._tokens: list[int] = []
        self._first = self._blocks = 0
        self._written: list[bytes | Exception] = []
        self._packed: bytes | None = None

    def saw(self, token: int, logits: Logits) -> None:
        """Keep what the model gave, and what was taken."""
        if self._block is None:
            self._block = self._witness.block()
        self._block[len(self._tokens)] = logits
        self._tokens.append(token)
        if len(self._tokens) == len(self._block):
            self._flush(self._block)

    def packed(self) -> bytes:
        """Return the leaves of all steps, one behind the other. Waits for the last of them; not for the engine's thread.

        What the last block holds is worked on here: many answers have no other, and this is a thread that may take its time.
        """
        if self._packed is None:
            rest = b"" if self._block is None else self._witness.read(self._first, self._tokens, self._block)
            self._block = None
            if len(self._written) < self._blocks:
                self._witness.wait()
            self._packed = b"".join([*map(_found, self._written), rest])
        return self._packed

    def _flush(self, block: Rows) -> None:
        if self._blocks - len(self._written) >= AHEAD:
            self._witness.hand_over()
            self._witness.wait()
        self._witness.write(self._first, self._tokens, block, self._written)
        self._blocks += 1
        self._first += len(self._tokens)
        self._block, self._tokens = None, []


def _found(one: bytes | Exception) -> bytes:
    if isinstance(one, Exception):
        raise one
    return one


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
