"""Batches of receipts on a chain, in SQLite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from aos.broker.accounts import Balance, Movement
from aos.broker.chain import (
    ChainBatch,
    ChainLine,
    Counted,
    Cursor,
    Dispute,
    Drafted,
    Fate,
    Found,
    Placed,
    Progress,
    leave,
)
from aos.broker.settlement import Earned, leaves
from aos.store import sqlite_broker_rows as rows
from aos.store.sqlite import SqliteFile
from aos.verification import sums

MIGRATIONS: Final = Migrations("broker chain")
NEVER: Final = 1 << 62
"""Later than any time."""


@MIGRATIONS(name="0001_chain")
def _chain(db: Database) -> None:
    for sql in (
        """CREATE TABLE chain_batches (
            number INTEGER PRIMARY KEY,
            identity TEXT NOT NULL UNIQUE,
            provider TEXT NOT NULL,
            nonce TEXT NOT NULL,
            deadline INTEGER NOT NULL,
            since INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            progress TEXT NOT NULL CHECK (progress IN ('made', 'settled', 'released')),
            tx TEXT NOT NULL,
            block INTEGER NOT NULL,
            closes_at INTEGER NOT NULL,
            time INTEGER NOT NULL
        ) STRICT""",
        "CREATE INDEX chain_batches_progress ON chain_batches (progress, number)",
        """CREATE TABLE chain_lines (
            batch INTEGER NOT NULL REFERENCES chain_batches,
            line INTEGER NOT NULL,
            account TEXT NOT NULL,
            user TEXT NOT NULL,
            root TEXT NOT NULL,
            total TEXT NOT NULL,
            count INTEGER NOT NULL,
            refused TEXT NOT NULL,
            PRIMARY KEY (batch, line)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX chain_lines_account ON chain_lines (account, batch)",
        # the key keeps a receipt from being in two batches
        """CREATE TABLE chain_receipts (
            receipt TEXT PRIMARY KEY,
            batch INTEGER NOT NULL,
            line INTEGER NOT NULL,
            leaf INTEGER NOT NULL,
            UNIQUE (batch, line, leaf),
            FOREIGN KEY (batch, line) REFERENCES chain_lines
        ) STRICT, WITHOUT ROWID""",
        # paid receipts that are in no batch, so that finding them takes no longer as history grows
        """CREATE TABLE chain_waiting (
            operator TEXT NOT NULL,
            payer TEXT NOT NULL,
            sequence INTEGER NOT NULL REFERENCES broker_receipts,
            PRIMARY KEY (operator, payer, sequence)
        ) STRICT, WITHOUT ROWID""",
        """INSERT INTO chain_waiting (operator, payer, sequence)
            SELECT operator, payer, sequence FROM broker_receipts WHERE standing = 'paid'""",
        """CREATE TRIGGER chain_waiting_paid AFTER INSERT ON broker_receipts WHEN NEW.standing = 'paid'
        BEGIN INSERT INTO chain_waiting VALUES (NEW.operator, NEW.payer, NEW.sequence); END""",
        """CREATE TRIGGER chain_waiting_ripe AFTER UPDATE ON broker_receipts WHEN NEW.standing = 'paid' AND OLD.standing <> 'paid'
        BEGIN INSERT INTO chain_waiting VALUES (NEW.operator, NEW.payer, NEW.sequence); END""",
        """CREATE TABLE chain_disputes (
            sequence INTEGER PRIMARY KEY,
            identity TEXT NOT NULL,
            line INTEGER NOT NULL,
            leaf INTEGER NOT NULL,
            fate TEXT NOT NULL CHECK (fate IN ('disputed', 'answered', 'returned')),
            block INTEGER NOT NULL
        ) STRICT""",
        "CREATE INDEX chain_disputes_leaf ON chain_disputes (identity, line, leaf)",
        "CREATE INDEX chain_disputes_block ON chain_disputes (block)",
        "CREATE TABLE chain_cursor (one INTEGER PRIMARY KEY CHECK (one = 1), block INTEGER NOT NULL, hash TEXT NOT NULL) STRICT",
    ):
        db.execute(sql)


@MIGRATIONS(name="0002_payers")
def _payers(db: Database) -> None:
    db.execute("CREATE TABLE chain_payers (account TEXT PRIMARY KEY, wallet TEXT NOT NULL) STRICT, WITHOUT ROWID")


class SqliteChainStore:
    """A ChainStore in one file."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    async def waiting(self, provider: str, payers: Sequence[str], limit: int) -> Sequence[Earned]:
        """Return paid receipts of these accounts that are in no batch, oldest first."""
        marks = ", ".join("?" for _ in payers)
        sql = f"""SELECT broker_receipts.* FROM chain_waiting JOIN broker_receipts USING (sequence)
            WHERE chain_waiting.operator = ? AND chain_waiting.payer IN ({marks}) ORDER BY sequence LIMIT ?"""  # noqa: S608  # marks
        return await self._file.transact(lambda db: [rows.earned(row) for row in db.query(sql, [provider, *payers, limit])])

    async def make(self, drafted: Drafted, identity: str, by: Movement) -> ChainBatch | None:
        """Keep a batch; its money leaves the provider's account here. None, and nothing is kept, if that has too little."""
        operator, amount = f"accounts/{drafted.provider}", sum(line.total for line in drafted.lines)

        def work(db: Database) -> ChainBatch | None:
            if (rows.balance(db, operator) or Balance()).available < amount:
                return None
            last = rows.one(db, "SELECT MAX(number) AS last FROM chain_batches")
            number = ((last or {}).get("last") or 0) + 1
            sql = "INSERT INTO chain_batches VALUES (?, ?, ?, ?, ?, ?, 0, 'made', '', 0, 0, ?)"
            values = [number, identity, drafted.provider, str(drafted.nonce), drafted.deadline, drafted.since]
            db.execute(sql, [*values, rows.micros(by.time)])
            for at, (line, receipts) in enumerate(zip(drafted.lines, drafted.receipts, strict=True)):
                sql = "INSERT INTO chain_lines VALUES (?, ?, ?, ?, ?, ?, ?, '')"
                db.execute(sql, [number, at, line.account, line.user, line.root.hex(), str(line.total), line.count])
                for leaf, one in enumerate(receipts):
                    db.execute("INSERT INTO chain_receipts VALUES (?, ?, ?, ?)", [one.receipt, number, at, leaf])
                    sql = "DELETE FROM chain_waiting WHERE sequence = (SELECT sequence FROM broker_receipts WHERE receipt = ?)"
                    sql += " AND operator = ? AND payer = ?"
                    if db.execute(sql, [one.receipt, one.operator, one.payer]).rowcount != 1:
                        raise ValueError(f"receipt {one.receipt} did not wait for a batch")
            rows.post(db, operator, leave(number, operator, amount, by))
            return read_batch(db, number)

        return await self._file.transact(work)

    async def batches(self, progress: Progress, limit: int) -> Sequence[ChainBatch]:
        """Return batches that are so far; of settled ones the latest first, of others the oldest."""
        order = "DESC" if progress is Progress.SETTLED else "ASC"
        sql = f"SELECT number FROM chain_batches WHERE progress = ? ORDER BY number {order} LIMIT ?"  # noqa: S608  # two words
        return await self._file.transact(
            lambda db: [read_batch(db, row["number"]) for row in list(db.query(sql, [progress, limit]))]
        )

    async def settled(self, batch: ChainBatch, found: Found, by: Movement) -> None:
        """Keep that the chain has it. Receipts of refused lines wait again, and their money comes back."""

        def work(db: Database) -> None:
            before = read_batch(db, batch.number)
            sql = "UPDATE chain_batches SET progress = 'settled', tx = ?, block = ?, closes_at = ?, time = ? WHERE number = ?"
            db.execute(sql, [found.transaction, found.block, found.closes_at, rows.micros(by.time), batch.number])
            sql = """INSERT INTO chain_claims (batch, look_at, attempts, done) VALUES (?, ?, 0, 0) ON CONFLICT (batch) DO UPDATE
                SET look_at = excluded.look_at, done = 0"""
            db.execute(sql, [batch.number, found.closes_at])
            for at, reason in found.refused.items():
                if not before.lines[at].refused:
                    _free(db, before, at, reason, by)

        await self._file.transact(work)

    async def unsettled(self, batch: ChainBatch) -> None:
        """Keep that the chain has it not, after all, or that what was sent failed: it is to be sent anew."""
        sql = (
            "UPDATE chain_batches SET progress = 'made', attempt = attempt + 1, tx = '', block = 0, closes_at = 0 WHERE number = ?"
        )

        def work(db: Database) -> None:
            db.execute(sql, [batch.number])
            # nothing can be claimed of it; should it be settled again, it is claimed in a transaction that was not sent before
            db.execute(
                "UPDATE chain_claims SET done = 1, look_at = ?, attempts = attempts + 1 WHERE batch = ?", [NEVER, batch.number]
            )

        await self._file.transact(work)

    async def release(self, batch: ChainBatch, by: Movement) -> None:
        """Keep that it can never be settled: its receipts wait again, and their money comes back."""

        def work(db: Database) -> None:
            before = read_batch(db, batch.number)
            db.execute("UPDATE chain_batches SET progress = 'released' WHERE number = ?", [batch.number])
            for at, line in enumerate(before.lines):
                if not line.refused:
                    _free(db, before, at, "too late", by)

        await self._file.transact(work)

    async def bound(self) -> Mapping[str, str]:
        """Return the wallets that accounts' owners bound, by account."""

        def work(db: Database) -> dict[str, str]:
            return {row["account"]: row["wallet"] for row in db.query("SELECT account, wallet FROM chain_payers")}

        return await self._file.transact(work)

    async def bind(self, account: str, wallet: str) -> None:
        """Keep the account's wallet; empty: that it has none."""

        def work(db: Database) -> None:
            db.execute("DELETE FROM chain_payers WHERE account = ?", [account])
            if wallet:
                db.execute("INSERT INTO chain_payers (account, wallet) VALUES (?, ?)", [account, wallet])

        await self._file.transact(work)

    async def placed(self, receipt: str) -> Placed | None:
        """Return where a receipt is; None if it is in no batch."""

        def work(db: Database) -> Placed | None:
            row = rows.one(db, "SELECT * FROM chain_receipts WHERE receipt = ?", receipt)
            if row is None:
                return None
            batch = read_batch(db, row["batch"])
            sql = """SELECT broker_receipts.* FROM chain_receipts JOIN broker_receipts USING (receipt)
                WHERE chain_receipts.batch = ? AND line = ? ORDER BY leaf"""
            under = leaves([rows.earned(one) for one in db.query(sql, [row["batch"], row["line"]])])
            sql = "SELECT fate FROM chain_disputes WHERE identity = ? AND line = ? AND leaf = ? ORDER BY sequence DESC LIMIT 1"
            last = rows.one(db, sql, batch.identity, row["line"], row["leaf"])
            fate = Fate.NONE if last is None else Fate(last["fate"])
            return Placed(batch, row["line"], row["leaf"], fate, sums.proof(under, row["leaf"]))

        return await self._file.transact(work)

    async def counted(self, account: str) -> Counted:
        """Return what became of an account's receipts."""

        def work(db: Database) -> Counted:
            waiting = rows.one(db, "SELECT COUNT(*) AS n FROM chain_waiting WHERE payer = ?", account)
            sent = settled = paid = 0
            sql = """SELECT progress, total, count FROM chain_lines JOIN chain_batches ON number = batch
                WHERE account = ? AND refused = ''"""
            for row in db.query(sql, [account]):
                if row["progress"] == Progress.SETTLED:
                    settled, paid = settled + row["count"], paid + int(row["total"])
                elif row["progress"] == Progress.MADE:
                    sent += row["count"]
            return Counted((waiting or {}).get("n") or 0, sent, settled, paid)

        return await self._file.transact(work)

    async def paid(self, account: str, start: datetime | None, end: datetime | None, limit: int) -> Sequence[ChainBatch]:
        """Return the latest batches with receipts of the account, as payer or as provider, that were paid in that time."""
        sql = """SELECT number FROM chain_batches WHERE progress = 'settled' AND time >= ? AND time < ?
            AND (provider = ? OR EXISTS (SELECT 1 FROM chain_lines WHERE batch = number AND account = ?))
            ORDER BY number DESC LIMIT ?"""
        provider = account.removeprefix("accounts/")
        times = [0 if start is None else rows.micros(start), 1 << 62 if end is None else rows.micros(end)]

        def work(db: Database) -> list[ChainBatch]:
            found = [read_batch(db, row["number"]) for row in list(db.query(sql, [*times, provider, account, limit]))]
            return [
                replace(one, lines=tuple(line for line in one.lines if account in (line.account, f"accounts/{one.provider}")))
                for one in found
            ]

        return await self._file.transact(work)

    async def cursor(self) -> Cursor | None:
        """Return how far events were read."""
        return await self._file.transact(_cursor)

    async def follow(self, cursor: Cursor, disputes: Sequence[Dispute]) -> None:
        """Keep what happened and how far that was read; what was kept of later blocks is forgotten."""

        def work(db: Database) -> None:
            before = _cursor(db)
            if before is not None:
                db.execute("DELETE FROM chain_disputes WHERE block > ?", [min(before.block, cursor.block)])
            for one in disputes:
                sql = "INSERT INTO chain_disputes (identity, line, leaf, fate, block) VALUES (?, ?, ?, ?, ?)"
                db.execute(sql, [one.identity, one.line, one.leaf, one.fate.value, one.block])
            sql = "INSERT INTO chain_cursor VALUES (1, ?, ?) ON CONFLICT DO UPDATE SET block = excluded.block, hash = excluded.hash"
            db.execute(sql, [cursor.block, cursor.hash])

        await self._file.transact(work)


def _cursor(db: Database) -> Cursor | None:
    row = rows.one(db, "SELECT block, hash FROM chain_cursor")
    return None if row is None else Cursor(row["block"], row["hash"])


def _free(db: Database, batch: ChainBatch, at: int, reason: str, by: Movement) -> None:
    """Let the receipts of a line wait again, and give the provider's account back what left it for them."""
    where = [batch.number, at]
    db.execute("UPDATE chain_lines SET refused = ? WHERE batch = ? AND line = ?", [reason, *where])
    sql = """INSERT INTO chain_waiting SELECT operator, payer, sequence FROM chain_receipts
        JOIN broker_receipts USING (receipt) WHERE chain_receipts.batch = ? AND line = ?"""
    db.execute(sql, where)
    db.execute("DELETE FROM chain_receipts WHERE batch = ? AND line = ?", where)
    operator = f"accounts/{batch.provider}"
    # of one movement for each line, so that the lines of each transfer cancel out
    own = Movement(f"{by.id}/{at}", by.time)
    rows.post(db, operator, leave(batch.number, operator, -batch.lines[at].total, own))


def read_batch(db: Database, number: int) -> ChainBatch:
    """Return a batch, which must be there."""
    row: dict[str, Any] = rows.one(db, "SELECT * FROM chain_batches WHERE number = ?", number) or {}
    lines = tuple(
        ChainLine(one["account"], one["user"], bytes.fromhex(one["root"]), int(one["total"]), one["count"], one["refused"])
        for one in db.query("SELECT * FROM chain_lines WHERE batch = ? ORDER BY line", [number])
    )
    return ChainBatch(
        number, row["identity"], row["provider"], int(row["nonce"]), row["deadline"], row["since"], row["attempt"],
        Progress(row["progress"]), lines, row["tx"], row["block"], row["closes_at"],
    )  # fmt: skip
