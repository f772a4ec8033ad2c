"""Who gets in: so many requests at once, so many of one tenant, and nobody once the door is shut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from threading import Lock

from aos.errors import QueueFull, ShuttingDown


class Door:
    """Counts who is inside. Used from any thread."""

    def __init__(self, what: str, *, limit: int, tenant_limit: int) -> None:
        """``what`` is behind it, in the words of a refusal; at most ``limit`` get in, and ``tenant_limit`` of one tenant."""
        self._what, self._limit, self._tenant_limit = what, limit, tenant_limit
        self._lock, self._tenants = Lock(), Counter[str]()
        self._shut = False

    @property
    def inside(self) -> int:
        """How many are inside."""
        return self._tenants.total()

    @property
    def is_shut(self) -> bool:
        """Whether nobody gets in any more."""
        return self._shut

    @contextmanager
    def entered(self, tenant: str) -> Generator[None]:
        """Be inside for the block. Raises QueueFull or ShuttingDown."""
        with self._lock:
            if self._shut:
                raise ShuttingDown
            if self._tenants.total() >= self._limit:
                raise QueueFull(self._what, self._limit)
            if self._tenants[tenant] >= self._tenant_limit:
                raise QueueFull(f"{self._what}, one tenant", self._tenant_limit)
            self._tenants[tenant] += 1
        try:
            yield
        finally:
            with self._lock:
                self._tenants[tenant] -= 1
                if not self._tenants[tenant]:
                    del self._tenants[tenant]

    @contextmanager
    def open(self) -> Generator[None]:
        """Keep it from being shut during the block, which must be short. Raises ShuttingDown if it is."""
        with self._lock:
            if self._shut:
                raise ShuttingDown
            yield

    @contextmanager
    def shutting(self) -> Generator[bool]:
        """Shut it; the block runs before anyone sees that, and is told whether it was open."""
        with self._lock:
            first, self._shut = not self._shut, True
            yield first
