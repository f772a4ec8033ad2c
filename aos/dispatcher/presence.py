"""Who is there: the dispatchers of one database, and operators' streams with them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from aos.v1.registry_pb2 import Offer


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A dispatcher that uses the database."""

    node: str
    holder: str
    """Another for each start, so that two of one name are told apart."""
    beats: int
    """How often it has said that it is there."""


@dataclass(frozen=True, slots=True)
class There:
    """An operator's stream, as all dispatchers of the database see it."""

    operator: str
    node: str
    """The dispatcher that has it."""
    version: int
    """Counts the operator's streams, over all dispatchers."""
    token_hash: str
    offers: tuple[Offer, ...]
    tee: bool = False
    """Whether its key is attested."""
    vrf_key_since: datetime | None = None
    broken: frozenset[str] = frozenset()
    """Models that get no jobs because they do not work."""
