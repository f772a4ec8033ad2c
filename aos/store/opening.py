"""Opening a database by its URL or path, and bringing all its tables up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aos.store import (
    sqlite_broker_chain,
    sqlite_broker_requests,
    sqlite_broker_tables,
    sqlite_controllers,
    sqlite_jobs,
    sqlite_projects,
    sqlite_registry,
    sqlite_registry_projects,
)
from aos.store.sqlite import SqliteFile, sqlite_file

MIGRATIONS = (
    sqlite_projects.MIGRATIONS,
    sqlite_jobs.MIGRATIONS,
    sqlite_controllers.MIGRATIONS,
    sqlite_registry.MIGRATIONS,
    sqlite_registry_projects.MIGRATIONS,
    sqlite_broker_tables.MIGRATIONS,
    sqlite_broker_requests.MIGRATIONS,
    sqlite_broker_chain.MIGRATIONS,
)
"""Of all slices."""


@asynccontextmanager
async def opened(database: str | Path) -> AsyncGenerator[SqliteFile]:
    """Give the database until the block ends: the path of an SQLite file, or `:memory:`.

    Raises ValueError for a URL, and for a file that cannot be opened or is no database.
    """
    if "://" in str(database):
        raise ValueError("there is no driver for URLs here; give a path")
    async with AsyncExitStack() as stack:
        try:
            file = await stack.enter_async_context(sqlite_file(database))
        except sqlite3.Error as error:
            raise ValueError(f"{database}: {error}") from error
        yield file


async def migrate_all(database: str | Path) -> None:
    """Bring the tables of all slices up to date; what is up to date stays as it is."""
    async with opened(database) as file:
        for one in MIGRATIONS:
            await file.transact(one.apply)
