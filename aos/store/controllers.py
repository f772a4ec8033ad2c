"""Controllers and their tags; the modules themselves are files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from aos.dispatcher.controller_rules import KeptTag, Module, Tag, Usage
from aos.errors import ControllerNotFound
from aos.store.sql import SqlDatabase, Transaction

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


class SqlControllerStore:
    """Satisfies ControllerStore. The database must have the tables of controllers."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def get(self, digest: bytes) -> Module:
        return await self._database.transact(lambda tx: _module(tx, digest))

    async def tag(self, name: str) -> KeptTag | None:
        return await self._database.transact(lambda tx: next(iter(_tags(tx, "WHERE tag = ?", name)), None))

    async def usage(self, owner: str) -> Usage:
        return await self._database.transact(lambda tx: _usage(tx, owner))

    async def has(self, owner: str, digest: bytes) -> bool:
        return await self._database.transact(lambda tx: _has(tx, owner, digest))

    async def add(self, module: Module, owner: str, decide: Callable[[Usage], None]) -> Module:
        def work(tx: Transaction) -> Module:
            tx.advisory(f"controllers {owner}")  # what an owner keeps is counted by one at a time
            if not _has(tx, owner, module.digest):
                decide(_usage(tx, owner))
                tx.execute(_INSERT, _row(module))
                tx.execute("INSERT INTO controller_owners (owner, digest) VALUES (?, ?)", [owner, module.digest])
            return _module(tx, module.digest)

        return await self._database.transact(work)

    async def drop(self, digest: bytes, owner: str, decide: Callable[[frozenset[str], str], bool]) -> bool:
        def work(tx: Transaction) -> bool:
            _module(tx, digest, lock=True)
            owners = tx.query("SELECT owner FROM controller_owners WHERE digest = ?", [digest])
            tag = next(iter(tx.query("SELECT tag FROM controller_tags WHERE digest = ? LIMIT 1", [digest])), {"tag": ""})
            gone = decide(frozenset(str(row["owner"]) for row in owners), str(tag["tag"]))
            if gone:
                tx.execute("DELETE FROM controller_owners WHERE digest = ?", [digest])
                tx.execute("DELETE FROM controllers WHERE digest = ?", [digest])
            else:
                tx.execute("DELETE FROM controller_owners WHERE digest = ? AND owner = ?", [digest, owner])
            return gone

        return await self._database.transact(work)

    async def set_tags(
        self, names: Sequence[str], digest: bytes, owner: str, decide: Callable[[Mapping[str, Tag], Usage], Sequence[Tag]]
    ) -> Sequence[KeptTag]:
        def work(tx: Transaction) -> Sequence[KeptTag]:
            tx.advisory("controller_tags")  # numbers have no gaps for others to come into
            _module(tx, digest)
            found = (_tags(tx, "WHERE tag = ?", name) for name in names)
            existing = {one.tag.name: one.tag for kept in found for one in kept}
            last = next(iter(tx.query("SELECT coalesce(max(number), 0) AS last FROM controller_tags")))["last"]
            set_now = decide(existing, _usage(tx, owner))
            for number, tag in enumerate(set_now, last + 1):
                tx.execute(_SET_TAG, [tag.name, number, tag.digest, _microseconds(tag.updated), tag.updated_by])
            return [one for tag in set_now for one in _tags(tx, "WHERE tag = ?", tag.name)]

        return await self._database.transact(work)

    async def tags(self, *, before: int | None, limit: int) -> Sequence[KeptTag]:
        where = "WHERE number < ? ORDER BY number DESC LIMIT ?"
        return await self._database.transact(lambda tx: _tags(tx, where, _LAST if before is None else before, limit))

    async def tags_of(self, digest: bytes, *, limit: int) -> Sequence[str]:
        sql = "SELECT tag FROM controller_tags WHERE digest = ? ORDER BY number DESC LIMIT ?"
        return await self._database.transact(lambda tx: [str(row["tag"]) for row in tx.query(sql, [digest, limit])])


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_INSERT: Final = """INSERT INTO controllers (digest, wasm_size, compiled_size, abi, created)
    VALUES (:digest, :wasm_size, :compiled_size, :abi, :created) ON CONFLICT DO NOTHING"""
_SET_TAG: Final = """INSERT INTO controller_tags (tag, number, digest, updated, updated_by) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (tag) DO UPDATE SET number = excluded.number, digest = excluded.digest,
    updated = excluded.updated, updated_by = excluded.updated_by"""
_LAST: Final = (1 << 63) - 1
"""Above the number of every tag."""


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _row(module: Module) -> dict[str, Any]:
    sizes = {"wasm_size": module.wasm_size, "compiled_size": module.compiled_size}
    return {"digest": module.digest, **sizes, "abi": module.abi, "created": _microseconds(module.created)}


def _module(tx: Transaction, digest: bytes, *, lock: bool = False) -> Module:
    row = next(iter(tx.query(f"SELECT * FROM controllers WHERE digest = ?{tx.lock if lock else ''}", [digest])), None)  # noqa: S608
    if row is None:
        raise ControllerNotFound(digest.hex())
    return _read(row)


def _read(row: Mapping[str, Any]) -> Module:
    created = _EPOCH + timedelta(microseconds=row["created"])
    return Module(row["digest"], row["wasm_size"], row["compiled_size"], row["abi"], created)


def _has(tx: Transaction, owner: str, digest: bytes) -> bool:
    sql = "SELECT 1 FROM controller_owners WHERE owner = ? AND digest = ?"
    return bool(list(tx.query(sql, [owner, digest])))


def _usage(tx: Transaction, owner: str) -> Usage:
    sql = "SELECT count(*) AS modules, CAST(coalesce(sum(wasm_size), 0) AS BIGINT) AS bytes FROM controller_owners JOIN controllers USING (digest) WHERE owner = ?"  # noqa: E501
    kept = next(iter(tx.query(sql, [owner])))
    tags = next(iter(tx.query("SELECT count(*) AS tags FROM controller_tags WHERE updated_by = ?", [owner])))
    return Usage(kept["modules"], kept["bytes"], tags["tags"])


def _tags(tx: Transaction, where: str, *values: object) -> list[KeptTag]:
    # ``where`` is one of this file's
    sql = f"SELECT * FROM controller_tags JOIN controllers USING (digest) {where}"  # noqa: S608
    return [
        KeptTag(
            row["number"],
            Tag(row["tag"], row["digest"], _EPOCH + timedelta(microseconds=row["updated"]), row["updated_by"]),
            _read(row),
        )
        for row in tx.query(sql, list(values))
    ]
