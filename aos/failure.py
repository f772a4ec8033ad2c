"""What every failure that a caller can act on has; the failures themselves are in aos/errors.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that cannot be accepted, and why."""

    field: str
    description: str


class AosError(Exception):
    """A failure the caller can act on. The message helps a person; reason and facts serve a program.

    Raised by servicers, sent as ``google.rpc.Status`` (see aos/rpc/status.py), and raised again, as the same class, by clients.
    """

    reason: ClassVar[str]
    """A value of ErrorReason, without its prefix."""
    code: ClassVar[str]
    """A google.rpc.Code."""

    message: str
    facts: dict[str, str]
    violations: tuple[Violation, ...] = ()
    retry_after: float | None = None
    """Seconds after which trying again makes sense; None: it does not, or nobody knows."""

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts = {key: str(value) for key, value in facts.items()}

    @classmethod
    def rebuild(
        cls, message: str, facts: dict[str, str], violations: tuple[Violation, ...] = (), retry_after: float | None = None
    ) -> Self:
        """Make the error that crossed the wire, from its parts."""
        error = cls.__new__(cls)
        AosError.__init__(error, message, **facts)
        error.violations, error.retry_after = violations, retry_after
        return error
