"""What can be set about an operator's questions. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from aos.addresses import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionSettings:
    """Limits and times of one operator's questions. Times are in seconds. Raises ValueError for a value that cannot work."""

    unanswered: int = 64
    """Most questions that are accepted and not answered; more are refused."""
    at_once: int = 4
    """Most questions that are worked on at once."""
    answer_seconds: float = 600.0
    """How long the engine may take with one question, from when it is its turn."""
    starts: int = 3
    """How often a question is begun again after the operator was killed; then it has FAILED."""
    undelivered: int = 1000
    """Most callbacks that are yet to be made; with more, questions with a callback are refused."""
    callbacks_at_once: int = 32
    """Most callbacks that are made at once."""
    attempt_seconds: float = 10.0
    """How long a receiver may take with one callback."""
    reply_bytes: int = 64 << 10
    """Largest reply of a receiver."""
    first_pause: float = 1.0
    """Pause before a callback is tried again; each one is twice as long."""
    longest_pause: float = 300.0
    """Longest of these pauses."""
    callback_seconds: float = 3600.0
    """How long after the question's end its callback is tried; then it is given up."""
    keep_seconds: float = 7 * 86_400.0
    """How long a question is kept once it has ended and its callback is no longer due."""
    keep: int = 10_000
    """Most questions that are kept so; the oldest go first."""
    networks: tuple[Network, ...] = ()
    """Networks besides the public ones that callbacks may go to."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name != "networks" and not value > 0:
                raise ValueError(f"question setting {name} must be above 0, not {value}")
