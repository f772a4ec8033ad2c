"""Brings PostgreSQL's tables up to date, from the numbered files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI

from aos.errors import ServiceUnavailable
from aos.store.schema import POSTGRES

TABLE: Final = "aos_migrations"
"""Which migrations the database has had."""
KEY: Final = 0x616F73
"""Of the advisory lock that whoever migrates has. It goes with its connection, so that a process that is killed leaves none."""
_CONNINFO: Final = "conninfo"


class _Backend(PostgresqlPsycopgBackend):
    """Connects as we do, rather than by yoyo's own reading of URLs."""

    def connect(self, dburi: DatabaseURI) -> psycopg.Connection[Any]:
        return psycopg.connect(dburi.args[_CONNINFO], autocommit=True)


def bring_up(conninfo: str, names: Sequence[str]) -> None:
    """Apply what is missing of these sets of tables, in their order. Raises ServiceUnavailable when the database is away."""
    try:
        # every other process waits here, and then finds nothing to do
        with psycopg.connect(conninfo, autocommit=True) as lock:
            lock.execute("SET lock_timeout TO 0")
            lock.execute("SELECT pg_advisory_lock(%s)", [KEY])
            address = DatabaseURI("postgresql+psycopg", None, None, None, None, "", {_CONNINFO: conninfo})
            backend = _Backend(address, TABLE)
            try:
                backend.init_database()
                for name in names:
                    migrations = read_migrations(str(POSTGRES / name))
                    backend.apply_migrations(backend.to_apply(migrations))
            finally:
                backend.connection.close()
    except psycopg.OperationalError as error:
        raise ServiceUnavailable("database") from error
