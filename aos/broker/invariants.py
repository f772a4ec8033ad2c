"""What must always be so of the books, and where it is not. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from aos.broker.accounts import EXTERNAL, Balance, Pot, Reason, Totals
from aos.broker.store import Entry, Standings

SHOWN: Final = 10
"""Most of those that break an invariant that are named."""


@dataclass(frozen=True, slots=True)
class Invariant:
    """One thing, and those that break it."""

    name: str
    broken_by: tuple[str, ...]


@dataclass(slots=True)
class Audit:
    """Adds the journal up, and compares. Give ``add`` all lines, in their order."""

    sequence: int = 0
    _pots: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    _outside: Counter[str] = field(default_factory=Counter[str])
    _transfers: Counter[str] = field(default_factory=Counter[str])
    _gaps: list[str] = field(default_factory=list[str])

    def add(self, entries: Iterable[Entry]) -> None:
        """Count these lines."""
        for entry in entries:
            if entry.sequence != self.sequence + 1:
                self._gaps.append(f"line {self.sequence + 1}")
            self.sequence = entry.sequence
            self._pots[entry.line.account, entry.line.pot] += entry.line.amount
            if entry.line.account == EXTERNAL:
                self._outside[entry.line.reason] += entry.line.amount
            # those that cancel out are let go of, so that what is kept does not grow with the journal
            self._transfers[entry.transfer] += entry.line.amount
            if not self._transfers[entry.transfer]:
                del self._transfers[entry.transfer]

    def compare(self, now: Standings) -> list[Invariant]:
        """Return each invariant, compared with what the rows say at the journal's end."""
        pots = {where: amount for where, amount in self._pots.items() if where[0] != EXTERNAL}
        differ = [
            f"{account} {pot}"
            for account, pot in sorted(pots.keys() | now.pots.keys())
            if pots.get((account, pot), 0) != now.pots.get((account, pot), 0)
        ]
        held = {account: amount for (account, pot), amount in now.pots.items() if pot == Pot.HELD}
        unbound = [account for account in sorted(held | now.bound) if held.get(account, 0) != now.bound.get(account, 0)]
        overdrawn = [f"{account} {pot}" for (account, pot), amount in sorted(now.pots.items()) if amount < 0]
        pending = [
            f"{account} {pot}" for (account, pot), amount in sorted(now.pending.items()) if amount > now.pots.get((account, pot), 0)
        ]
        outside = -self._pots[EXTERNAL, Pot.AVAILABLE]
        inside = sum(now.pots.values())
        return [
            _invariant("the journal has no gaps", self._gaps),
            _invariant("the lines of each transfer cancel out", sorted(self._transfers)),
            _invariant("every balance is the sum of its lines", differ),
            _invariant("the totals are the sums of the lines", self._totals_differ(now)),
            _invariant("no balance is below 0", overdrawn),
            _invariant("what is held is what holds and disputable receipts hold", unbound),
            _invariant("no refund is larger than its sub-account", pending),
            _invariant(
                "what came in is there or was paid out", [] if outside == inside else [f"{outside} came in, {inside} is there"]
            ),
        ]

    def _totals_differ(self, now: Standings) -> list[str]:
        inside: Counter[str] = Counter()
        for (account, pot), amount in self._pots.items():
            if account != EXTERNAL:
                inside[pot] += amount
        balance = Balance(inside.pop(Pot.AVAILABLE, 0), inside.pop(Pot.HELD, 0))
        deposited, paid_out = -self._outside[Reason.DEPOSIT], self._outside[Reason.REFUND]
        found = Totals(len({account for account, _ in now.pots}), balance, deposited, inside.total(), paid_out)
        return [] if found == now.totals else [f"{now.totals} is kept, {found} is there"]


def _invariant(name: str, broken_by: list[str]) -> Invariant:
    return Invariant(name, tuple(broken_by[:SHOWN]))
