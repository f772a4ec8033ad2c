"""The registry's parts put together."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aos.clock import Clock
from aos.registry.challenges import SECRET_BYTES
from aos.registry.changes import Changes, ageing
from aos.registry.servicer import RegistryServicer
from aos.registry.settings import RegistrySettings
from aos.store.sqlite import SqliteFile
from aos.store.sqlite_registry import MIGRATIONS, SqliteRegistryStore
from aos.store.sqlite_registry_projects import MIGRATIONS as PROJECT_MIGRATIONS
from aos.store.sqlite_registry_projects import SqliteProjectStore


@dataclass(frozen=True, slots=True)
class RegistryNode:
    """A running registry."""

    servicer: RegistryServicer
    changes: Changes

    def stop(self) -> None:
        """End the streams of those who watch; to be called while the server still stands."""
        self.changes.close()


@asynccontextmanager
async def running_registry(
    file: SqliteFile,
    *,
    settings: RegistrySettings | None = None,
    clock: Clock,
    randomness: Callable[[int], bytes] = secrets.token_bytes,
) -> AsyncGenerator[RegistryNode]:
    """Give a registry that keeps operators and AI projects in the file; registrations from before go on until they lapse.

    Challenges are made with ``randomness``: those of an earlier run are good no more.
    """
    for one in (MIGRATIONS, PROJECT_MIGRATIONS):
        await file.transact(one.apply)
    settings, changes = settings or RegistrySettings(), Changes(clock)
    projects = SqliteProjectStore(file, settings.terms)
    operators = SqliteRegistryStore(file)
    servicer = RegistryServicer(
        operators,
        projects,
        settings=settings,
        clock=clock,
        changes=changes,
        randomness=randomness,
        secret=randomness(SECRET_BYTES),
    )
    ages = asyncio.create_task(ageing(projects, operators, changes, settings.terms, clock))
    try:
        yield RegistryNode(servicer, changes)
    finally:
        changes.close()
        await ages
