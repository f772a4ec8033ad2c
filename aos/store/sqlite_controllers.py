"""Controllers and their tags in the SQLite file; the modules themselves are files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from aos.dispatcher.controller_rules import KeptTag, Module, Tag, Usage
from aos.errors import ControllerNotFound
from aos.store.sqlite import SqliteFile

MIGRATIONS: Final = Migrations("controllers")


@MIGRATIONS(name="0001_controllers")
def _create_controllers(db: Database) -> None:
    modules = {"digest": bytes, "wasm_size": int, "compiled_size": int, "abi": str, "created": int}
    db.table("controllers").create(modules, pk="digest", not_null=set(modules), strict=True)
    owners = {"owner": str, "digest": bytes}
    db.table("controller_owners").create(
        owners, pk=("owner", "digest"), foreign_keys=[("digest", "controllers", "digest")], strict=True
    )
    tags = {"tag": str, "number": int, "digest": bytes, "updated": int, "updated_by": str}
    table = db.table("controller_tags").create(
        tags, pk="tag", not_null=set(tags), foreign_keys=[("digest", "controllers", "digest")], strict=True
    )
    table.create_index(["number"], unique=True)
    table.create_index(["digest", "number"])
    table.create_index(["updated_by"])


class SqliteControllerStore:
    """Satisfies ControllerStore. The file must have had MIGRATIONS applied."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    async def get(self, digest: bytes) -> Module:
        return await self._file.transact(lambda db: _module(db, digest))

    async def tag(self, name: str) -> KeptTag | None:
        return await self._file.transact(lambda db: next(iter(_tags(db, "WHERE tag = ?", name)), None))

    async def usage(self, owner: str) -> Usage:
        return await self._file.transact(lambda db: _usage(db, owner))

    async def has(self, owner: str, digest: bytes) -> bool:
        return await self._file.transact(lambda db: _has(db, owner, digest))

    async def add(self, module: Module, owner: str, decide: Callable[[Usage], None]) -> Module:
        def work(db: Database) -> Module:
            if not _has(db, owner, module.digest):
                decide(_usage(db, owner))
                db.table("controllers").insert(_row(module), ignore=True)
                db.table("controller_owners").insert({"owner": owner, "digest": module.digest})
            return _module(db, module.digest)

        return await self._file.transact(work)

    async def drop(self, digest: bytes, owner: str, decide: Callable[[frozenset[str], str], bool]) -> bool:
        def work(db: Database) -> bool:
            _module(db, digest)
            owners = db.query("SELECT owner FROM controller_owners WHERE digest = ?", [digest])
            tag = next(iter(db.query("SELECT tag FROM controller_tags WHERE digest = ? LIMIT 1", [digest])), {"tag": ""})
            gone = decide(frozenset(str(row["owner"]) for row in owners), str(tag["tag"]))
            if gone:
                db.execute("DELETE FROM controller_owners WHERE digest = ?", [digest])
                db.execute("DELETE FROM controllers WHERE digest = ?", [digest])
            else:
                db.execute("DELETE FROM controller_owners WHERE digest = ? AND owner = ?", [digest, owner])
            return gone

        return await self._file.transact(work)

    async def set_tags(
        self, names: Sequence[str], digest: bytes, owner: str, decide: Callable[[Mapping[str, Tag], Usage], Sequence[Tag]]
    ) -> Sequence[KeptTag]:
        def work(db: Database) -> Sequence[KeptTag]:
            _module(db, digest)
            found = (_tags(db, "WHERE tag = ?", name) for name in names)
            existing = {one.tag.name: one.tag for kept in found for one in kept}
            last = next(iter(db.query("SELECT coalesce(max(number), 0) AS last FROM controller_tags")))["last"]
            set_now = decide(existing, _usage(db, owner))
            for number, tag in enumerate(set_now, last + 1):
                row = {"tag": tag.name, "number": number, "digest": tag.digest}
                row |= {"updated": _microseconds(tag.updated), "updated_by": tag.updated_by}
                db.table("controller_tags").upsert(row, pk="tag")
            return [one for tag in set_now for one in _tags(db, "WHERE tag = ?", tag.name)]

        return await self._file.transact(work)

    async def tags(self, *, before: int | None, limit: int) -> Sequence[KeptTag]:
        where = "WHERE number < ? ORDER BY number DESC LIMIT ?"
        return await self._file.transact(lambda db: _tags(db, where, _LAST if before is None else before, limit))

    async def tags_of(self, digest: bytes, *, limit: int) -> Sequence[str]:
        sql = "SELECT tag FROM controller_tags WHERE digest = ? ORDER BY number DESC LIMIT ?"
        return await self._file.transact(lambda db: [str(row["tag"]) for row in db.query(sql, [digest, limit])])


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LAST: Final = (1 << 63) - 1
"""Above the number of every tag."""


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _row(module: Module) -> dict[str, Any]:
    sizes = {"wasm_size": module.wasm_size, "compiled_size": module.compiled_size}
    return {"digest": module.digest, **sizes, "abi": module.abi, "created": _microseconds(module.created)}


def _module(db: Database, digest: bytes) -> Module:
    row = next(iter(db.query("SELECT * FROM controllers WHERE digest = ?", [digest])), None)
    if row is None:
        raise ControllerNotFound(digest.hex())
    return _read(row)


def _read(row: Mapping[str, Any]) -> Module:
    created = _EPOCH + timedelta(microseconds=row["created"])
    return Module(row["digest"], row["wasm_size"], row["compiled_size"], row["abi"], created)


def _has(db: Database, owner: str, digest: bytes) -> bool:
    sql = "SELECT 1 FROM controller_owners WHERE owner = ? AND digest = ?"
    return bool(list(db.query(sql, [owner, digest])))


def _usage(db: Database, owner: str) -> Usage:
    sql = "SELECT count(*) AS modules, coalesce(sum(wasm_size), 0) AS bytes FROM controller_owners JOIN controllers USING (digest) WHERE owner = ?"  # noqa: E501
    kept = next(iter(db.query(sql, [owner])))
    tags = next(iter(db.query("SELECT count(*) AS tags FROM controller_tags WHERE updated_by = ?", [owner])))
    return Usage(kept["modules"], kept["bytes"], tags["tags"])


def _tags(db: Database, where: str, *values: object) -> list[KeptTag]:
    # ``where`` is one of this file's
    sql = f"SELECT * FROM controller_tags JOIN controllers USING (digest) {where}"  # noqa: S608
    return [
        KeptTag(
            row["number"],
            Tag(row["tag"], row["digest"], _EPOCH + timedelta(microseconds=row["updated"]), row["updated_by"]),
            _read(row),
        )
        for row in db.query(sql, list(values))
    ]
