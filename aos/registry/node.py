"""The registry's parts put together."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aos.clock import Clock
from aos.registry.challenger import Challenger
from aos.registry.changes import Changes, ageing, hearing
from aos.registry.servicer import RegistryServicer
from aos.registry.settings import RegistrySettings
from aos.store.registry import SqlRegistryStore
from aos.store.registry_news import NEWS
from aos.store.registry_projects import SqlAiProjectStore
from aos.store.registry_secrets import SqlSecretStore
from aos.store.sql import SqlDatabase


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
    database: SqlDatabase,
    *,
    settings: RegistrySettings | None = None,
    clock: Clock,
    randomness: Callable[[int], bytes] = secrets.token_bytes,
) -> AsyncGenerator[RegistryNode]:
    """Give a registry that keeps operators and AI projects in the database; registrations from before go on until they lapse.

    Several registries may share a database: what is changed at one, those who watch another see, and challenges of one are good at
    all. They are made with ``randomness``.
    """
    await database.migrate("registry", "registry_projects")
    settings, changes, origin = settings or RegistrySettings(), Changes(clock), secrets.token_hex(8)
    projects = SqlAiProjectStore(database, settings.terms, origin=origin)
    operators = SqlRegistryStore(database, origin=origin)
    servicer = RegistryServicer(
        operators,
        projects,
        settings=settings,
        clock=clock,
        changes=changes,
        randomness=randomness,
        challenger=Challenger(SqlSecretStore(database), randomness),
    )
    async with database.listen(NEWS) as news:
        ages = asyncio.create_task(ageing(projects, operators, changes, settings.terms, clock))
        hears = asyncio.create_task(hearing(news, origin, changes, operators))
        try:
            yield RegistryNode(servicer, changes)
        finally:
            changes.close()
            hears.cancel()
            await asyncio.gather(hears, return_exceptions=True)
            await ages
