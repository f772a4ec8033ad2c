"""Who gets the next free slot: tenants in turn, a tenant's own requests by priority, and nobody waits for ever. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

PRIORITY_LIMIT: Final = 9
"""Priorities go from minus this to this."""
TENANT_CHARS: Final = 128
"""Most characters of a tenant's name."""
PATIENCE: Final = 32
"""Every so many turns go to whoever has waited longest: low priority means later, never not at all."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a request is computed. None of them shows in the answer."""

    tenant: str = ""
    """For whom: tenants take turns, and share nothing that they could time each other by. Opaque."""
    priority: int = 0
    """Among the tenant's own requests higher goes first; from -PRIORITY_LIMIT to PRIORITY_LIMIT."""
    seconds: float | None = None
    """How long the whole answer may take, waiting included. None: as long as it takes."""


@dataclass(frozen=True, slots=True)
class _Waiter:
    key: int
    priority: int
    number: int
    """Counts all that ever waited, in the order of their coming."""


@dataclass(slots=True)
class _Tenant:
    """One tenant's requests that wait, in the order of their coming."""

    turn: int
    """When it is this tenant's turn; each request that is taken moves it on by one."""
    waiters: dict[int, _Waiter] = field(default_factory=dict[int, _Waiter])
    taken: int = 0

    @property
    def oldest(self) -> _Waiter:
        return next(iter(self.waiters.values()))

    def take(self) -> int:
        self.taken += 1
        self.turn += 1
        patient = not self.taken % PATIENCE
        # of equals, max returns the first: who came first
        one = self.oldest if patient else max(self.waiters.values(), key=lambda waiter: waiter.priority)
        del self.waiters[one.key]
        return one.key


class WaitingList:
    """Start-time fair queueing between tenants: each has its turn, and a priority counts among its own requests only.

    So a tenant with a thousand requests, all of the highest priority, holds up one that has a single one by one request a slot.
    """

    def __init__(self) -> None:
        self._tenants: dict[str, _Tenant] = {}
        self._whose: dict[int, str] = {}
        self._turn = self._taken = self._came = 0

    def __len__(self) -> int:
        return len(self._whose)

    def __contains__(self, key: int) -> bool:
        return key in self._whose

    def add(self, key: int, terms: Terms) -> None:
        """Let a request wait."""
        tenant = self._tenants.setdefault(terms.tenant, _Tenant(self._turn))
        # who was away does not go ahead of all the turns that it missed
        tenant.turn = tenant.turn if tenant.waiters else max(tenant.turn, self._turn)
        tenant.waiters[key] = _Waiter(key, terms.priority, self._came)
        self._came += 1
        self._whose[key] = terms.tenant

    def remove(self, key: int) -> bool:
        """Let it wait no longer; say whether it did."""
        name = self._whose.pop(key, None)
        if name is None:
            return False
        tenant = self._tenants[name]
        del tenant.waiters[key]
        if not tenant.waiters and tenant.turn <= self._turn:
            del self._tenants[name]
        return True

    def take(self) -> int:
        """Return whose turn it is, and count it as taken. At least one must wait."""
        self._taken += 1
        if self._taken % PATIENCE:
            waiting = {name: one for name, one in self._tenants.items() if one.waiters}
            name = min(waiting, key=lambda name: (waiting[name].turn, waiting[name].oldest.number))
        else:  # however many tenants come that never were here before
            name = next(iter(self._whose.values()))
        tenant = self._tenants[name]
        self._turn = max(self._turn, tenant.turn)
        key = tenant.take()
        del self._whose[key]
        self._tenants = {name: one for name, one in self._tenants.items() if one.waiters or one.turn > self._turn}
        return key
