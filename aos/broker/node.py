"""The broker's parts put together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aos.broker.servicer import BrokerServicer
from aos.broker.settings import BrokerSettings
from aos.clock import Clock
from aos.store.sqlite import SqliteFile
from aos.store.sqlite_broker import MIGRATIONS, SqliteBrokerStore


@dataclass(frozen=True, slots=True)
class BrokerNode:
    """A running broker."""

    servicer: BrokerServicer


@asynccontextmanager
async def running_broker(
    file: SqliteFile, *, settings: BrokerSettings | None = None, clock: Clock, new_id: Callable[[], str]
) -> AsyncGenerator[BrokerNode]:
    """Give a broker that keeps its journal in the file. ``new_id`` names transfers; it never gives the same twice."""
    await file.transact(MIGRATIONS.apply)
    store = SqliteBrokerStore(file)
    yield BrokerNode(BrokerServicer(store, settings=settings or BrokerSettings(), clock=clock, new_id=new_id))
