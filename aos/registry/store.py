"""Where registrations live."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Protocol

from aos.registry.catalog import Listing
from aos.registry.leases import Registration


class RegistryStore(Protocol):
    """Keeps operators and finds them. Each method is one transaction and returns only once it is durable.

    ``decide`` is pure. A store runs it inside the transaction, and may run it again after a conflict. ``since`` hides operators
    whose lease ended before it, as if they had been forgotten already.
    """

    async def change(self, operator: str, decide: Callable[[Registration | None], Registration]) -> Registration:
        """Show ``decide`` what is known of the operator, if anything, and keep what it returns."""
        ...

    async def forget(self, before: datetime) -> None:
        """Drop the operators whose lease ended before that time."""
        ...

    async def count(self) -> int:
        """Return how many operators are kept."""
        ...

    async def get(self, operator: str, *, since: datetime) -> Registration | None:
        """Return one operator."""
        ...

    async def page(self, *, after: str, limit: int, since: datetime) -> Sequence[Registration]:
        """Return operators in the order of their addresses."""
        ...

    async def listings(self, models: Collection[str], *, since: datetime) -> dict[str, list[Listing]]:
        """Return every offer of these models, by model; models that nobody offers are absent."""
        ...

    async def models(self, *, after: str, limit: int, since: datetime) -> Sequence[str]:
        """Return names of models, sorted."""
        ...
