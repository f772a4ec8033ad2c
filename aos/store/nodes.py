"""The dispatchers of one database, their operators and what each has taken upon itself, beside the jobs."""

# ruff: noqa: S608  # the pieces of the statements are constants; values are always bound

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from aos.dispatcher import news
from aos.dispatcher.checks import CheckKey
from aos.dispatcher.jobs import Money, State
from aos.dispatcher.presence import NodeRow, There
from aos.dispatcher.store import Waiting
from aos.store.job_rows import JOB, micros, read_job
from aos.store.reading import among
from aos.store.sql import Dialect, SqlDatabase, Transaction
from aos.v1.dispatcher_pb2 import Hello

MIGRATIONS: Final = Migrations("nodes")
_WAITS: Final = f"state = {int(State.QUEUED)} AND state < {int(State.COMPLETED)} AND money > {int(Money.PENDING)}"
"""The second condition says to SQLite which index fits."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_THERE: Final = """SELECT operator, node, version, token_hash, offers, tee, vrf_since, broken
    FROM attachments JOIN nodes USING (node)"""


@MIGRATIONS(name="0001_nodes")
def _create(db: Database) -> None:
    for sql in (
        "CREATE TABLE nodes (node TEXT PRIMARY KEY, holder TEXT NOT NULL, beats INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        # the row stays when the stream has ended, with no node: versions never come again
        """CREATE TABLE attachments (
            operator TEXT PRIMARY KEY,
            node TEXT NOT NULL,
            version INTEGER NOT NULL,
            token_hash TEXT NOT NULL,
            offers BLOB NOT NULL,
            tee INTEGER NOT NULL,
            vrf_since INTEGER,
            broken TEXT NOT NULL
        ) STRICT""",
        "CREATE INDEX attachments_node ON attachments (node)",
        # no reference: a check is given back, or its dispatcher goes, whether or not the job is there
        """CREATE TABLE check_claims (
            job TEXT NOT NULL, position TEXT NOT NULL, tag INTEGER NOT NULL, node TEXT NOT NULL, PRIMARY KEY (job, position, tag)
        ) STRICT, WITHOUT ROWID""",
    ):
        db.execute(sql)


class SqlNodeStore:
    """Satisfies NodeStore. The database must have the tables of jobs and of nodes."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def held(self, node: str) -> NodeRow | None:
        def work(tx: Transaction) -> NodeRow | None:
            # one process uses the file: whoever had the name in it before is gone, or learns that it is replaced
            return None if tx.dialect is Dialect.SQLITE else _node(tx, node)

        return await self._database.transact(work)

    async def claim(self, node: str, holder: str, *, instead_of: NodeRow | None) -> bool:
        def work(tx: Transaction) -> bool:
            if tx.dialect is Dialect.SQLITE or instead_of is not None:
                seen = _node(tx, node) if instead_of is None else instead_of
                if seen is not None:
                    tx.execute("DELETE FROM nodes WHERE node = ? AND holder = ? AND beats = ?", [node, seen.holder, seen.beats])
            if not _enter(tx, node, holder):
                return False
            tx.execute("UPDATE attachments SET node = '' WHERE node = ?", [node])
            tx.execute("DELETE FROM check_claims WHERE node = ?", [node])
            tx.notify(news.CHANNEL, news.nodes(node))
            return True

        return await self._database.transact(work)

    async def beat(self, node: str, holder: str) -> bool:
        def work(tx: Transaction) -> bool:
            sql = "UPDATE nodes SET beats = beats + 1 WHERE node = ? AND holder = ?"
            if tx.execute(sql, [node, holder]).rowcount:
                return True
            if not _enter(tx, node, holder):
                return False
            tx.notify(news.CHANNEL, news.nodes(node))
            return True

        return await self._database.transact(work, durable=False)

    async def nodes(self) -> Sequence[NodeRow]:
        sql = "SELECT node, holder, beats FROM nodes ORDER BY node"
        return await self._database.transact(lambda tx: [NodeRow(*row) for row in tx.execute(sql)], durable=False)

    async def give_up(self, row: NodeRow) -> bool:
        def work(tx: Transaction) -> bool:
            sql = "DELETE FROM nodes WHERE node = ? AND holder = ? AND beats = ?"
            gone = tx.execute(sql, [row.node, row.holder, row.beats]).rowcount > 0
            if gone:
                tx.notify(news.CHANNEL, news.nodes(row.node))
            return gone

        return await self._database.transact(work)

    async def release(self, node: str, holder: str) -> None:
        def work(tx: Transaction) -> None:
            if tx.execute("DELETE FROM nodes WHERE node = ? AND holder = ?", [node, holder]).rowcount:
                tx.execute("UPDATE attachments SET node = '' WHERE node = ?", [node])
                tx.execute("DELETE FROM check_claims WHERE node = ?", [node])
                tx.notify(news.CHANNEL, news.nodes(node))

        await self._database.transact(work)

    async def attach(self, there: There) -> int:
        sql = """INSERT INTO attachments (operator, node, version, token_hash, offers, tee, vrf_since, broken)
            VALUES (:operator, :node, 1, :token_hash, :offers, :tee, :vrf_since, :broken)
            ON CONFLICT (operator) DO UPDATE SET node = excluded.node, version = attachments.version + 1,
                token_hash = excluded.token_hash, offers = excluded.offers, tee = excluded.tee, vrf_since = excluded.vrf_since,
                broken = excluded.broken
            RETURNING version"""

        def work(tx: Transaction) -> int:
            version = int(tx.execute(sql, _written(there)).fetchone()[0])
            tx.notify(news.CHANNEL, news.attached(there.node, there.operator, version))
            return version

        return await self._database.transact(work, durable=False)

    async def detach(self, operator: str, version: int) -> None:
        def work(tx: Transaction) -> None:
            row = tx.execute("SELECT node FROM attachments WHERE operator = ? AND version = ?", [operator, version]).fetchone()
            if row is None:
                return
            tx.execute("UPDATE attachments SET node = '' WHERE operator = ? AND version = ?", [operator, version])
            tx.notify(news.CHANNEL, news.attached(row[0], operator, version))

        await self._database.transact(work, durable=False)

    async def describe(self, there: There) -> None:
        sql = """UPDATE attachments SET offers = :offers, tee = :tee, vrf_since = :vrf_since, broken = :broken
            WHERE operator = :operator AND version = :version AND node = :node"""

        def work(tx: Transaction) -> None:
            values = _written(there) | {"version": there.version}
            del values["token_hash"]
            if tx.execute(sql, values).rowcount:
                tx.notify(news.CHANNEL, news.attached(there.node, there.operator, there.version))

        await self._database.transact(work, durable=False)

    async def attachments(self) -> Sequence[There]:
        return await self._database.transact(lambda tx: [_there(row) for row in tx.query(_THERE)], durable=False)

    async def attachment(self, operator: str) -> There | None:
        sql = f"{_THERE} WHERE operator = ?"
        return await self._database.transact(
            lambda tx: next((_there(row) for row in tx.query(sql, [operator])), None), durable=False
        )

    async def take_check(self, key: CheckKey, node: str) -> bool:
        # one that is held by a dispatcher that is gone is free
        sql = """INSERT INTO check_claims (job, position, tag, node) VALUES (?, ?, ?, ?)
            ON CONFLICT (job, position, tag) DO UPDATE SET node = excluded.node
            WHERE check_claims.node = excluded.node OR check_claims.node NOT IN (SELECT node FROM nodes)
            RETURNING node"""
        values = [key.job_id, key.position.value, int(key.tag), node]
        return await self._database.transact(lambda tx: tx.execute(sql, values).fetchone() is not None, durable=False)

    async def leave_check(self, key: CheckKey, node: str) -> None:
        sql = "DELETE FROM check_claims WHERE job = ? AND position = ? AND tag = ? AND node = ?"
        values = [key.job_id, key.position.value, int(key.tag), node]
        await self._database.transact(lambda tx: tx.execute(sql, values) and None, durable=False)

    async def queued(self, *, after: int, limit: int) -> Sequence[tuple[int, str]]:
        sql = f"SELECT number, id FROM jobs WHERE {_WAITS} AND number > ? ORDER BY number LIMIT ?"
        return await self._database.transact(
            lambda tx: [(number, job_id) for number, job_id in tx.execute(sql, [after, limit])], durable=False
        )

    async def waiting(self, job_ids: Collection[str]) -> Sequence[Waiting]:
        def work(tx: Transaction) -> list[Waiting]:
            condition, value = among(tx, job_ids)
            sql = f"""SELECT number, {JOB}, exact FROM jobs LEFT JOIN job_risk USING (number)
                WHERE id {condition} AND {_WAITS} ORDER BY number"""
            return [Waiting(row["number"], read_job(row), bool(row["exact"])) for row in tx.query(sql, [value])]

        return await self._database.transact(work, durable=False)

    async def last(self, job_ids: Collection[str]) -> Mapping[str, int]:
        def work(tx: Transaction) -> dict[str, int]:
            condition, value = among(tx, job_ids)
            sql = f"""SELECT id, (SELECT max(sequence) FROM job_events WHERE job_events.number = jobs.number)
                FROM jobs WHERE id {condition}"""
            return {job_id: sequence or 0 for job_id, sequence in tx.execute(sql, [value])}

        return await self._database.transact(work, durable=False)


def _node(tx: Transaction, node: str) -> NodeRow | None:
    row = tx.execute("SELECT node, holder, beats FROM nodes WHERE node = ?", [node]).fetchone()
    return None if row is None else NodeRow(*row)


def _enter(tx: Transaction, node: str, holder: str) -> bool:
    sql = "INSERT INTO nodes (node, holder, beats) VALUES (?, ?, 1) ON CONFLICT (node) DO NOTHING"
    return tx.execute(sql, [node, holder]).rowcount > 0


def _written(there: There) -> dict[str, Any]:
    return {
        "operator": there.operator,
        "node": there.node,
        "token_hash": there.token_hash,
        "offers": Hello(offers=there.offers).SerializeToString(),
        "tee": int(there.tee),
        "vrf_since": None if there.vrf_key_since is None else micros(there.vrf_key_since),
        "broken": json.dumps(sorted(there.broken)),
    }


def _there(row: Mapping[str, Any]) -> There:
    since = row["vrf_since"]
    found = There(
        operator=row["operator"],
        node=row["node"],
        version=row["version"],
        token_hash=row["token_hash"],
        offers=tuple(Hello.FromString(row["offers"]).offers),
        tee=bool(row["tee"]),
        broken=frozenset(json.loads(row["broken"])),
    )
    return found if since is None else replace(found, vrf_key_since=_EPOCH + timedelta(microseconds=since))
