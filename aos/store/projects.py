"""Projects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from aos.dispatcher import news
from aos.dispatcher.projects import Project
from aos.dispatcher.quotas import OwnLimits
from aos.errors import ProjectExists, ProjectNotFound
from aos.store.sql import SqlDatabase, Transaction

MIGRATIONS: Final = Migrations("projects")
LIMITS: Final = tuple(field.name for field in fields(OwnLimits))
"""Columns, NULL where the dispatcher's settings hold."""


@MIGRATIONS(name="0001_projects")
def _create_projects(db: Database) -> None:
    db.table("projects").create(
        {"id": str, "token_hash": str, "created": int}, pk="id", not_null={"token_hash", "created"}, strict=True
    )
    db.table("projects").create_index(["token_hash"], unique=True)


@MIGRATIONS(name="0002_display_name")
def _add_display_name(db: Database) -> None:
    db.execute("ALTER TABLE projects ADD COLUMN display_name TEXT NOT NULL DEFAULT ''")


@MIGRATIONS(name="0003_limits")
def _add_limits(db: Database) -> None:
    for name in ("requests_per_minute", "tokens_per_day", "unfinished_jobs", "kept_jobs"):
        db.execute(f"ALTER TABLE projects ADD COLUMN {name} INTEGER")


@MIGRATIONS(name="0004_weight")
def _add_weight(db: Database) -> None:
    db.execute("ALTER TABLE projects ADD COLUMN weight INTEGER")


class SqlProjectStore:
    """Satisfies ProjectStore. The database must have the tables of projects.

    What changes of a project is told to other dispatchers in the name of ``node``, while that is not ``alone``.
    """

    def __init__(self, database: SqlDatabase, *, node: str = "", alone: Callable[[], bool] = lambda: False) -> None:
        self._database, self._node, self._alone = database, node, alone

    async def create(self, project: Project) -> None:
        def work(tx: Transaction) -> None:
            if _one(tx, "SELECT * FROM projects WHERE id = ?", project.id) is not None:
                raise ProjectExists(project.name)
            created = (project.created - _EPOCH) // _MICROSECOND
            sql = "INSERT INTO projects (id, token_hash, created, display_name) VALUES (?, ?, ?, ?)"
            tx.execute(sql, [project.id, project.token_hash, created, project.display_name])

        await self._database.transact(work)

    async def get(self, project_id: str) -> Project:
        return await self._database.transact(lambda tx: _project(tx, project_id))

    async def page(self, *, after: str, limit: int) -> Sequence[Project]:
        sql = "SELECT * FROM projects WHERE id > ? ORDER BY id LIMIT ?"
        return await self._database.transact(lambda tx: [_read(row) for row in tx.query(sql, [after, limit])])

    async def rotate(self, project_id: str, token_hash: str) -> Project:
        def work(tx: Transaction) -> Project:
            _project(tx, project_id)
            tx.execute("UPDATE projects SET token_hash = ? WHERE id = ?", [token_hash, project_id])
            return self._changed(tx, project_id)

        return await self._database.transact(work)

    async def set_limits(self, project_id: str, limits: OwnLimits) -> Project:
        def work(tx: Transaction) -> Project:
            _project(tx, project_id)
            sql = f"UPDATE projects SET {', '.join(f'{name} = :{name}' for name in LIMITS)} WHERE id = :id"  # noqa: S608  # constants
            tx.execute(sql, {**asdict(limits), "id": project_id})
            return self._changed(tx, project_id)

        return await self._database.transact(work)

    def _changed(self, tx: Transaction, project_id: str) -> Project:
        project = _project(tx, project_id)
        if not self._alone():
            tx.notify(news.CHANNEL, news.project(self._node, project.name))
        return project

    async def limits(self, project_id: str) -> OwnLimits:
        row = await self._database.transact(lambda tx: _one(tx, "SELECT * FROM projects WHERE id = ?", project_id))
        return OwnLimits() if row is None else _read(row).limits

    async def kept_jobs(self) -> Mapping[str, int]:
        sql = "SELECT id, kept_jobs FROM projects WHERE kept_jobs IS NOT NULL"
        rows = await self._database.transact(lambda tx: tx.execute(sql).fetchall())
        return {f"projects/{project_id}": kept for project_id, kept in rows}

    async def weights(self) -> Mapping[str, int]:
        sql = "SELECT id, weight FROM projects WHERE weight IS NOT NULL"
        rows = await self._database.transact(lambda tx: tx.execute(sql).fetchall())
        return {f"projects/{project_id}": weight for project_id, weight in rows}

    async def holder(self, token_hash: str) -> str | None:
        row = await self._database.transact(lambda tx: _one(tx, "SELECT id FROM projects WHERE token_hash = ?", token_hash))
        return None if row is None else str(row["id"])


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def _one(tx: Transaction, sql: str, *values: object) -> Mapping[str, Any] | None:
    return next(iter(tx.query(sql, list(values))), None)


def _project(tx: Transaction, project_id: str) -> Project:
    row = _one(tx, "SELECT * FROM projects WHERE id = ?", project_id)
    if row is None:
        raise ProjectNotFound(f"projects/{project_id}")
    return _read(row)


def _read(row: Mapping[str, Any]) -> Project:
    created, limits = _EPOCH + timedelta(microseconds=row["created"]), OwnLimits(**{name: row[name] for name in LIMITS})
    return Project(row["id"], row["token_hash"], created, row["display_name"], limits)
