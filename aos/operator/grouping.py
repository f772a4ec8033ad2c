"""How many sequences go into one decode: all together, unless fewer at a time are faster.

llama.cpp multiplies a matrix by one vector with one kernel and by several vectors with another. Where memory limits the first and
the second reads it in an order that the processor foresees badly, two sequences one after the other are faster than together: on
2 cores with AVX-512 and a model of 110 M parameters, a step takes 4.4 ms for one sequence and 16.5 ms for four. So a model is
measured once, when it is loaded, and small batches are cut where that pays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from aos.operator.batch import Row

GAIN: Final = 0.9
"""Groups must take at most this part of the time of one batch: measurements are not exact."""
MEASURED: Final = 4
"""Most sequences that are measured together: more than these were never slower than apart."""
TIMES: Final = 3
"""How often each is measured. The least counts: whatever else the machine does only adds."""


class Computing(Protocol):
    """What is asked of a model here: a part of ``Model``."""

    @property
    def slots(self) -> int: ...
    def decode(self, rows: Sequence[Row]) -> object: ...
    def clear(self) -> None: ...


def measure(model: Computing, clock: Callable[[], float]) -> list[float]:
    """Return the seconds that a decode of 1, 2, … sequences with a token each takes. ``clock`` gives seconds from anywhere.

    Empties the model's sequences. Slow: not on an event loop. Raises what ``decode`` raises.
    """
    seconds = [float("inf")] * min(MEASURED, model.slots)
    model.clear()
    try:
        for _ in range(TIMES):
            for count in range(1, len(seconds) + 1):
                begun = clock()
                model.decode([Row(slot, slot, 0, [0], draws=True) for slot in range(count)])
                seconds[count - 1] = min(seconds[count - 1], clock() - begun)
                model.clear()
    finally:
        model.clear()
    return seconds


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
