"""Where registrations and AI projects live."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from aos.registry.catalog import Listing
from aos.registry.challenges import Secret
from aos.registry.leases import Registration
from aos.registry.projects import Seen
from aos.registry.replicas import Entry, Project, Word


@dataclass(frozen=True, slots=True)
class Kept:
    """What is to be kept of an operator."""

    registration: Registration
    entries: Sequence[Entry] = ()
    news: bool = False
    """Whether other registries are told, as those who watch them see it."""


class RegistryStore(Protocol):
    """Keeps operators and finds them. Each method is one transaction and returns only once it is durable.

    ``decide`` is pure. A store runs it inside the transaction, and may run it again after a conflict. ``since`` hides operators
    whose lease ended before it, as if they had been forgotten already. Other registries of the database are told of ``news``.
    """

    async def change(self, operator: str, decide: Callable[[Registration | None], Kept], *, now: datetime) -> Registration:
        """Show ``decide`` what is known of the operator, if anything, keep what it returns, and return the registration."""
        ...

    async def lapse(self, now: datetime, decide: Callable[[Registration], Kept]) -> None:
        """Show ``decide`` each operator whose lapse is to be noted by ``now``, and keep what it returns."""
        ...

    async def next_lapse(self) -> datetime | None:
        """Return when the next operator lapses unless it is renewed; None: there is none."""
        ...

    async def forget(self, before: datetime) -> None:
        """Drop the operators whose lease ended before that time, if that has been noted."""
        ...

    async def version(self) -> int:
        """Return a number that grows with everything that registries of the database are told."""
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


@dataclass(frozen=True, slots=True)
class Held:
    """What is known when a project is about to be changed."""

    project: Project | None
    seen: Seen
    """The signer's proofs."""
    hosted: Sequence[tuple[str, int]]
    """Other projects' owners, and how many replicas each has with the operator that is asked for."""
    projects: int
    """How many projects are kept."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be kept."""

    project: Project
    seen: Seen
    entries: Sequence[Entry] = ()


@dataclass(frozen=True, slots=True)
class Reported:
    """What is to be kept of reports."""

    projects: Sequence[Project]
    seen: Seen
    entries: Sequence[Entry] = ()
    news: bool = False
    """As Kept's."""


@dataclass(frozen=True, slots=True)
class Logged:
    """An entry of the audit log, as it is kept."""

    sequence: int
    time: datetime
    entry: Entry


class ProjectStore(Protocol):
    """Keeps AI projects and finds them. Each method is one transaction and returns only once it is durable.

    ``decide`` is pure. A store runs it inside the transaction, and may run it again after a conflict. Other registries of the
    database are told of what changed.
    """

    async def change(
        self, name: str, signer: str, operator: str, decide: Callable[[Held], Change], *, now: datetime
    ) -> tuple[Project | None, Project]:
        """Show ``decide`` what is known, keep what it returns, and return the project before and after."""
        ...

    async def report(
        self, ids: Collection[str], signer: str, decide: Callable[[Sequence[Project], Seen], Reported], *, now: datetime
    ) -> tuple[Sequence[Project], Sequence[Project]]:
        """Show ``decide`` the projects of these replicas, keep what it returns, and return them before and after."""
        ...

    async def settle(self, now: datetime, decide: Callable[[Project], tuple[Project | None, Sequence[Entry]]]) -> bool:
        """Show ``decide`` each project that is due, and keep what it returns, or forget it. Return whether there was any."""
        ...

    async def next_due(self) -> datetime | None:
        """Return when time next changes something; None: never."""
        ...

    async def get(self, name: str) -> Project | None:
        """Return one project."""
        ...

    async def page(self, *, after: str, limit: int, replicas: int, model: str = "") -> Sequence[Project]:
        """Return projects in the order of their names, as many as have ``replicas`` replicas together, one at least.

        With ``model``, only those that have a replica of it.
        """
        ...

    async def hosted(self, operator: str, *, unaddressed: bool) -> Sequence[Project]:
        """Return the projects that have replicas with this operator; ``unaddressed``: or that were registered for nobody."""
        ...

    async def words(self, ids: Collection[str]) -> dict[str, Word]:
        """Return what is to be said of these replicas; those that are not known are absent."""
        ...

    async def audit(self, *, after: int, limit: int) -> Sequence[Logged]:
        """Return entries of the audit log, oldest first."""
        ...


class SecretStore(Protocol):
    """Keeps what challenges are made with, for all registries of the database."""

    async def secrets(self, decide: Callable[[Sequence[Secret]], Sequence[Secret]]) -> Sequence[Secret]:
        """Show ``decide`` those that there are, keep what it returns, and return that."""
        ...
