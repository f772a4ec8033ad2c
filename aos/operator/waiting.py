"""Who gets the next free slot: by priority, in turn between tenants, and nobody waits for ever. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PRIORITY_LIMIT: Final = 9
"""Priorities go from minus this to this."""
TENANT_CHARS: Final = 128
"""Most characters of a tenant's name."""
PATIENCE: Final = 32
"""Who was passed over so often counts as one priority higher, and so on: low priority means later, never not at all."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a request is computed. None of them shows in the answer."""

    tenant: str = ""
    """For whom: tenants take turns, and share nothing that they could time each other by. Opaque."""
    priority: int = 0
    """Higher goes first; from -PRIORITY_LIMIT to PRIORITY_LIMIT."""
    seconds: float | None = None
    """How long the whole answer may take, waiting included. None: as long as it takes."""


@dataclass(frozen=True, slots=True)
class _Waiter:
    key: int
    tenant: str
    priority: int
    turn: int
    taken: int
    """How many had been taken when it came."""


class WaitingList:
    """Start-time fair queueing: a tenant's requests have turns one behind the other, and the earliest turn goes first.

    So a tenant with a thousand requests holds up one that has a single one by one request for each slot.
    """

    def __init__(self) -> None:
        self._waiters: dict[int, _Waiter] = {}
        self._next_turn: dict[str, int] = {}
        self._turn = 0
        self._taken = 0

    def __len__(self) -> int:
        return len(self._waiters)

    def __contains__(self, key: int) -> bool:
        return key in self._waiters

    def add(self, key: int, terms: Terms) -> None:
        """Let a request wait."""
        turn = max(self._turn, self._next_turn.get(terms.tenant, 0))
        self._next_turn[terms.tenant] = turn + 1
        self._waiters[key] = _Waiter(key, terms.tenant, terms.priority, turn, self._taken)

    def remove(self, key: int) -> bool:
        """Let it wait no longer; say whether it did."""
        return self._waiters.pop(key, None) is not None

    def take(self) -> int:
        """Return whose turn it is, and count it as taken. At least one must wait."""
        # of equals, min returns the first: who came first
        best = min(self._waiters.values(), key=lambda one: (-self._rank(one), one.turn))
        del self._waiters[best.key]
        self._taken += 1
        self._turn = max(self._turn, best.turn)
        self._next_turn = {tenant: turn for tenant, turn in self._next_turn.items() if turn > self._turn}
        return best.key

    def _rank(self, waiter: _Waiter) -> int:
        return waiter.priority + (self._taken - waiter.taken) // PATIENCE
