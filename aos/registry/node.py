"""The registry's parts put together."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aos.clock import Clock
from aos.registry.challenges import SECRET_BYTES
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
    file: SqliteFile,
    *,
    settings: RegistrySettings | None = None,
    clock: Clock,
    randomness: Callable[[int], bytes] = secrets.token_bytes,
) -> AsyncGenerator[RegistryNode]:
    """Give a registry that keeps its operators in the file; registrations from before go on until they lapse.

    Challenges are made with ``randomness``: those of an earlier run are good no more.
    """
    await file.transact(MIGRATIONS.apply)
    store, secret = SqliteRegistryStore(file), randomness(SECRET_BYTES)
    yield RegistryNode(RegistryServicer(store, settings=settings or RegistrySettings(), clock=clock, secret=secret))
