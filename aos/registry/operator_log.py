"""What the audit log is told about operators: that they registered, otherwise or again, lapsed and left. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from aos.registry.leases import Registration
from aos.registry.offers import Offer
from aos.registry.replicas import CLOCK, Entry
from aos.registry.store import Kept

REGISTERED: Final = "register-operator"
LEFT: Final = "unregister-operator"
LAPSED: Final = "operator-lapsed"
NAMED: Final = 3
"""Most models of each kind that an entry names."""


def noted(before: Registration | None, now: datetime) -> tuple[Registration | None, list[Entry]]:
    """Return what is known of an operator with its lapse noted, if it has lapsed by ``now``, and what the log is told of that."""
    if before is None or before.noted or before.lease.left is not None or before.lease.live(now):
        return before, []
    said = f"not renewed since it was last good until {before.lease.expires:%Y-%m-%d %H:%M:%S} UTC"
    return replace(before, noted=True), [Entry(CLOCK, LAPSED, _subject(before), said)]


def lapsed(known: Registration, now: datetime) -> Kept:
    """Return what is to be kept of an operator whose lapse is to be noted."""
    after, entries = noted(known, now)
    return Kept(after or known, entries)


def told_registered(before: Registration | None, after: Registration, now: datetime) -> list[Entry]:
    """Return what the log is told of a registration; nothing if it only began the time of the one that holds anew."""
    if before is None:
        how = "first"
    elif before.lease.left is not None:
        how = "again, after it left"
    elif not before.lease.live(now):
        how = "again, after it lapsed"
    elif _says(before) == _says(after):
        return []
    else:
        how = "changed"
    evidence = ", with an attested key" if after.attested is not None else ""
    return [Entry(after.lease.operator, REGISTERED, _subject(after), f"{how}: {_offered(before, after)}{evidence}")]


def told_left(after: Registration) -> list[Entry]:
    """Return what the log is told of an operator that leaves."""
    return [Entry(after.lease.operator, LEFT, _subject(after), f"models: {len(after.offers)}")]


def _says(one: Registration) -> tuple[object, ...]:
    binding = b"" if one.attested is None else one.attested.binding
    return tuple(offered.offer for offered in one.offers), one.vrf_key, binding


def _subject(one: Registration) -> str:
    return f"operators/{one.lease.operator}"


def _offered(before: Registration | None, after: Registration) -> str:
    had = {one.offer.model: one.offer for one in before.offers} if before is not None else dict[str, Offer]()
    has = {one.offer.model: one.offer for one in after.offers}
    kinds = (
        ("added", sorted(has.keys() - had.keys())),
        ("changed", sorted(name for name in has.keys() & had.keys() if has[name] != had[name])),
        ("removed", sorted(had.keys() - has.keys())),
    )
    said = [f"{len(names)} {kind} ({_named(names)})" for kind, names in kinds if names]
    return ", ".join([f"models: {len(has)}", *said])


def _named(names: Sequence[str]) -> str:
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    return ", ".join([*names[:NAMED], *more])
