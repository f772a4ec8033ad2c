"""What dispatchers on one database tell each other: that something is new, never what; that is read from the database. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aos.dispatcher.jobs import State

CHANNEL: Final = "aos_news"
"""Where they are told."""
TOGETHER: Final = 100
"""Most jobs that one message speaks of: PostgreSQL takes less than 8000 bytes, and a job's id has 64."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A job came into another state."""

    node: str
    """Who says it."""
    job_id: str
    state: State
    sequence: int
    """Of the move's last event: tells what is older than what one knows."""


@dataclass(frozen=True, slots=True)
class Grew:
    """These jobs have more output."""

    node: str
    job_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attached:
    """An operator has a stream with the one who says it, or has none any more."""

    node: str
    operator: str
    version: int
    """Counts the operator's streams, over all dispatchers."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project's token or limits changed."""

    node: str
    project: str


@dataclass(frozen=True, slots=True)
class Nodes:
    """A dispatcher came or went, or gave a check to others."""

    node: str


News = Moved | Grew | Attached | Project | Nodes


def moved(node: str, job_id: str, state: State, sequence: int) -> str:
    """Return the message that a job moved."""
    return _write("moved", node, job_id, int(state), sequence)


def grew(node: str, job_ids: Sequence[str]) -> list[str]:
    """Return the messages that jobs have more output."""
    ids = list(dict.fromkeys(job_ids))
    return [_write("grew", node, *ids[first : first + TOGETHER]) for first in range(0, len(ids), TOGETHER)]


def attached(node: str, operator: str, version: int) -> str:
    """Return the message that an operator attached or left."""
    return _write("attached", node, operator, version)


def project(node: str, name: str) -> str:
    """Return the message that `projects/…` changed."""
    return _write("project", node, name)


def nodes(node: str) -> str:
    """Return the message that a dispatcher came or went."""
    return _write("nodes", node)


def _write(*parts: object) -> str:
    return json.dumps(parts, separators=(",", ":"))


def read(text: str) -> News | None:
    """Return what the message says; None for one that this version does not know: a newer one may speak, too."""
    found: News | None = None
    try:
        said: Any = json.loads(text)
        match said:
            case ["moved", str(node), str(job_id), int(state), int(sequence)]:
                found = Moved(node, job_id, State(state), sequence)
            case ["grew", str(node), *job_ids] if all(isinstance(one, str) for one in job_ids):
                found = Grew(node, tuple(job_ids))
            case ["attached", str(node), str(operator), int(version)]:
                found = Attached(node, operator, version)
            case ["project", str(node), str(name)]:
                found = Project(node, name)
            case ["nodes", str(node)]:
                found = Nodes(node)
            case _:
                pass
    except (ValueError, RecursionError):
        return None
    return found
