"""AI projects and their replicas as data, and what time does to them. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from aos.registry.specs import Spec


class State(enum.StrEnum):
    """How a replica is, as protos/aos/v1/registry.proto has it."""

    REGISTERED = "REGISTERED"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    REFUSED = "REFUSED"
    DRAINING = "DRAINING"
    LAPSED = "LAPSED"
    GONE = "GONE"


@dataclass(frozen=True, slots=True)
class Terms:
    """How long things last."""

    lease: timedelta
    """A replica lapses so long after it was last reported."""
    drain: timedelta
    """Running requests of a replica that was unregistered get so long."""
    memory: timedelta
    """What lapsed or is gone is remembered so long."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A registered model server."""

    id: str
    spec: Spec
    asked: str
    """Address of the operator that it was registered for, lower-case; empty: for whoever hosts it first."""
    operator: str
    """Address of the operator that has it; empty: nobody yet."""
    created: datetime
    expires: datetime
    state: State = State.REGISTERED
    reason: str = ""
    """As its operator said; ``why_not`` has the words for the rest."""
    capabilities: tuple[str, ...] = ()
    next_probe: datetime | None = None
    checked: datetime | None = None
    running: int = 0
    reported: bool = False
    """Whether an operator has ever reported it."""
    ended: datetime | None = None
    """Since when it is being drained, or is gone."""

    @property
    def there(self) -> bool:
        """Say whether it is registered, or still being drained."""
        return self.state is not State.GONE

    @property
    def registered(self) -> bool:
        """Say whether it is registered."""
        return self.state not in {State.GONE, State.DRAINING}

    @property
    def why_not(self) -> str:
        """Say in words why it is not used; empty if it is."""
        match self.state:
            case State.HEALTHY:
                return ""
            case State.REGISTERED:
                return self.reason or "its operator has not checked it yet"
            case State.LAPSED:
                return f"its operator does not report it any more, since {self.expires:%Y-%m-%d %H:%M:%S} UTC"
            case State.DRAINING:
                return f"unregistered; {self.running} of its requests still run" if self.running else "unregistered"
            case State.GONE:
                return "unregistered"
            case _:
                return self.reason or "its operator does not say why"


@dataclass(frozen=True, slots=True)
class Word:
    """What a replica comes to for the models that are offered by it."""

    state: State
    operator: str
    """As Replica's."""
    api: str
    why_not: str
    """As Replica's."""


@dataclass(frozen=True, slots=True)
class Project:
    """Model servers under one name."""

    name: str
    owner: str
    """Address of the key that registered it, lower-case; empty: registered without a proof."""
    lease_id: str
    created: datetime
    version: int
    """How often its list has changed."""
    replicas: tuple[Replica, ...]
    """In their order; those that were unregistered are last."""
    ended: datetime | None = None
    """Since when it is unregistered."""

    @property
    def there(self) -> bool:
        """Say whether it is registered, or still being drained."""
        return self.ended is None or any(one.there for one in self.replicas)

    @property
    def shown(self) -> tuple[Replica, ...]:
        """Its replicas but for those that are gone."""
        return tuple(one for one in self.replicas if one.there)


@dataclass(frozen=True, slots=True)
class Entry:
    """What the audit log is told."""

    actor: str
    action: str
    subject: str
    detail: str


CLOCK = "clock"
"""Who makes happen what happens by itself."""


def settle(project: Project, *, now: datetime, terms: Terms) -> Project | None:
    """Return the project as it is now that time has passed; None: it is forgotten."""
    aged = [_age(one, now, terms) for one in project.replicas]
    kept = tuple(one for one in aged if one is not None)
    project = replace(project, replicas=kept) if kept != project.replicas else project
    if not any(one.there for one in kept):
        # the last of its replicas lapsed long ago, or it was unregistered: its name is free
        project = project if project.ended is not None else replace(project, ended=now)
        if not kept:
            return None
    return project


def _age(one: Replica, now: datetime, terms: Terms) -> Replica | None:
    if one.state is State.GONE:
        return None if one.ended is not None and now >= one.ended + terms.memory else one
    if one.state is State.DRAINING:
        assert one.ended is not None, "a drained replica says since when"
        over = min(one.expires, one.ended + terms.drain)
        return _age(gone(one, over), now, terms) if now >= over else one
    if now < one.expires:
        return one
    forgotten = one.expires + terms.memory
    if now >= forgotten:
        return _age(gone(one, forgotten), now, terms)  # nobody may have looked for so long that it is forgotten, too
    return one if one.state is State.LAPSED else replace(one, state=State.LAPSED, running=0)


def gone(one: Replica, now: datetime) -> Replica:
    """Return the replica as a tombstone: what keeps a late report from bringing it back."""
    return replace(one, state=State.GONE, ended=now, running=0)


def due(project: Project, terms: Terms) -> datetime:
    """Return when time next changes something about the project."""
    return min((_due(one, terms) for one in project.replicas), default=project.ended or project.created)


def _due(one: Replica, terms: Terms) -> datetime:
    match one.state:
        case State.GONE:
            return (one.ended or one.expires) + terms.memory
        case State.DRAINING:
            return min(one.expires, (one.ended or one.expires) + terms.drain)
        case State.LAPSED:
            return one.expires + terms.memory
        case _:
            return one.expires


def passed(before: Project, after: Project | None) -> list[Entry]:
    """Return what the audit log is told about what time did."""
    now = {one.id: one for one in after.replicas} if after is not None else {}
    entries: list[Entry] = []
    for one in before.replicas:
        there = now.get(one.id)
        if one.state is State.GONE or (there is not None and there.state is one.state):
            continue
        subject, where = f"{before.name}/{one.id}", f"{one.spec.model} at {one.spec.api}"
        if there is not None and there.state is State.LAPSED:
            entries.append(Entry(CLOCK, "replica-lapsed", subject, f"{where}: {there.why_not}"))
        elif there is None or there.state is State.GONE:
            was = "drained for as long as it may be" if one.state is State.DRAINING else "lapsed long ago"
            entries.append(Entry(CLOCK, "replica-gone", subject, f"{where}: {was}"))
    return entries
