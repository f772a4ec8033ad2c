"""How long to wait before trying again what failed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

FIRST_SECONDS: Final = 0.1
LONGEST_SECONDS: Final = 5.0


class Backoff:
    """Pauses that double from 0.1 s to 5 s, each shortened by a random part so that operators do not come back all at once."""

    def __init__(self, random: Callable[[], float]) -> None:
        """``random`` gives numbers in [0, 1)."""
        self._random = random
        self.reset()

    def reset(self) -> None:
        """Begin anew: an attempt succeeded."""
        self._ceiling = FIRST_SECONDS

    async def pause(self) -> None:
        """Wait from half of the ceiling up to all of it. Real time: what it waits for is the network, not its clock."""
        seconds = self._ceiling * (1 - self._random() / 2)
        self._ceiling = min(2 * self._ceiling, LONGEST_SECONDS)
        await asyncio.sleep(seconds)
