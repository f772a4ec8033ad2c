"""How much time has a controller's callback left? Counted by its own thread's processor time: a busy machine is not its doing."""

from __future__ import annotations

import time
from typing import Final

WALL_FACTOR: Final = 20
"""By the clock, a callback may take so many times as long: the last resort for one that waits, or hardly comes to compute."""


class Allowance:
    """So many seconds of the processor for what the thread that makes it does from now on. Use it on that thread alone."""

    __slots__ = ("_began", "_due", "_safe", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        now = time.monotonic()
        self._began, self._safe, self._due = time.thread_time(), now + seconds, now + WALL_FACTOR * seconds

    @property
    def spent(self) -> float:
        """How much of it is used up, in seconds."""
        return time.thread_time() - self._began

    @property
    def left(self) -> float:
        """How many seconds pass at least before it is over; 0 or less: it is."""
        return min(self.seconds - self.spent, self._due - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether it is used up."""
        # no thread has more of a processor than goes by on the clock, which is read without a call of the system
        return time.monotonic() >= self._safe and self.left <= 0
