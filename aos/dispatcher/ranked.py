"""Numbers in order, however many: put in, taken out and counted in about the same time. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

BLOCK: Final = 512
"""About so many keys lie in one list: moving those behind a new one takes a microsecond."""

Key = tuple[int, int]


class Ranked:
    """Keys in order, no two the same, in blocks of at most twice ``BLOCK``."""

    def __init__(self) -> None:
        self._blocks: list[list[Key]] = []
        self._last: list[Key] = []
        """The last key of each block."""

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def __iter__(self) -> Iterator[Key]:
        for block in self._blocks:
            yield from block

    def add(self, key: Key) -> None:
        """Put the key in its place. It must not be there."""
        if not self._blocks:
            self._blocks, self._last = [[key]], [key]
            return
        at = min(bisect_left(self._last, key), len(self._blocks) - 1)
        block = self._blocks[at]
        block.insert(bisect_left(block, key), key)
        if len(block) > 2 * BLOCK:
            self._blocks[at : at + 1] = [block[:BLOCK], block[BLOCK:]]
            self._last.insert(at, block[BLOCK - 1])
            at += 1
        self._last[at] = self._blocks[at][-1]

    def remove(self, key: Key) -> None:
        """Take the key out. It must be there."""
        at = bisect_left(self._last, key)
        block = self._blocks[at]
        del block[bisect_left(block, key)]
        if block:
            self._last[at] = block[-1]
        else:
            del self._blocks[at], self._last[at]

    def before(self, key: Key) -> int:
        """Return how many keys are lower."""
        at = bisect_left(self._last, key)
        inside = bisect_left(self._blocks[at], key) if at < len(self._blocks) else 0
        return sum(map(len, self._blocks[:at])) + inside
