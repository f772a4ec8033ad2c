"""How a model server is, by what looks at it and what its answers come to. Pure.

A server is offered while it is HEALTHY or DEGRADED. It begins as STARTING, is let in by a canary, a short prompt that it answers,
and goes DOWN by a look that finds nobody, by a canary that fails, or by several answers in a row that fail. What callers did
wrong never counts.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from aos.operator.upstream_settings import UpstreamSettings


class State(enum.Enum):
    """How a server is."""

    STARTING = "starting"
    """Not tried out yet."""
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """Something failed lately; it is still used."""
    DOWN = "down"


class Probe(enum.StrEnum):
    """How a server is looked at."""

    LOOK = "look"
    """Whether it is there."""
    CANARY = "canary"
    """Whether it answers a short prompt."""


Probed = Callable[[str, Probe, bool], None]
"""Is told of each look at a server of a model, and whether it was good."""


def untold(model: str, kind: Probe, good: bool) -> None:  # noqa: FBT001  # as Probed
    """Count nothing."""


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one server."""

    state: State
    reason: str
    """Why it is not HEALTHY, in words; empty if it is."""
    next_probe: datetime
    next_canary: datetime
    checked: datetime | None = None
    """When it was last looked at."""
    faults: int = 0
    """Answers in a row that failed."""
    alive: bool = False
    """Whether it has answered since the last look."""
    opened: bool = False
    """Whether its answers took it out, rather than a look."""

    @property
    def usable(self) -> bool:
        """Whether it may be offered."""
        return self.state in (State.HEALTHY, State.DEGRADED)

    def wants_canary(self, now: datetime) -> bool:
        """Say whether it is to be tried out now, after a look that found it."""
        return not self.usable or now >= self.next_canary


def opened(now: datetime) -> Health:
    """Return what is known of a server that nobody has looked at."""
    return Health(State.STARTING, "not checked yet", now, now)


def looked(health: Health, problem: str, now: datetime, settings: UpstreamSettings, *, busy: bool, chance: float) -> Health:
    """Return the health after a look; ``problem`` is what is wrong with it, empty if nothing.

    ``busy`` is whether the problem is only that it took too long: a server that answers requests meanwhile may be busy. ``chance``
    is from 0 to below 1.
    """
    pause = timedelta(seconds=settings.probe_seconds * (1 - settings.jitter * chance))
    after = replace(health, checked=now, next_probe=now + pause, alive=False)
    if not problem:
        return replace(after, state=State.HEALTHY, reason="") if health.usable and not health.faults else after
    if busy and health.alive and health.usable:
        return replace(after, state=State.DEGRADED, reason=problem)
    return replace(after, state=State.DOWN, reason=problem, opened=False)


def tried(health: Health, problem: str, now: datetime, settings: UpstreamSettings) -> Health:
    """Return the health after a canary; ``problem`` is why it failed, empty if it did not."""
    after = replace(health, checked=now, next_canary=now + timedelta(seconds=settings.canary_seconds))
    if problem:
        return replace(after, state=State.DOWN, reason=f"its trial failed: {problem}", opened=False)
    if health.opened:  # half open: one more answer that fails takes it out again
        return replace(
            after, state=State.DEGRADED, reason="let in again after answers that failed", faults=settings.faults - 1, opened=False
        )
    return replace(after, state=State.HEALTHY, reason="", faults=0)


def served(health: Health) -> Health:
    """Return the health after an answer that was whole."""
    if health.state is State.DEGRADED:
        return replace(health, state=State.HEALTHY, reason="", faults=0, alive=True)
    return replace(health, faults=0, alive=True)


def failed(health: Health, problem: str, settings: UpstreamSettings, *, gone: bool) -> Health:
    """Return the health after an answer that failed by the server's own fault; ``gone`` is whether nobody took the connection."""
    if not health.usable:
        return health
    faults = health.faults + 1
    if gone:
        return replace(health, state=State.DOWN, reason=problem, faults=faults)
    if faults >= settings.faults:
        return replace(health, state=State.DOWN, reason=f"{faults} answers in a row failed: {problem}", faults=faults, opened=True)
    return replace(health, state=State.DEGRADED, reason=problem, faults=faults)
