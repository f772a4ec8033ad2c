"""AI projects and their audit log."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aos.registry.projects import PROOFS_KEPT, Seen
from aos.registry.replicas import Entry, Project, Replica, State, Terms, Word, due
from aos.registry.specs import Kind, Spec
from aos.registry.store import Change, Held, Logged, Reported
from aos.store.reading import among, at_one_time, first, kept
from aos.store.registry_audit import read_entries, write_entries
from aos.store.registry_news import tell_others
from aos.store.sql import SqlDatabase, Transaction

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_PROJECT: Final = ("name", "owner", "lease_id", "created", "version", "ended", "due")
_REPLICA: Final = (
    "id", "project", "position", "model", "api", "kind", "cid", "address", "asked", "operator", "created", "expires", "state",
    "reason", "capabilities", "next_probe", "checked", "running", "reported", "ended",
)  # fmt: skip
_KEEP_PROJECT: Final = kept("registry_projects", _PROJECT, "name")
_KEEP_REPLICA: Final = kept("registry_replicas", _REPLICA, "id")
_KEEP_SIGNER: Final = kept("registry_signers", ("signer", "issued_at", "used"), "signer")


class SqlAiProjectStore:
    """A ProjectStore in a database. ``origin`` is what it says of itself when it tells other registries that something changed."""

    def __init__(self, database: SqlDatabase, terms: Terms, *, origin: str = "") -> None:
        self._database, self._terms, self._origin = database, terms, origin

    async def change(
        self, name: str, signer: str, operator: str, decide: Callable[[Held], Change], *, now: datetime
    ) -> tuple[Project | None, Project]:
        """Show ``decide`` what is known, keep what it returns, and return the project before and after."""

        def work(tx: Transaction) -> tuple[Project | None, Project]:
            tx.advisory("registry projects")  # how many there are is a limit, and so is how many an operator is asked for
            seen, before = _seen(tx, signer, own=True), next(iter(_read_all(tx, [name], own=True)), None)
            counted = tx.query(
                "SELECT owner, count(*) AS count FROM registry_replicas JOIN registry_projects ON project = name"
                " WHERE asked = ? AND project <> ? AND state <> ? GROUP BY owner",
                [operator, name, State.GONE],
            )
            hosted = [(row["owner"], row["count"]) for row in counted]
            count = tx.execute("SELECT count(*) FROM registry_projects").fetchone()[0]
            made = decide(Held(before, seen, hosted, count))
            self._write(tx, made.project, before)
            _write_seen(tx, signer, made.seen, now)
            if made.project != before:
                tell_others(tx, self._origin)
            write_entries(tx, made.entries, now)
            return before, made.project

        return await self._database.transact(work)

    async def report(
        self, ids: Collection[str], signer: str, decide: Callable[[Sequence[Project], Seen], Reported], *, now: datetime
    ) -> tuple[Sequence[Project], Sequence[Project]]:
        """Show ``decide`` the projects of these replicas, keep what it returns, and return them before and after."""

        def work(tx: Transaction) -> tuple[Sequence[Project], Sequence[Project]]:
            seen = _seen(tx, signer, own=True)
            are, replicas = among(tx, ids)
            sql = f"SELECT DISTINCT project FROM registry_replicas WHERE id {are} ORDER BY project"  # noqa: S608  # one of two texts
            before = _read_all(tx, [row["project"] for row in tx.query(sql, [replicas])], own=True)
            made = decide(before, seen)
            were = {one.name: one for one in before}
            for project in made.projects:
                self._write(tx, project, were.get(project.name))
            _write_seen(tx, signer, made.seen, now)
            if made.news:
                tell_others(tx, self._origin)
            write_entries(tx, made.entries, now)
            return before, made.projects

        return await self._database.transact(work)

    async def settle(self, now: datetime, decide: Callable[[Project], tuple[Project | None, Sequence[Entry]]]) -> bool:
        """Show ``decide`` each project that is due, and keep what it returns, or forget it. Return whether there was any."""

        def work(tx: Transaction) -> bool:
            # of two registries that look at once, the second finds what the first has left
            due = f"SELECT name FROM registry_projects WHERE due <= ? ORDER BY name{tx.lock}"  # noqa: S608  # fixed words
            names = [row["name"] for row in tx.query(due, [_write_time(now)])]
            told: list[Entry] = []
            for before in _read_all(tx, names):
                after, entries = decide(before)
                if after is None:
                    tx.execute("DELETE FROM registry_projects WHERE name = ?", [before.name])
                else:
                    self._write(tx, after, before)
                told += entries
            if names:
                tell_others(tx, self._origin)
            write_entries(tx, told, now)
            return bool(names)

        return await self._database.transact(work)

    async def next_due(self) -> datetime | None:
        """Return when time next changes something; None: never."""
        found = await self._database.transact(lambda tx: tx.execute("SELECT min(due) FROM registry_projects").fetchone()[0])
        return None if found is None else _time(found)

    async def get(self, name: str) -> Project | None:
        """Return one project."""

        def work(tx: Transaction) -> Project | None:
            at_one_time(tx)
            return _read(tx, name)

        return await self._database.transact(work)

    async def page(self, *, after: str, limit: int, replicas: int, model: str = "") -> Sequence[Project]:
        """Return projects in the order of their names, as many as have ``replicas`` replicas together, one at least."""

        def work(tx: Transaction) -> list[Project]:
            at_one_time(tx)
            rows = tx.query(
                "SELECT name, (SELECT count(*) FROM registry_replicas WHERE project = name) AS replicas"
                " FROM registry_projects WHERE name > :after AND (:model = '' OR"
                " name IN (SELECT project FROM registry_replicas WHERE model = :model)) ORDER BY name LIMIT :limit",
                {"after": after, "model": model, "limit": limit},
            )
            names: list[str] = []
            count = 0
            for row in rows:
                count += row["replicas"]
                if names and count > replicas:
                    break
                names.append(row["name"])
            return _read_all(tx, names)

        return await self._database.transact(work)

    async def hosted(self, operator: str, *, unaddressed: bool) -> Sequence[Project]:
        """Return the projects that have replicas with this operator; ``unaddressed``: or that were registered for nobody."""

        def work(tx: Transaction) -> list[Project]:
            at_one_time(tx)
            rows = tx.query(
                "SELECT DISTINCT project FROM registry_replicas WHERE state <> ? AND (operator = ? OR (? = 1 AND asked = ''))"
                " ORDER BY project",
                [State.GONE, operator, int(unaddressed)],
            )
            return _read_all(tx, [row["project"] for row in rows])

        return await self._database.transact(work)

    async def words(self, ids: Collection[str]) -> dict[str, Word]:
        """Return what is to be said of these replicas; those that are not known are absent."""

        def work(tx: Transaction) -> dict[str, Word]:
            are, replicas = among(tx, ids)
            rows = tx.query(f"SELECT * FROM registry_replicas WHERE id {are}", [replicas])  # noqa: S608  # one of two texts
            return {one.id: Word(one.state, one.operator, one.spec.api, one.why_not) for one in map(_replica, rows)}

        return await self._database.transact(work)

    async def audit(self, *, after: int, limit: int) -> Sequence[Logged]:
        """Return entries of the audit log, oldest first."""
        return await self._database.transact(lambda tx: read_entries(tx, after=after, limit=limit))

    def _write(self, tx: Transaction, project: Project, before: Project | None) -> None:
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
        tx.execute(_KEEP_PROJECT, values)
        known = dict(enumerate(before.replicas)) if before is not None else {}
        for position, one in enumerate(project.replicas):
            if known.get(position) != one:
                tx.execute(_KEEP_REPLICA, _row(project.name, position, one))
        gone = {one.id for one in known.values()} - {one.id for one in project.replicas}
        for identity in gone:
            tx.execute("DELETE FROM registry_replicas WHERE id = ?", [identity])


def _read(tx: Transaction, name: str) -> Project | None:
    return next(iter(_read_all(tx, [name])), None)


def _read_all(tx: Transaction, names: Collection[str], *, own: bool = False) -> list[Project]:
    """Return the projects of these names that there are, in the order of the names, their replicas read together.

    ``own``: nobody else changes them until this transaction is over.
    """
    are, asked = among(tx, names)
    sql = f"SELECT * FROM registry_projects WHERE name {are} ORDER BY name{tx.lock if own else ''}"  # noqa: S608  # fixed words
    rows = list(tx.query(sql, [asked]))
    replicas: dict[str, list[Replica]] = {row["name"]: [] for row in rows}
    sql = f"SELECT * FROM registry_replicas WHERE project {are} ORDER BY project, position"  # noqa: S608  # one of two texts
    for one in tx.query(sql, [asked]):
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


def _seen(tx: Transaction, signer: str, *, own: bool = False) -> Seen:
    if own:
        tx.advisory(f"registry signer {signer}")  # it may not be there yet
    row = first(tx, "SELECT * FROM registry_signers WHERE signer = ?", signer)
    return Seen() if row is None else Seen(row["issued_at"], tuple(row["used"].split()))


def _write_seen(tx: Transaction, signer: str, seen: Seen, now: datetime) -> None:
    if seen == Seen():
        return
    # proofs that are too old to be taken need not be known
    old = f"SELECT signer FROM registry_signers WHERE issued_at < ?{tx.skip}"  # noqa: S608  # fixed words
    tx.execute(f"DELETE FROM registry_signers WHERE signer IN ({old})", [int(now.timestamp()) - PROOFS_KEPT])  # noqa: S608  # as well
    tx.execute(_KEEP_SIGNER, {"signer": signer, "issued_at": seen.issued_at, "used": " ".join(seen.used)})


def _write_time(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _write_maybe(time: datetime | None) -> int | None:
    return None if time is None else _write_time(time)


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _maybe(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _time(microseconds)
