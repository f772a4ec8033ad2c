"""What happened to an account in a time, added up from the journal. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from aos.broker.accounts import Reason
from aos.broker.store import Entry
from aos.errors import InvalidField

_MONTH: Final = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
_DECEMBER: Final = 12
_LAST: Final = 9998
"""The last year that another one follows."""


@dataclass(frozen=True, slots=True)
class Period:
    """From ``start`` on, and before ``end``; None is open."""

    start: datetime | None
    end: datetime | None


@dataclass(slots=True)
class Turnover:
    """All lines of one reason and pot."""

    lines: int = 0
    credited: int = 0
    debited: int = 0


@dataclass(slots=True)
class Statement:
    """Opening balances and movements, which add up to closing balances. Give ``add`` the account's lines, oldest first."""

    period: Period
    opening: dict[str, int] = field(default_factory=dict[str, int])
    closing: dict[str, int] = field(default_factory=dict[str, int])
    movements: dict[tuple[Reason, str], Turnover] = field(default_factory=lambda: defaultdict(Turnover))

    def add(self, entries: Iterable[Entry]) -> None:
        """Count these lines; those behind the period are left out."""
        for entry in entries:
            line = entry.line
            if self.period.end is not None and entry.time >= self.period.end:
                continue
            self.closing[line.pot] = self.closing.get(line.pot, 0) + line.amount
            if self.period.start is not None and entry.time < self.period.start:
                self.opening[line.pot] = self.opening.get(line.pot, 0) + line.amount
                continue
            turnover = self.movements[line.reason, line.pot]
            turnover.lines += 1
            turnover.credited += max(0, line.amount)
            turnover.debited += max(0, -line.amount)


@dataclass(slots=True)
class Months:
    """A statement for each month in which something happened. Give ``add`` the account's lines, oldest first."""

    statements: list[Statement] = field(default_factory=list[Statement])

    def add(self, entries: Iterable[Entry]) -> None:
        """Count these lines."""
        for entry in entries:
            time = entry.time.astimezone(UTC)
            last = self.statements[-1] if self.statements else None
            # a clock that went back does not open a month again: the line counts in the latest one
            if last is None or (last.period.end is not None and time >= last.period.end):
                balances = {} if last is None else dict(last.closing)
                last = Statement(month(f"{time.year:04}-{time.month:02}", "month"), balances, dict(balances))
                self.statements.append(last)
            line = entry.line
            last.closing[line.pot] = last.closing.get(line.pot, 0) + line.amount
            turnover = last.movements[line.reason, line.pot]
            turnover.lines += 1
            turnover.credited += max(0, line.amount)
            turnover.debited += max(0, -line.amount)


def month(name: str, at: str) -> Period:
    """Return the month, in UTC. Raises InvalidField unless it is written `2026-01`."""
    found = _MONTH.fullmatch(name)
    if found is None or not 1 <= int(found[1]) <= _LAST:
        raise InvalidField(at, "must be a month, as 2026-01", value=name, limit="YYYY-MM")
    year, number = int(found[1]), int(found[2])
    following = (year + 1, 1) if number == _DECEMBER else (year, number + 1)
    return Period(datetime(year, number, 1, tzinfo=UTC), datetime(*following, 1, tzinfo=UTC))
