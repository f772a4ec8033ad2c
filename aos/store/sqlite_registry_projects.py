"""AI projects and their audit log in SQLite."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from aos.registry.projects import PROOFS_KEPT, Seen
from aos.registry.replicas import Entry, Project, Replica, State, Terms, Word, due
from aos.registry.specs import Kind, Spec
from aos.registry.store import Change, Held, Logged, Reported
from aos.store.registry_audit import read_entries, write_entries
from aos.store.sqlite import SqliteFile

MIGRATIONS: Final = Migrations("registry_projects")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@MIGRATIONS(name="0001_projects")
def _projects(db: Database) -> None:
    # times are microseconds since 1970-01-01 UTC; `due` is when time next changes something about the project
    for sql in (
        """CREATE TABLE registry_projects (
            name TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            lease_id TEXT NOT NULL,
            created INTEGER NOT NULL,
            version INTEGER NOT NULL,
            ended INTEGER,
            due INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX registry_projects_due ON registry_projects (due)",
        """CREATE TABLE registry_replicas (
            id TEXT PRIMARY KEY,
            project TEXT NOT NULL REFERENCES registry_projects ON DELETE CASCADE,
            position INTEGER NOT NULL,
            model TEXT NOT NULL,
            api TEXT NOT NULL,
            kind INTEGER NOT NULL,
            cid TEXT NOT NULL,
            address TEXT NOT NULL,
            asked TEXT NOT NULL,
            operator TEXT NOT NULL,
            created INTEGER NOT NULL,
            expires INTEGER NOT NULL,
            state TEXT NOT NULL,
            reason TEXT NOT NULL,
            capabilities TEXT NOT NULL,
            next_probe INTEGER,
            checked INTEGER,
            running INTEGER NOT NULL,
            reported INTEGER NOT NULL,
            ended INTEGER
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX registry_replicas_project ON registry_replicas (project, position)",
        "CREATE INDEX registry_replicas_operator ON registry_replicas (operator, project)",
        "CREATE INDEX registry_replicas_model ON registry_replicas (model, project)",
        "CREATE TABLE registry_signers (signer TEXT PRIMARY KEY, issued_at INTEGER NOT NULL, used TEXT NOT NULL) STRICT",
        """CREATE TABLE registry_audit (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            time INTEGER NOT NULL,
            actor TEXT NOT NULL,
            action TEXT NOT NULL,
            subject TEXT NOT NULL,
            detail TEXT NOT NULL
        ) STRICT""",
        # a log that could be rewritten would prove nothing
        """CREATE TRIGGER registry_audit_kept BEFORE DELETE ON registry_audit
            BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
        """CREATE TRIGGER registry_audit_fixed BEFORE UPDATE ON registry_audit
            BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    ):
        db.execute(sql)


class SqliteProjectStore:
    """A ProjectStore in one file."""

    def __init__(self, file: SqliteFile, terms: Terms) -> None:
        self._file, self._terms = file, terms

    async def change(
        self, name: str, signer: str, operator: str, decide: Callable[[Held], Change], *, now: datetime
    ) -> tuple[Project | None, Project]:
        """Show ``decide`` what is known, keep what it returns, and return the project before and after."""

        def work(db: Database) -> tuple[Project | None, Project]:
            before = _read(db, name)
            counted = db.query(
                "SELECT owner, count(*) AS count FROM registry_replicas JOIN registry_projects ON project = name"
                " WHERE asked = ? AND project <> ? AND state <> ? GROUP BY owner",
                [operator, name, State.GONE],
            )
            hosted = [(row["owner"], row["count"]) for row in counted]
            kept = db.execute("SELECT count(*) FROM registry_projects").fetchone()[0]
            made = decide(Held(before, _seen(db, signer), hosted, kept))
            self._write(db, made.project, before)
            _write_seen(db, signer, made.seen, now)
            write_entries(db, made.entries, now)
            return before, made.project

        return await self._file.transact(work)

    async def report(
        self, ids: Collection[str], signer: str, decide: Callable[[Sequence[Project], Seen], Reported], *, now: datetime
    ) -> tuple[Sequence[Project], Sequence[Project]]:
        """Show ``decide`` the projects of these replicas, keep what it returns, and return them before and after."""

        def work(db: Database) -> tuple[Sequence[Project], Sequence[Project]]:
            found = db.query(
                "SELECT DISTINCT project FROM registry_replicas WHERE id IN (SELECT value FROM json_each(?)) ORDER BY project",
                [json.dumps(list(ids))],
            )
            before = _read_all(db, [row["project"] for row in found])
            made = decide(before, _seen(db, signer))
            were = {one.name: one for one in before}
            for project in made.projects:
                self._write(db, project, were.get(project.name))
            _write_seen(db, signer, made.seen, now)
            write_entries(db, made.entries, now)
            return before, made.projects

        return await self._file.transact(work)

    async def settle(self, now: datetime, decide: Callable[[Project], tuple[Project | None, Sequence[Entry]]]) -> bool:
        """Show ``decide`` each project that is due, and keep what it returns, or forget it. Return whether there was any."""

        def work(db: Database) -> bool:
            names = [row["name"] for row in db.query("SELECT name FROM registry_projects WHERE due <= ?", [_write_time(now)])]
            for name in names:
                before = _read(db, name)
                assert before is not None, "its name was read in this transaction"
                after, entries = decide(before)
                if after is None:
                    db.execute("DELETE FROM registry_projects WHERE name = ?", [name])
                else:
                    self._write(db, after, before)
                write_entries(db, entries, now)
            return bool(names)

        return await self._file.transact(work)

    async def next_due(self) -> datetime | None:
        """Return when time next changes something; None: never."""
        found = await self._file.transact(lambda db: db.execute("SELECT min(due) FROM registry_projects").fetchone()[0])
        return None if found is None else _time(found)

    async def get(self, name: str) -> Project | None:
        """Return one project."""
        return await self._file.transact(lambda db: _read(db, name))

    async def page(self, *, after: str, limit: int, replicas: int, model: str = "") -> Sequence[Project]:
        """Return projects in the order of their names, as many as have ``replicas`` replicas together, one at least."""

        def work(db: Database) -> list[Project]:
            rows = db.query(
                "SELECT name, (SELECT count(*) FROM registry_replicas WHERE project = name) AS replicas"
                " FROM registry_projects WHERE name > ?1"
                " AND (?2 = '' OR name IN (SELECT project FROM registry_replicas WHERE model = ?2)) ORDER BY name LIMIT ?3",
                [after, model, limit],
            )
            names: list[str] = []
            count = 0
            for row in rows:
                count += row["replicas"]
                if names and count > replicas:
                    break
                names.append(row["name"])
            return _read_all(db, names)

        return await self._file.transact(work)

    async def hosted(self, operator: str, *, unaddressed: bool) -> Sequence[Project]:
        """Return the projects that have replicas with this operator; ``unaddressed``: or that were registered for nobody."""

        def work(db: Database) -> list[Project]:
            rows = db.query(
                "SELECT DISTINCT project FROM registry_replicas WHERE state <> ? AND (operator = ? OR (? AND asked = ''))"
                " ORDER BY project",
                [State.GONE, operator, int(unaddressed)],
            )
            return _read_all(db, [row["project"] for row in rows])

        return await self._file.transact(work)

    async def words(self, ids: Collection[str]) -> dict[str, Word]:
        """Return what is to be said of these replicas; those that are not known are absent."""

        def work(db: Database) -> dict[str, Word]:
            rows = db.query("SELECT * FROM registry_replicas WHERE id IN (SELECT value FROM json_each(?))", [json.dumps(list(ids))])
            return {one.id: Word(one.state, one.operator, one.spec.api, one.why_not) for one in map(_replica, rows)}

        return await self._file.transact(work)

    async def audit(self, *, after: int, limit: int) -> Sequence[Logged]:
        """Return entries of the audit log, oldest first."""
        return await self._file.transact(lambda db: read_entries(db, after=after, limit=limit))

    def _write(self, db: Database, project: Project, before: Project | None) -> None:
        if project == before:
            return
        values: dict[str, Any] = {
            "name": project.name,
            "owner": project.owner,
            "lease_id": project.lease_id,
            "created": _write_time(project.created),
            "version": project.version,
            "ended": _write_maybe(project.ended),
            "due": _write_time(due(project, self._terms)),
        }
        db.table("registry_projects").upsert(values, pk="name")
        known = dict(enumerate(before.replicas)) if before is not None else {}
        for position, one in enumerate(project.replicas):
            if known.get(position) != one:
                db.table("registry_replicas").upsert(_row(project.name, position, one), pk="id")
        gone = {one.id for one in known.values()} - {one.id for one in project.replicas}
        for identity in gone:
            db.execute("DELETE FROM registry_replicas WHERE id = ?", [identity])


def _read(db: Database, name: str) -> Project | None:
    return next(iter(_read_all(db, [name])), None)


def _read_all(db: Database, names: Collection[str]) -> list[Project]:
    """Return the projects of these names that there are, in the order of the names, their replicas read together."""
    asked = [json.dumps(list(names))]
    rows = list(db.query("SELECT * FROM registry_projects WHERE name IN (SELECT value FROM json_each(?)) ORDER BY name", asked))
    replicas: dict[str, list[Replica]] = {row["name"]: [] for row in rows}
    with_them = "SELECT * FROM registry_replicas WHERE project IN (SELECT value FROM json_each(?)) ORDER BY project, position"
    for one in db.query(with_them, asked):
        replicas[one["project"]].append(_replica(one))
    return [_project(row, replicas[row["name"]]) for row in rows]


def _project(row: dict[str, Any], replicas: Sequence[Replica]) -> Project:
    return Project(
        name=row["name"],
        owner=row["owner"],
        lease_id=row["lease_id"],
        created=_time(row["created"]),
        version=row["version"],
        replicas=tuple(replicas),
        ended=_maybe(row["ended"]),
    )


def _replica(row: dict[str, Any]) -> Replica:
    return Replica(
        id=row["id"],
        spec=Spec(row["model"], row["api"], Kind(row["kind"]), row["cid"], row["address"]),
        asked=row["asked"],
        operator=row["operator"],
        created=_time(row["created"]),
        expires=_time(row["expires"]),
        state=State(row["state"]),
        reason=row["reason"],
        capabilities=tuple(row["capabilities"].split()),
        next_probe=_maybe(row["next_probe"]),
        checked=_maybe(row["checked"]),
        running=row["running"],
        reported=bool(row["reported"]),
        ended=_maybe(row["ended"]),
    )


def _row(project: str, position: int, one: Replica) -> dict[str, Any]:
    return {
        "id": one.id,
        "project": project,
        "position": position,
        "model": one.spec.model,
        "api": one.spec.api,
        "kind": int(one.spec.kind),
        "cid": one.spec.cid,
        "address": one.spec.address,
        "asked": one.asked,
        "operator": one.operator,
        "created": _write_time(one.created),
        "expires": _write_time(one.expires),
        "state": str(one.state),
        "reason": one.reason,
        "capabilities": " ".join(one.capabilities),
        "next_probe": _write_maybe(one.next_probe),
        "checked": _write_maybe(one.checked),
        "running": one.running,
        "reported": int(one.reported),
        "ended": _write_maybe(one.ended),
    }


def _seen(db: Database, signer: str) -> Seen:
    row = next(iter(db.query("SELECT * FROM registry_signers WHERE signer = ?", [signer])), None)
    return Seen() if row is None else Seen(row["issued_at"], tuple(row["used"].split()))


def _write_seen(db: Database, signer: str, seen: Seen, now: datetime) -> None:
    if seen == Seen():
        return
    # proofs that are too old to be taken need not be known
    db.execute("DELETE FROM registry_signers WHERE issued_at < ?", [int(now.timestamp()) - PROOFS_KEPT])
    db.table("registry_signers").upsert({"signer": signer, "issued_at": seen.issued_at, "used": " ".join(seen.used)}, pk="signer")


def _write_time(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _write_maybe(time: datetime | None) -> int | None:
    return None if time is None else _write_time(time)


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _maybe(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _time(microseconds)
