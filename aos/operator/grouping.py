"""How many sequences go into one decode: all together, unless fewer at a time are faster. Pure.

llama.cpp multiplies a matrix by one vector with one kernel and by several vectors with another. Where memory limits the first and
the second reads it in an order that the processor foresees badly, two sequences one after the other are faster than together: on
2 cores with AVX-512 and a model of 110 M parameters, a step takes 4.4 ms for one sequence and 16.5 ms for four. So a model is
measured once, when it is loaded, and small batches are cut where that pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

GAIN: Final = 0.9
"""Groups must take at most this part of the time of one batch: measurements are not exact."""


def groups(count: int, seconds: Sequence[float]) -> list[int]:
    """Return how many sequences to decode at a time, so that ``count`` of them take the least time.

    ``seconds[n - 1]`` is what a decode of n sequences with a token each takes. More than were measured are not cut.
    """
    if not 1 < count <= len(seconds):
        return [count] if count else []
    best: list[tuple[float, list[int]]] = [(0.0, [])]
    for many in range(1, count + 1):
        best.append(min((seconds[size - 1] + best[many - size][0], [size, *best[many - size][1]]) for size in range(1, many + 1)))
    total, cut = best[count]
    return cut if total <= GAIN * seconds[count - 1] else [count]
