"""Ledgers, sub-accounts and settlements in SQLite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlite_utils import Database

from aos.broker.accounts import Transfer
from aos.broker.ledger import Books, Change, SubAccount, check_again
from aos.broker.settlement import Batch, Earned
from aos.errors import ReceiptNotPaid
from aos.store import sqlite_broker_rows as rows
from aos.store.sqlite import SqliteFile


class SqliteLedgerStore:
    """A LedgerStore in one file."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    async def books(self, account: str) -> Books:
        """Return all that there is of an account."""
        return await self._file.transact(lambda db: rows.books(db, account))

    async def ledgers(self, *, after: str, limit: int) -> Sequence[Books]:
        """Return accounts that have a ledger, in the order of their names, behind that one."""
        sql = "SELECT account FROM broker_ledgers WHERE account > ? ORDER BY account LIMIT ?"

        def work(db: Database) -> list[Books]:
            return [rows.books(db, row["account"]) for row in list(db.query(sql, [after, limit]))]

        return await self._file.transact(work)

    async def move(
        self, account: str, request_id: str, contents: str, decide: Callable[[Books], Change]
    ) -> tuple[Books, Change | None]:
        """Show ``decide`` the books. Returns them as they are then, and the change; none if the request_id made it before.

        Raises RequestIdReused if the request_id, unless it is empty, did something else before.
        """

        def work(db: Database) -> tuple[Books, Change | None]:
            if request_id:
                sql = "SELECT contents FROM broker_moves WHERE account = ? AND request_id = ?"
                row = rows.one(db, sql, account, request_id)
                if row is not None:
                    check_again(request_id, row["contents"], contents)
                    return rows.books(db, account), None
                db.execute("INSERT INTO broker_moves VALUES (?, ?, ?)", [account, request_id, contents])
            change = decide(rows.books(db, account))
            rows.keep_subs(db, change.subs)
            rows.post(db, account, change.transfer)
            if change.ledger is None:
                # they are empty: nothing of a ledger is left but its lines in the journal
                for table in ("broker_refunds", "broker_sub_accounts", "broker_ledgers"):
                    db.execute(f"DELETE FROM {table} WHERE account = ?", [account])  # noqa: S608  # three fixed names
            else:
                rows.keep_ledger(db, change.ledger)
            return rows.books(db, account), change

        return await self._file.transact(work)

    async def spend(
        self,
        account: str,
        receipt: str,
        decide: Callable[[Books, Earned | None], tuple[SubAccount, Transfer | None, Earned]],
    ) -> Earned:
        """Show ``decide`` the books, and what the receipt paid before, if anything."""

        def work(db: Database) -> Earned:
            sub, transfer, earned = decide(rows.books(db, account), rows.find_earned(db, receipt))
            rows.keep_subs(db, [sub])
            rows.post(db, account, transfer)
            rows.keep_earned(db, earned)
            return earned

        return await self._file.transact(work)

    async def earned(self, receipt: str) -> Earned | None:
        """Return what a receipt paid; None if it paid nothing."""
        return await self._file.transact(lambda db: rows.find_earned(db, receipt))

    async def dispute(self, receipt: str, decide: Callable[[Earned, Books], tuple[Earned, Transfer | None]]) -> Earned:
        """Show ``decide`` the receipt, and the payer's books. Raises ReceiptNotPaid."""

        def work(db: Database) -> Earned:
            before = rows.find_earned(db, receipt)
            if before is None:
                raise ReceiptNotPaid(receipt)
            after, transfer = decide(before, rows.books(db, before.payer))
            if after != before:
                rows.post(db, before.operator, transfer)
                sql = "UPDATE broker_receipts SET standing = ? WHERE receipt = ?"
                db.execute(sql, [after.standing.value, receipt])
            return after

        return await self._file.transact(work)

    async def seal(
        self,
        *,
        limit: int,
        due: Callable[[Earned], bool],
        decide: Callable[[Sequence[Earned], int], tuple[Batch, list[Earned], Transfer | None]],
    ) -> Batch | None:
        """Show ``decide`` the oldest receipts that are due and the next batch's number. None if nothing is due."""

        def work(db: Database) -> Batch | None:
            sql = """SELECT * FROM broker_receipts WHERE batch = 0 AND standing IN ('open', 'paid') ORDER BY sequence LIMIT ?"""
            found = [one for one in map(rows.earned, db.query(sql, [limit])) if due(one)]
            if not found:
                return None
            last = rows.one(db, "SELECT MAX(number) AS last FROM broker_batches")
            batch, after, transfer = decide(found, ((last or {}).get("last") or 0) + 1)
            rows.post(db, found[0].operator, transfer)
            for one in after:
                sql = "UPDATE broker_receipts SET standing = ?, batch = ? WHERE receipt = ?"
                db.execute(sql, [one.standing.value, one.batch, one.receipt])
            values = [batch.number, batch.root.hex(), batch.receipts, str(batch.amount), rows.micros(batch.time)]
            db.execute("INSERT INTO broker_batches VALUES (?, ?, ?, ?, ?)", values)
            return batch

        return await self._file.transact(work)

    async def batches(self, *, after: int, limit: int) -> Sequence[Batch]:
        """Return batches behind that number, oldest first."""
        sql = "SELECT * FROM broker_batches WHERE number > ? ORDER BY number LIMIT ?"
        return await self._file.transact(lambda db: [_batch(row) for row in db.query(sql, [after, limit])])

    async def batch(self, number: int) -> tuple[Batch, Sequence[Earned]] | None:
        """Return a batch and its receipts, in the order of its tree; None if there is none."""
        sql = "SELECT * FROM broker_receipts WHERE batch = ? ORDER BY sequence"

        def work(db: Database) -> tuple[Batch, Sequence[Earned]] | None:
            row = rows.one(db, "SELECT * FROM broker_batches WHERE number = ?", number)
            return None if row is None else (_batch(row), [rows.earned(one) for one in db.query(sql, [number])])

        return await self._file.transact(work)


def _batch(row: dict[str, Any]) -> Batch:
    return Batch(row["number"], bytes.fromhex(row["root"]), row["receipts"], int(row["amount"]), rows.moment(row["time"]))
