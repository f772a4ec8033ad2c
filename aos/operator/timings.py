"""When a request was computed, by the engine's clock. Pure: it is told what time it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Timings:
    """Points in time, in seconds from anywhere; None until then."""

    came: float
    """It was let in, and read."""
    began: float | None = None
    """The first step in which it was computed began."""
    first: float | None = None
    """Its first token was there."""
    last: float | None = None
    """Its last token, or the one that ended it, was there."""

    def computed(self, now: float) -> None:
        """Note a step that has tokens of it and begins now."""
        if self.began is None:
            self.began = now

    def drew(self, now: float) -> None:
        """Note a token that was drawn from what is there now."""
        if self.first is None:
            self.first = now
        self.last = now
