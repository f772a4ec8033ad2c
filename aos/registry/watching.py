"""The catalogue as dispatchers watch it: what counts as a change, and how it fits into messages."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aos.v1 import registry_pb2 as pb

REASONS: Final = timedelta(seconds=1)
"""How old a reason may be that says how long something is so."""
PART_BYTES: Final = 1 << 20
"""A message of the catalogue is closed once it has so many bytes."""


async def everything(method: Callable[[Any, Any], Awaitable[Any]], request: Any, field: str, context: Any) -> list[Any]:
    """Return all items of a list, over its pages."""
    found: list[Any] = []
    while True:
        page = await method(request, context)
        found += getattr(page, field)
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


@dataclass(frozen=True, slots=True)
class Whole:
    """The catalogue at one time, not to be changed."""

    models: Sequence[pb.Model]
    operators: Sequence[pb.OperatorInfo]
    looks: Sequence[bytes]
    """What of it counts as a change."""
    until: datetime | None
    """When time next changes it, unless leases are renewed before; None: never."""
    reasons_until: datetime | None
    """When time next changes the reasons in it, too: they say since when a model cannot be used."""


def whole(models: Sequence[pb.Model], operators: Sequence[pb.OperatorInfo], now: datetime, claim: timedelta) -> Whole:
    """Return the catalogue of these."""
    until = next_change(operators, now, claim)
    ages = [] if all(model.routable for model in models) else [now + REASONS]
    return Whole(models, operators, looks(models, operators), until, min([*ages, *([until] if until else [])], default=None))


def page(models: Sequence[pb.Model], after: str, length: int) -> tuple[Sequence[pb.Model], bool]:
    """Return the models behind a name, in order of names, at most so many; and whether there are more."""
    start = bisect_right(models, after, key=lambda model: model.name)
    return models[start : start + length], len(models) > start + length


class Shared:
    """The catalogue as it was read last: all who watch are shown the same one, read once a change."""

    def __init__(self) -> None:
        self._known: tuple[int, Whole] | None = None
        self._reading = asyncio.Lock()

    async def get(self, version: int, now: datetime, read: Callable[[], Awaitable[Whole]], *, reasons: bool = False) -> Whole:
        """Return the catalogue, no older than ``version``, as it is ``now``; ``read`` reads it.

        ``reasons``: they are looked at, and must be as they are now, too.
        """
        async with self._reading:
            if self._known is not None and self._known[0] >= version:
                known = self._known[1]
                until = known.reasons_until if reasons else known.until
                if until is None or now < until:
                    return known
            known = await read()
            self._known = (version, known)
            return known


def looks(models: Sequence[pb.Model], operators: Sequence[pb.OperatorInfo]) -> list[bytes]:
    """Return what of them counts as a change. That a lease was renewed does not, nor how long ago one lapsed."""
    found: list[bytes] = []
    for model in models:
        look = pb.Model()
        look.CopyFrom(model)
        if not look.routable:
            look.reason = ""
        found.append(look.SerializeToString(deterministic=True))
    for operator in operators:
        seen = pb.OperatorInfo()
        seen.CopyFrom(operator)
        seen.ClearField("expires")
        if not seen.routable:
            seen.reason = ""
        found.append(seen.SerializeToString(deterministic=True))
    return found


def parts(version: int, models: Sequence[pb.Model], operators: Sequence[pb.OperatorInfo]) -> Iterator[pb.Catalog]:
    """Yield the catalogue in messages of about ``PART_BYTES``; at least one."""
    part, size = pb.Catalog(version=version), 0
    for field, items in (("models", models), ("operators", operators)):
        for item in items:
            if size >= PART_BYTES:
                part.more = True
                yield part
                part, size = pb.Catalog(version=version), 0
            getattr(part, field).append(item)
            size += item.ByteSize()
    yield part


def next_change(operators: Sequence[pb.OperatorInfo], now: datetime, claim: timedelta) -> datetime | None:
    """Return when time next changes the catalogue, unless leases are renewed before: one lapses, or a claim does."""
    ends = [operator.expires.ToDatetime(UTC) for operator in operators]
    return min((time for end in ends for time in (end, end + claim) if time > now), default=None)
