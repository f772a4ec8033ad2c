"""The registry's parts put together."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aos.clock import Clock
from aos.registry.servicer import RegistryServicer
from aos.registry.settings import RegistrySettings
from aos.store.sqlite import SqliteFile
from aos.store.sqlite_registry import MIGRATIONS, SqliteRegistryStore


@dataclass(frozen=True, slots=True)
class RegistryNode:
    """A running registry."""

    servicer: RegistryServicer


@asynccontextmanager
async def running_registry(
    file: SqliteFile, *, settings: RegistrySettings | None = None, clock: Clock
) -> AsyncGenerator[RegistryNode]:
    """Give a registry that keeps its operators in the file; registrations from before go on until they lapse."""
    await file.transact(MIGRATIONS.apply)
    yield RegistryNode(RegistryServicer(SqliteRegistryStore(file), settings=settings or RegistrySettings(), clock=clock))
