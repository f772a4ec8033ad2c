"""How fast work really goes: when to come again, and whether this process keeps up. Pure: who asks says what time it is."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

REMEMBERED: Final = 10_000
"""Most projects of which it is known how fast their jobs end; the one in which nothing happened longest is forgotten."""
WEIGHT: Final = 1 / 16
"""How much one end counts in the mean time between two."""
LEAST_SECONDS: Final = 1.0
"""The shortest time that anyone is told to wait: `retry-after` has whole seconds."""
MOST_SECONDS: Final = 60.0
"""The longest: by then all may be different."""
SAMPLES: Final = 5
"""So many looks in a row have to find the process late: a pause now and then is none of its callers' business."""


@dataclass(slots=True)
class _Ends:
    last: datetime
    mean: float = LEAST_SECONDS
    """Seconds between two ends."""
    told: datetime | None = None
    """When the last of those comes again that were refused."""


class Pace:
    """Knows how fast places become free in each queue, and gives each one that was refused a place in time."""

    def __init__(self) -> None:
        self._ends: OrderedDict[str, _Ends] = OrderedDict()

    def ended(self, queue: str, now: datetime) -> None:
        """Count a place that became free."""
        if (known := self._ends.get(queue)) is not None:
            known.mean += ((now - known.last).total_seconds() - known.mean) * WEIGHT
            known.last = now
            known.told = None
        self._known(queue, now)

    def wait(self, queue: str, now: datetime) -> float:
        """Return in how many seconds there may be a place for one more: one after the other, as fast as jobs end."""
        known = self._known(queue, now)
        # where nothing has ended for longer than is usual, usual is over
        interval = max(known.mean, (now - known.last).total_seconds())
        due = max(known.told or now, now) + timedelta(seconds=interval)
        known.told = min(due, now + timedelta(seconds=MOST_SECONDS))
        return max(LEAST_SECONDS, (known.told - now).total_seconds())

    def _known(self, queue: str, now: datetime) -> _Ends:
        known = self._ends.setdefault(queue, _Ends(now))
        self._ends.move_to_end(queue)
        while len(self._ends) > REMEMBERED:
            self._ends.popitem(last=False)
        return known


class Lateness:
    """How late a process is with what it has to do, all the time and not for a moment."""

    def __init__(self) -> None:
        self._seen = deque[float](maxlen=SAMPLES)

    def add(self, seconds: float) -> None:
        """Note by how many seconds something was late."""
        self._seen.append(seconds)

    @property
    def standing(self) -> float:
        """The least of the last ``SAMPLES``; 0 before there are so many."""
        return min(self._seen) if len(self._seen) == SAMPLES else 0.0
