"""Projects in the SQLite file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from aos.dispatcher.projects import Project
from aos.dispatcher.quotas import OwnLimits
from aos.errors import ProjectExists, ProjectNotFound
from aos.store.sqlite import SqliteFile

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


class SqliteProjectStore:
    """Satisfies ProjectStore. The file must have had MIGRATIONS applied."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    async def create(self, project: Project) -> None:
        def work(db: Database) -> None:
            if _one(db, "SELECT * FROM projects WHERE id = ?", project.id) is not None:
                raise ProjectExists(project.name)
            created = (project.created - _EPOCH) // _MICROSECOND
            row = {"id": project.id, "token_hash": project.token_hash, "created": created}
            db.table("projects").insert(row | {"display_name": project.display_name})

        await self._file.transact(work)

    async def get(self, project_id: str) -> Project:
        return await self._file.transact(lambda db: _project(db, project_id))

    async def page(self, *, after: str, limit: int) -> Sequence[Project]:
        sql = "SELECT * FROM projects WHERE id > ? ORDER BY id LIMIT ?"
        return await self._file.transact(lambda db: [_read(row) for row in db.query(sql, [after, limit])])

    async def rotate(self, project_id: str, token_hash: str) -> Project:
        def work(db: Database) -> Project:
            _project(db, project_id)
            db.table("projects").update(project_id, {"token_hash": token_hash})
            return _project(db, project_id)

        return await self._file.transact(work)

    async def set_limits(self, project_id: str, limits: OwnLimits) -> Project:
        def work(db: Database) -> Project:
            _project(db, project_id)
            db.table("projects").update(project_id, asdict(limits))
            return _project(db, project_id)

        return await self._file.transact(work)

    async def limits(self, project_id: str) -> OwnLimits:
        row = await self._file.transact(lambda db: _one(db, "SELECT * FROM projects WHERE id = ?", project_id))
        return OwnLimits() if row is None else _read(row).limits

    async def kept_jobs(self) -> Mapping[str, int]:
        sql = "SELECT id, kept_jobs FROM projects WHERE kept_jobs IS NOT NULL"
        rows = await self._file.transact(lambda db: db.execute(sql).fetchall())
        return {f"projects/{project_id}": kept for project_id, kept in rows}

    async def weights(self) -> Mapping[str, int]:
        sql = "SELECT id, weight FROM projects WHERE weight IS NOT NULL"
        rows = await self._file.transact(lambda db: db.execute(sql).fetchall())
        return {f"projects/{project_id}": weight for project_id, weight in rows}

    async def holder(self, token_hash: str) -> str | None:
        row = await self._file.transact(lambda db: _one(db, "SELECT id FROM projects WHERE token_hash = ?", token_hash))
        return None if row is None else str(row["id"])


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def _one(db: Database, sql: str, *values: object) -> Mapping[str, Any] | None:
    return next(iter(db.query(sql, list(values))), None)


def _project(db: Database, project_id: str) -> Project:
    row = _one(db, "SELECT * FROM projects WHERE id = ?", project_id)
    if row is None:
        raise ProjectNotFound(f"projects/{project_id}")
    return _read(row)


def _read(row: Mapping[str, Any]) -> Project:
    created, limits = _EPOCH + timedelta(microseconds=row["created"]), OwnLimits(**{name: row[name] for name in LIMITS})
    return Project(row["id"], row["token_hash"], created, row["display_name"], limits)
