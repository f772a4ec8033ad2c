"""Which sets of tables there are, and where their migrations are.

For PostgreSQL they are the numbered files of ``sql/postgres/<name>/``; for SQLite what the modules named here hold.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final, cast

from sqlite_utils.migrations import Migrations

POSTGRES: Final = Path(__file__).parent / "sql" / "postgres"
"""The folder of PostgreSQL's migrations."""
_SQLITE: Final = {
    "projects": "projects",
    "jobs": "jobs_tables",
    "nodes": "nodes",
    "controllers": "controllers",
    "questions": "questions",
    "broker": "broker_tables",
    "wallets": "broker_wallets",
    "answers": "broker_answers",
    "chain": "broker_chain_tables",
    "duties": "broker_duties_tables",
    "registry": "registry_tables",
    "registry_projects": "registry_projects_tables",
}
NAMES: Final = tuple(_SQLITE)
"""All sets of tables, each behind those that it refers to."""


def sqlite_migrations(name: str) -> Migrations:
    """Return a set's migrations for SQLite. Raises KeyError for a set that there is not."""
    return cast("Migrations", import_module(f"aos.store.{_SQLITE[name]}").MIGRATIONS)
