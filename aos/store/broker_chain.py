"""Batches of receipts on a chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

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
from aos.store import broker_rows as rows
from aos.store.broker_journal import post
from aos.store.reading import among, at_one_time, first, slots
from aos.store.sql import Dialect, SqlDatabase, Transaction
from aos.verification import sums

NEVER: Final = 1 << 62
"""Later than any time."""
ROWS: Final = 256
"""Most receipts that one statement writes."""
_NOW: Final = {
    Dialect.SQLITE: "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
    Dialect.POSTGRES: "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS bigint)",
}
"""Microseconds since 1970-01-01 UTC, by the clock that all brokers share."""


class SqlChainStore:
    """A ChainStore in a database."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def turn(self, holder: str, seconds: float) -> bool:
        """Say whether this broker is the one to settle, for so long from now. False while it is another's turn."""

        def work(tx: Transaction) -> bool:
            now = _NOW[tx.dialect]
            sql = f"""INSERT INTO chain_turn VALUES (1, :holder, {now} + :lasts) ON CONFLICT (one) DO UPDATE
                SET holder = excluded.holder, until = excluded.until
                WHERE chain_turn.holder = excluded.holder OR chain_turn.until <= {now}"""  # noqa: S608  # one of two texts
            return tx.execute(sql, {"holder": holder, "lasts": round(seconds * 1_000_000)}).rowcount == 1

        return await self._database.transact(work, durable=False)

    async def leave(self, holder: str) -> None:
        """Let another broker settle."""
        sql = "DELETE FROM chain_turn WHERE holder = ?"
        await self._database.transact(lambda tx: tx.execute(sql, [holder]) and None, durable=False)

    async def waiting(self, provider: str, payers: Sequence[str], limit: int) -> Sequence[Earned]:
        """Return paid receipts of these accounts that are in no batch, oldest first."""

        def work(tx: Transaction) -> list[Earned]:
            are, accounts = among(tx, payers)
            sql = f"""SELECT broker_receipts.* FROM chain_waiting JOIN broker_receipts USING (sequence)
                WHERE chain_waiting.operator = ? AND chain_waiting.payer {are} ORDER BY sequence LIMIT ?"""  # noqa: S608  # two texts
            return [rows.earned(row) for row in tx.query(sql, [provider, accounts, limit])]

        return await self._database.transact(work)

    async def make(self, drafted: Drafted, identity: str, by: Movement) -> ChainBatch | None:
        """Keep a batch; its money leaves the provider's account here. None, and nothing is kept, if that has too little."""
        operator, amount = f"accounts/{drafted.provider}", sum(line.total for line in drafted.lines)

        def work(tx: Transaction) -> ChainBatch | None:
            tx.advisory("broker chain batches")  # numbers have no gaps
            if (rows.balance(tx, operator, own=True) or Balance()).available < amount:
                return None
            last = first(tx, "SELECT MAX(number) AS last FROM chain_batches")
            number = ((last or {}).get("last") or 0) + 1
            sql = "INSERT INTO chain_batches VALUES (?, ?, ?, ?, ?, ?, 0, 'made', '', 0, 0, ?)"
            values = [number, identity, drafted.provider, str(drafted.nonce), drafted.deadline, drafted.since]
            tx.execute(sql, [*values, rows.micros(by.time)])
            for at, (line, receipts) in enumerate(zip(drafted.lines, drafted.receipts, strict=True)):
                sql = "INSERT INTO chain_lines VALUES (?, ?, ?, ?, ?, ?, ?, '')"
                tx.execute(sql, [number, at, line.account, line.user, line.root.hex(), str(line.total), line.count])
                _place(tx, receipts, number, at)
            post(tx, operator, leave(number, operator, amount, by))
            return read_batch(tx, number)

        return await self._database.transact(work)

    async def batches(self, progress: Progress, limit: int) -> Sequence[ChainBatch]:
        """Return batches that are so far; of settled ones the latest first, of others the oldest."""
        order = "DESC" if progress is Progress.SETTLED else "ASC"
        sql = f"SELECT number FROM chain_batches WHERE progress = ? ORDER BY number {order} LIMIT ?"  # noqa: S608  # two words

        def work(tx: Transaction) -> list[ChainBatch]:
            at_one_time(tx)
            return [read_batch(tx, row["number"]) for row in list(tx.query(sql, [progress.value, limit]))]

        return await self._database.transact(work)

    async def settled(self, batch: ChainBatch, found: Found, by: Movement) -> None:
        """Keep that the chain has it. Receipts of refused lines wait again, and their money comes back."""

        def work(tx: Transaction) -> None:
            before = read_batch(tx, batch.number, own=True)
            sql = "UPDATE chain_batches SET progress = 'settled', tx = ?, block = ?, closes_at = ?, time = ? WHERE number = ?"
            tx.execute(sql, [found.transaction, found.block, found.closes_at, rows.micros(by.time), batch.number])
            sql = """INSERT INTO chain_claims (batch, look_at, attempts, done) VALUES (?, ?, 0, 0) ON CONFLICT (batch) DO UPDATE
                SET look_at = excluded.look_at, done = 0"""
            tx.execute(sql, [batch.number, found.closes_at])
            for at, reason in found.refused.items():
                if not before.lines[at].refused:
                    _free(tx, before, at, reason, by)

        await self._database.transact(work)

    async def unsettled(self, batch: ChainBatch) -> None:
        """Keep that the chain has it not, after all, or that what was sent failed: it is to be sent anew."""
        sql = (
            "UPDATE chain_batches SET progress = 'made', attempt = attempt + 1, tx = '', block = 0, closes_at = 0 WHERE number = ?"
        )

        def work(tx: Transaction) -> None:
            tx.execute(sql, [batch.number])
            # nothing can be claimed of it; should it be settled again, it is claimed in a transaction that was not sent before
            tx.execute(
                "UPDATE chain_claims SET done = 1, look_at = ?, attempts = attempts + 1 WHERE batch = ?", [NEVER, batch.number]
            )

        await self._database.transact(work)

    async def release(self, batch: ChainBatch, by: Movement) -> None:
        """Keep that it can never be settled: its receipts wait again, and their money comes back."""

        def work(tx: Transaction) -> None:
            before = read_batch(tx, batch.number, own=True)
            tx.execute("UPDATE chain_batches SET progress = 'released' WHERE number = ?", [batch.number])
            for at, line in enumerate(before.lines):
                if not line.refused:
                    _free(tx, before, at, "too late", by)

        await self._database.transact(work)

    async def bound(self) -> Mapping[str, str]:
        """Return the wallets that accounts' owners bound, by account."""

        def work(tx: Transaction) -> dict[str, str]:
            return {row["account"]: row["wallet"] for row in tx.query("SELECT account, wallet FROM chain_payers")}

        return await self._database.transact(work)

    async def bind(self, account: str, wallet: str) -> None:
        """Keep the account's wallet; empty: that it has none."""

        def work(tx: Transaction) -> None:
            if wallet:
                sql = """INSERT INTO chain_payers (account, wallet) VALUES (?, ?)
                    ON CONFLICT (account) DO UPDATE SET wallet = excluded.wallet"""
                tx.execute(sql, [account, wallet])
            else:
                tx.execute("DELETE FROM chain_payers WHERE account = ?", [account])

        await self._database.transact(work)

    async def placed(self, receipt: str) -> Placed | None:
        """Return where a receipt is; None if it is in no batch."""

        def work(tx: Transaction) -> Placed | None:
            at_one_time(tx)
            row = first(tx, "SELECT * FROM chain_receipts WHERE receipt = ?", receipt)
            if row is None:
                return None
            batch = read_batch(tx, row["batch"])
            sql = """SELECT broker_receipts.* FROM chain_receipts JOIN broker_receipts USING (receipt)
                WHERE chain_receipts.batch = ? AND line = ? ORDER BY leaf"""
            under = leaves([rows.earned(one) for one in tx.query(sql, [row["batch"], row["line"]])])
            sql = "SELECT fate FROM chain_disputes WHERE identity = ? AND line = ? AND leaf = ? ORDER BY sequence DESC LIMIT 1"
            last = first(tx, sql, batch.identity, row["line"], row["leaf"])
            fate = Fate.NONE if last is None else Fate(last["fate"])
            return Placed(batch, row["line"], row["leaf"], fate, sums.proof(under, row["leaf"]))

        return await self._database.transact(work)

    async def counted(self, account: str) -> Counted:
        """Return what became of an account's receipts."""

        def work(tx: Transaction) -> Counted:
            at_one_time(tx)
            waiting = first(tx, "SELECT COUNT(*) AS n FROM chain_waiting WHERE payer = ?", account)
            sent = settled = paid = 0
            sql = """SELECT progress, total, count FROM chain_lines JOIN chain_batches ON number = batch
                WHERE account = ? AND refused = ''"""
            for row in tx.query(sql, [account]):
                if row["progress"] == Progress.SETTLED:
                    settled, paid = settled + row["count"], paid + int(row["total"])
                elif row["progress"] == Progress.MADE:
                    sent += row["count"]
            return Counted((waiting or {}).get("n") or 0, sent, settled, paid)

        return await self._database.transact(work)

    async def paid(self, account: str, start: datetime | None, end: datetime | None, limit: int) -> Sequence[ChainBatch]:
        """Return the latest batches with receipts of the account, as payer or as provider, that were paid in that time."""
        sql = """SELECT number FROM chain_batches WHERE progress = 'settled' AND time >= ? AND time < ?
            AND (provider = ? OR EXISTS (SELECT 1 FROM chain_lines WHERE batch = number AND account = ?))
            ORDER BY number DESC LIMIT ?"""
        provider = account.removeprefix("accounts/")
        times = [0 if start is None else rows.micros(start), 1 << 62 if end is None else rows.micros(end)]

        def work(tx: Transaction) -> list[ChainBatch]:
            at_one_time(tx)
            found = [read_batch(tx, row["number"]) for row in list(tx.query(sql, [*times, provider, account, limit]))]
            return [
                replace(one, lines=tuple(line for line in one.lines if account in (line.account, f"accounts/{one.provider}")))
                for one in found
            ]

        return await self._database.transact(work)

    async def cursor(self) -> Cursor | None:
        """Return how far events were read."""
        return await self._database.transact(_cursor)

    async def follow(self, cursor: Cursor, disputes: Sequence[Dispute]) -> None:
        """Keep what happened and how far that was read; what was kept of later blocks is forgotten."""

        def work(tx: Transaction) -> None:
            before = _cursor(tx)
            if before is not None:
                tx.execute("DELETE FROM chain_disputes WHERE block > ?", [min(before.block, cursor.block)])
            for one in disputes:
                sql = "INSERT INTO chain_disputes (identity, line, leaf, fate, block) VALUES (?, ?, ?, ?, ?)"
                tx.execute(sql, [one.identity, one.line, one.leaf, one.fate.value, one.block])
            sql = """INSERT INTO chain_cursor VALUES (1, ?, ?)
                ON CONFLICT (one) DO UPDATE SET block = excluded.block, hash = excluded.hash"""
            tx.execute(sql, [cursor.block, cursor.hash])

        await self._database.transact(work)


def _cursor(tx: Transaction) -> Cursor | None:
    row = first(tx, "SELECT block, hash FROM chain_cursor")
    return None if row is None else Cursor(row["block"], row["hash"])


def _place(tx: Transaction, receipts: Sequence[Earned], number: int, line: int) -> None:
    """Put receipts into a line of a batch. Raises ValueError unless all of them waited for one."""
    for start in range(0, len(receipts), ROWS):
        part = receipts[start : start + ROWS]
        values: list[object] = []
        for leaf, one in enumerate(part, start):
            values += [one.receipt, number, line, leaf]
        tx.execute(f"INSERT INTO chain_receipts VALUES {slots(len(part), 4)}", values)  # noqa: S608  # marks
        are, names = among(tx, (one.receipt for one in part))
        sql = f"""DELETE FROM chain_waiting WHERE operator = ? AND payer = ?
            AND sequence IN (SELECT sequence FROM broker_receipts WHERE receipt {are})"""  # noqa: S608  # one of two texts
        if tx.execute(sql, [part[0].operator, part[0].payer, names]).rowcount != len(part):
            raise ValueError(f"a receipt of line {line} of batch {number} did not wait for a batch")


def _free(tx: Transaction, batch: ChainBatch, at: int, reason: str, by: Movement) -> None:
    """Let the receipts of a line wait again, and give the provider's account back what left it for them."""
    where = [batch.number, at]
    tx.execute("UPDATE chain_lines SET refused = ? WHERE batch = ? AND line = ?", [reason, *where])
    sql = """INSERT INTO chain_waiting SELECT operator, payer, sequence FROM chain_receipts
        JOIN broker_receipts USING (receipt) WHERE chain_receipts.batch = ? AND line = ?"""
    tx.execute(sql, where)
    tx.execute("DELETE FROM chain_receipts WHERE batch = ? AND line = ?", where)
    operator = f"accounts/{batch.provider}"
    # of one movement for each line, so that the lines of each transfer cancel out
    own = Movement(f"{by.id}/{at}", by.time)
    post(tx, operator, leave(batch.number, operator, -batch.lines[at].total, own))


def read_batch(tx: Transaction, number: int, *, own: bool = False) -> ChainBatch:
    """Return a batch, which must be there. ``own``: nobody else changes it until this is over."""
    sql = f"SELECT * FROM chain_batches WHERE number = ?{tx.lock if own else ''}"  # noqa: S608  # fixed words
    row: dict[str, Any] = first(tx, sql, number) or {}
    lines = tuple(
        ChainLine(one["account"], one["user"], bytes.fromhex(one["root"]), int(one["total"]), one["count"], one["refused"])
        for one in tx.query("SELECT * FROM chain_lines WHERE batch = ? ORDER BY line", [number])
    )
    return ChainBatch(
        number, row["identity"], row["provider"], int(row["nonce"]), row["deadline"], row["since"], row["attempt"],
        Progress(row["progress"]), lines, row["tx"], row["block"], row["closes_at"],
    )  # fmt: skip
