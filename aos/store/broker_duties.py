"""What is still to be claimed and answered on a chain, and what answers disputes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from aos.broker.chain import ChainBatch, Evidence, Fate, Progress
from aos.store import broker_rows as rows
from aos.store.broker_chain import read_batch
from aos.store.reading import at_one_time, each_of, first
from aos.store.sql import SqlDatabase, Transaction
from aos.v1.receipt_pb2 import Receipt
from aos.v1.requests_pb2 import SignedRequest

FORGOTTEN: Final = 64
"""Most batches, and most requests, that are forgotten at once."""


class SqlDutyStore:
    """A DutyStore, and ChainFigures, in a database."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def unclaimed(self, now: int, limit: int) -> Sequence[tuple[ChainBatch, int]]:
        """Return settled batches whose window is over and which it is time to look at, and how often each was claimed before."""
        sql = "SELECT batch, attempts FROM chain_claims WHERE done = 0 AND look_at <= ? ORDER BY look_at, batch LIMIT ?"

        def work(tx: Transaction) -> list[tuple[ChainBatch, int]]:
            at_one_time(tx)
            return [(read_batch(tx, row["batch"]), row["attempts"]) for row in list(tx.query(sql, [now, limit]))]

        return await self._database.transact(work)

    async def claimed(self, number: int, *, forget_at: int) -> None:
        """Keep that nothing of a batch is left to claim, and from when on nothing is needed that answers its disputes."""
        sql = "UPDATE chain_claims SET done = 1, look_at = ? WHERE batch = ?"
        await self._database.transact(lambda tx: tx.execute(sql, [forget_at, number]) and None)

    async def claim_again(self, number: int, *, at: int, attempts: int) -> None:
        """Keep when to look at a batch again."""
        sql = "UPDATE chain_claims SET look_at = ?, attempts = ? WHERE batch = ?"
        await self._database.transact(lambda tx: tx.execute(sql, [at, attempts, number]) and None)

    async def disputed(self, now: int, limit: int) -> Sequence[tuple[str, int, int, int]]:
        """Return open disputes, oldest first, which it is time to look at: batch, line, leaf, and answers sent before."""
        sql = """SELECT d.identity, d.line, d.leaf, COALESCE(a.attempts, 0) AS attempts FROM chain_disputes d
            JOIN chain_batches b ON b.identity = d.identity
            LEFT JOIN chain_answers a ON a.identity = d.identity AND a.line = d.line AND a.leaf = d.leaf
            WHERE d.fate = 'disputed' AND COALESCE(a.given_up, 0) = 0 AND COALESCE(a.look_at, 0) <= ? AND NOT EXISTS (
                SELECT 1 FROM chain_disputes l
                WHERE l.identity = d.identity AND l.line = d.line AND l.leaf = d.leaf AND l.sequence > d.sequence
            ) ORDER BY d.sequence LIMIT ?"""

        def work(tx: Transaction) -> list[tuple[str, int, int, int]]:
            return [(row["identity"], row["line"], row["leaf"], row["attempts"]) for row in tx.query(sql, [now, limit])]

        return await self._database.transact(work)

    async def answer_again(self, identity: str, line: int, leaf: int, *, at: int, attempts: int) -> None:
        """Keep when to look at a dispute again."""
        await self._answered([identity, line, leaf, at, attempts, 0])

    async def given_up(self, identity: str, line: int, leaf: int) -> None:
        """Keep that a dispute cannot be answered."""
        await self._answered([identity, line, leaf, 0, 0, 1])

    async def _answered(self, values: Sequence[object]) -> None:
        sql = """INSERT INTO chain_answers (identity, line, leaf, look_at, attempts, given_up) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT (identity, line, leaf) DO UPDATE SET look_at = excluded.look_at, attempts = excluded.attempts,
            given_up = excluded.given_up"""
        await self._database.transact(lambda tx: tx.execute(sql, values) and None)

    async def evidence(self, identity: str, line: int, leaf: int) -> Evidence | None:
        """Return what answers a dispute; None if that is not kept."""
        sql = """SELECT broker_bodies.receipt AS receipt, broker_bodies.body AS body, broker_requests.body AS request
            FROM chain_batches JOIN chain_receipts ON batch = number
            JOIN broker_bodies USING (receipt) JOIN broker_requests USING (job)
            WHERE identity = ? AND line = ? AND leaf = ?"""

        def work(tx: Transaction) -> Evidence | None:
            row = first(tx, sql, identity, line, leaf)
            if row is None:
                return None
            return Evidence(row["receipt"], Receipt.FromString(row["body"]), SignedRequest.FromString(row["request"]))

        return await self._database.transact(work)

    async def forget(self, now: int, before: int) -> None:
        """Forget what no dispute can need any more."""

        def work(tx: Transaction) -> None:
            sql = "SELECT batch FROM chain_claims WHERE done = 1 AND look_at <= ? ORDER BY look_at LIMIT ?"
            for row in list(tx.query(sql, [now, FORGOTTEN])):
                mine = "SELECT receipt FROM chain_receipts WHERE batch = ?"
                jobs = f"SELECT job FROM broker_bodies WHERE receipt IN ({mine})"  # noqa: S608  # fixed words
                sql = f"DELETE FROM broker_requests WHERE job IN ({jobs})"  # noqa: S608  # fixed words
                tx.execute(sql, [row["batch"]])
                tx.execute(f"DELETE FROM broker_bodies WHERE receipt IN ({mine})", [row["batch"]])  # noqa: S608  # fixed words
                tx.execute("DELETE FROM chain_claims WHERE batch = ?", [row["batch"]])
            # what failed, or was never asked for
            sql = """DELETE FROM broker_requests WHERE (wallet, nonce) IN (SELECT wallet, nonce FROM broker_requests r
                WHERE expiry < ? AND NOT EXISTS (SELECT 1 FROM broker_bodies WHERE broker_bodies.job = r.job)
                ORDER BY expiry LIMIT ?)"""
            tx.execute(sql, [before, FORGOTTEN])

        await self._database.transact(work)

    async def counts(self) -> tuple[Mapping[Progress, int], int, Mapping[Fate, int]]:
        """Return batches by progress, settled ones of which something is left to claim, and disputed receipts by their fate."""
        latest = """SELECT fate, COUNT(*) AS n FROM chain_disputes d WHERE NOT EXISTS (
            SELECT 1 FROM chain_disputes l
            WHERE l.identity = d.identity AND l.line = d.line AND l.leaf = d.leaf AND l.sequence > d.sequence
        ) GROUP BY fate"""

        def work(tx: Transaction) -> tuple[dict[Progress, int], int, dict[Fate, int]]:
            at_one_time(tx)
            batches = tx.query("SELECT progress, COUNT(*) AS n FROM chain_batches GROUP BY progress")
            by_progress = {Progress(row["progress"]): row["n"] for row in batches}
            unclaimed = first(tx, "SELECT COUNT(*) AS n FROM chain_claims WHERE done = 0")
            by_fate = {Fate(row["fate"]): row["n"] for row in tx.query(latest)}
            return by_progress, (unclaimed or {}).get("n") or 0, by_fate

        return await self._database.transact(work)

    async def oldest(self, operators: Sequence[str], payers: Sequence[str]) -> datetime | None:
        """Return when the oldest receipt of these operators and payers was paid that is not settled; None if all are."""
        sent = """SELECT MIN(sequence) AS first FROM chain_receipts JOIN broker_receipts USING (receipt)
            WHERE chain_receipts.batch IN (SELECT number FROM chain_batches WHERE progress = 'made')"""

        def work(tx: Transaction) -> datetime | None:
            at_one_time(tx)
            theirs, operator_names = each_of(tx, operators)
            ours, payer_names = each_of(tx, payers)
            # of each pair one row is read: those that cannot be paid for may be many
            waiting = f"""SELECT MIN((
                SELECT MIN(sequence) FROM chain_waiting WHERE operator = theirs.value AND payer = ours.value
            )) AS first FROM {theirs} theirs, {ours} ours"""  # noqa: S608  # one of two texts
            asked = (first(tx, waiting, operator_names, payer_names), first(tx, sent))
            found = [row["first"] for row in asked if row is not None and row["first"] is not None]
            row = first(tx, "SELECT time FROM broker_receipts WHERE sequence = ?", min(found)) if found else None
            return None if row is None else rows.moment(row["time"])

        return await self._database.transact(work)
