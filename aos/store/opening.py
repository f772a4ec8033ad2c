"""The database that an address names: a file, or PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from aos.errors import InvalidField
from aos.store.schema import NAMES
from aos.store.sql import SqlDatabase
from aos.store.sqlite import sqlite_file

CONNECTIONS: Final = 8
"""Most connections to PostgreSQL, and so transactions at a time, of one process; one more listens."""
POSTGRES: Final = ("postgresql://", "postgres://")


@asynccontextmanager
async def opened(address: str | Path, *, connections: int = CONNECTIONS, turn: str = "") -> AsyncGenerator[SqlDatabase]:
    """Open the database at a path, at `:memory:` or at a `postgresql://` URL, and close it with the block.

    ``turn``: on PostgreSQL, transactions that write come one after the other, with those of all who opened it with the same word.
    Raises InvalidField for another URL, for a file that cannot be opened, for a PostgreSQL that refuses or is away, and where its
    driver is not installed.
    """
    where = str(address)
    if where.startswith(POSTGRES):
        if find_spec("psycopg") is None:
            raise InvalidField("database", "PostgreSQL needs its driver: pip install 'aos[postgres]'")
        from aos.store.postgres import postgres_pool  # its driver is an extra

        async with postgres_pool(where, connections=connections, turn=turn) as pool:
            yield pool
    elif "://" in where:
        raise InvalidField("database", f"must be a file or begin with {POSTGRES[0]}", value=where.partition("://")[0])
    else:
        async with AsyncExitStack() as stack:
            try:
                file = await stack.enter_async_context(sqlite_file(where))
            except sqlite3.Error as error:
                raise InvalidField("database", f"{where} cannot be opened: {error}", value=where) from error
            yield file


async def migrate_all(database: SqlDatabase) -> None:
    """Bring the tables of every service up to date."""
    await database.migrate(*NAMES)
