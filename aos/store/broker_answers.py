"""Signatures over answers, by their keys, for a time."""

from __future__ import annotations

from typing import Final

from sqlite_utils import Database, Migrations

from aos.store.sql import SqlDatabase, Transaction
from aos.v1.requests_pb2 import SignedAnswer

MIGRATIONS: Final = Migrations("answers")
_FORGOTTEN: Final = 64
"""Keys past their time that one answer clears away at most: more than come in one."""


@MIGRATIONS(name="0001_answers")
def _answers(db: Database) -> None:
    for sql in (
        """CREATE TABLE broker_answers (
            key TEXT PRIMARY KEY,
            expiry INTEGER NOT NULL,
            answer BLOB NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX broker_answers_expiry ON broker_answers (expiry)",
    ):
        db.execute(sql)


class SqlAnswerStore:
    """An AnswerStore in a database."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def keep(self, answer: SignedAnswer, *, expiry: int, now: int) -> None:
        """Keep a signature under its keys, until ``expiry``."""
        kept = answer.SerializeToString()

        def work(tx: Transaction) -> None:
            old = f"SELECT key FROM broker_answers WHERE expiry <= ? ORDER BY expiry LIMIT ?{tx.skip}"  # noqa: S608  # fixed words
            tx.execute(f"DELETE FROM broker_answers WHERE key IN ({old})", [now, _FORGOTTEN])  # noqa: S608  # as well
            sql = """INSERT INTO broker_answers (key, expiry, answer) VALUES (?, ?, ?)
                ON CONFLICT (key) DO UPDATE SET expiry = excluded.expiry, answer = excluded.answer"""
            for key in sorted(answer.keys):  # rows are locked in one order, whoever locks several
                tx.execute(sql, [key, expiry, kept])

        await self._database.transact(work, durable=False)

    async def find(self, key: str, *, now: int) -> SignedAnswer | None:
        """Return what is kept under a key; None: nothing, or its time is over."""
        sql = "SELECT answer FROM broker_answers WHERE key = ? AND expiry > ?"
        row = await self._database.transact(lambda tx: tx.execute(sql, [key, now]).fetchone())
        return None if row is None else SignedAnswer.FromString(row[0])
