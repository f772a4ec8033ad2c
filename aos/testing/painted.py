"""A model that makes pictures as a test can foresee them: real pixels, the same for the same prompt and seed, step by step.

    model = PaintedModel()
    hold = model.hold()          # the next step waits until the test lets it go
    ...
    await hold.reached()
    hold.release()

A picture is stripes of colours that follow from prompt and seed; of a source, what the mask leaves stays as it is, and the rest is
turned to its opposite colours before the stripes are mixed in.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import Final

import numpy as np

from aos.pictures import Mask, Pixels

STEPS: Final = 4
"""Steps of each picture: between two, it can be cancelled."""
STRIPES: Final = 8
HOLD_SECONDS: Final = 60.0
"""How long a hold stops a step at most: a test that forgets one fails rather than hangs."""


class Cancelled(Exception):
    """Nobody wants this picture any more."""


class PaintHold:
    """A step that waits until the test goes on."""

    def __init__(self) -> None:
        self._loop, self._reached, self._released = asyncio.get_running_loop(), asyncio.Event(), Event()

    async def reached(self, seconds: float = 10.0) -> None:
        """Return once a step waits. The test's. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            await self._reached.wait()

    def release(self) -> None:
        """Let the step go on. The test's."""
        self._released.set()

    def wait(self) -> None:
        """Wait. Raises TimeoutError if nobody lets it go."""
        with suppress(RuntimeError):  # the test is over
            self._loop.call_soon_threadsafe(self._reached.set)
        if not self._released.wait(HOLD_SECONDS):
            raise TimeoutError(f"held for {HOLD_SECONDS:g} s, and nobody released it")


class PaintedModel:
    """A Renderer whose pictures follow from prompt and seed by arithmetic."""

    def __init__(self, name: str = "painted") -> None:
        self.digest = hashlib.sha256(name.encode()).digest()
        self.profile = f"painted/{name}"
        self.prompts: list[str] = []
        """The prompt of every picture that was begun, in order."""
        self.steps = 0
        """How many steps were made."""
        self.cancelled = 0
        """How many pictures were given up."""
        self._failures: deque[Exception] = deque()
        self._holds: deque[PaintHold] = deque()

    def hold(self) -> PaintHold:
        """Stop before the next step that nothing stops yet. The test's, on its loop."""
        hold = PaintHold()
        self._holds.append(hold)
        return hold

    def fail(self, error: Exception | None = None) -> None:
        """Let the next picture fail. The test's."""
        self._failures.append(error or RuntimeError("told to fail"))

    def render(
        self,
        prompt: str,
        *,
        seed: int,
        width: int,
        height: int,
        source: Pixels | None,
        mask: Mask | None,
        cancelled: Callable[[], bool],
    ) -> Pixels:
        """Return the picture. Raises what ``fail`` queued, and Cancelled."""
        self.prompts.append(prompt)
        if self._failures:
            raise self._failures.popleft()
        for _ in range(STEPS):
            if self._holds:
                self._holds.popleft().wait()
            if cancelled():
                self.cancelled += 1
                raise Cancelled
            self.steps += 1
        colours = np.frombuffer(hashlib.sha256(f"{prompt}\n{seed}".encode()).digest()[: 3 * STRIPES], np.uint8).reshape(STRIPES, 3)
        stripes = np.broadcast_to(colours[np.arange(width) * STRIPES // width], (height, width, 3))
        if source is None:
            return stripes.copy()
        changed = ((255 - source).astype(np.uint16) + stripes) // 2
        where = np.ones((height, width), np.bool_) if mask is None else mask
        return np.where(where[..., None], changed, source).astype(np.uint8)
