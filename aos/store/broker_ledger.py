"""Ledgers, sub-accounts and settlements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aos.broker.accounts import Transfer
from aos.broker.ledger import Books, Change, SubAccount, check_again
from aos.broker.settlement import Batch, Earned
from aos.errors import ReceiptNotPaid
from aos.store import broker_rows as rows
from aos.store.broker_journal import post
from aos.store.reading import among, at_one_time, first
from aos.store.sql import SqlDatabase, Transaction


class SqlLedgerStore:
    """A LedgerStore in a database."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def books(self, account: str) -> Books:
        """Return all that there is of an account."""

        def work(tx: Transaction) -> Books:
            at_one_time(tx)
            return rows.books(tx, account)

        return await self._database.transact(work)

    async def ledgers(self, *, after: str, limit: int) -> Sequence[Books]:
        """Return accounts that have a ledger, in the order of their names, behind that one."""
        sql = "SELECT account FROM broker_ledgers WHERE account > ? ORDER BY account LIMIT ?"

        def work(tx: Transaction) -> list[Books]:
            at_one_time(tx)
            return [rows.books(tx, row["account"]) for row in list(tx.query(sql, [after, limit]))]

        return await self._database.transact(work)

    async def move(
        self, account: str, request_id: str, contents: str, decide: Callable[[Books], Change]
    ) -> tuple[Books, Change | None]:
        """Show ``decide`` the books. Returns them as they are then, and the change; none if the request_id made it before.

        Raises RequestIdReused if the request_id, unless it is empty, did something else before.
        """

        def work(tx: Transaction) -> tuple[Books, Change | None]:
            books = rows.books(tx, account, own=True)
            if request_id:
                sql = "SELECT contents FROM broker_moves WHERE account = ? AND request_id = ?"
                row = first(tx, sql, account, request_id)
                if row is not None:
                    check_again(request_id, row["contents"], contents)
                    return books, None
                tx.execute("INSERT INTO broker_moves VALUES (?, ?, ?)", [account, request_id, contents])
            change = decide(books)
            rows.keep_subs(tx, change.subs)
            if change.ledger is None:
                # they are empty: nothing of a ledger is left but its lines in the journal
                for table in ("broker_refunds", "broker_sub_accounts", "broker_ledgers"):
                    tx.execute(f"DELETE FROM {table} WHERE account = ?", [account])  # noqa: S608  # three fixed names
            else:
                rows.keep_ledger(tx, change.ledger)
            post(tx, account, change.transfer)
            return rows.books(tx, account), change

        return await self._database.transact(work)

    async def spend(
        self,
        account: str,
        receipt: str,
        decide: Callable[[Books, Earned | None], tuple[SubAccount, Transfer | None, Earned]],
    ) -> Earned:
        """Show ``decide`` the books, and what the receipt paid before, if anything."""

        def work(tx: Transaction) -> Earned:
            books = rows.books(tx, account, own=True)
            sub, transfer, earned = decide(books, rows.find_earned(tx, receipt))
            rows.keep_subs(tx, [sub])
            post(tx, account, transfer)
            rows.keep_earned(tx, earned)
            return earned

        return await self._database.transact(work)

    async def earned(self, receipt: str) -> Earned | None:
        """Return what a receipt paid; None if it paid nothing."""
        return await self._database.transact(lambda tx: rows.find_earned(tx, receipt))

    async def dispute(self, receipt: str, decide: Callable[[Earned, Books], tuple[Earned, Transfer | None]]) -> Earned:
        """Show ``decide`` the receipt, and the payer's books. Raises ReceiptNotPaid."""

        def work(tx: Transaction) -> Earned:
            before = rows.find_earned(tx, receipt, own=True)
            if before is None:
                raise ReceiptNotPaid(receipt)
            after, transfer = decide(before, rows.books(tx, before.payer, own=True))
            if after != before:
                sql = "UPDATE broker_receipts SET standing = ? WHERE receipt = ?"
                tx.execute(sql, [after.standing.value, receipt])
                post(tx, before.operator, transfer)
            return after

        return await self._database.transact(work)

    async def seal(
        self,
        *,
        limit: int,
        due: Callable[[Earned], bool],
        decide: Callable[[Sequence[Earned], int], tuple[Batch, list[Earned], Transfer | None]],
    ) -> Batch | None:
        """Show ``decide`` the oldest receipts that are due and the next batch's number. None if nothing is due."""

        def work(tx: Transaction) -> Batch | None:
            tx.advisory("broker settlements")  # of two brokers that seal at once, the second finds what the first has left
            sql = f"""SELECT * FROM broker_receipts WHERE batch = 0 AND standing IN ('open', 'paid')
                ORDER BY sequence LIMIT ?{tx.lock}"""  # noqa: S608  # fixed words
            found = [one for one in map(rows.earned, tx.query(sql, [limit])) if due(one)]
            if not found:
                return None
            last = first(tx, "SELECT MAX(number) AS last FROM broker_batches")
            batch, after, transfer = decide(found, ((last or {}).get("last") or 0) + 1)
            values = [batch.number, batch.root.hex(), batch.receipts, str(batch.amount), rows.micros(batch.time)]
            tx.execute("INSERT INTO broker_batches VALUES (?, ?, ?, ?, ?)", values)
            for standing, number in {(one.standing, one.batch) for one in after}:
                same = [one.receipt for one in after if (one.standing, one.batch) == (standing, number)]
                are, receipts = among(tx, same)
                sql = f"UPDATE broker_receipts SET standing = ?, batch = ? WHERE receipt {are}"  # noqa: S608  # one of two texts
                tx.execute(sql, [standing.value, number, receipts])
            post(tx, found[0].operator, transfer)
            return batch

        return await self._database.transact(work)

    async def batches(self, *, after: int, limit: int) -> Sequence[Batch]:
        """Return batches behind that number, oldest first."""
        sql = "SELECT * FROM broker_batches WHERE number > ? ORDER BY number LIMIT ?"
        return await self._database.transact(lambda tx: [_batch(row) for row in tx.query(sql, [after, limit])])

    async def batch(self, number: int) -> tuple[Batch, Sequence[Earned]] | None:
        """Return a batch and its receipts, in the order of its tree; None if there is none."""
        sql = "SELECT * FROM broker_receipts WHERE batch = ? ORDER BY sequence"

        def work(tx: Transaction) -> tuple[Batch, Sequence[Earned]] | None:
            at_one_time(tx)
            row = first(tx, "SELECT * FROM broker_batches WHERE number = ?", number)
            return None if row is None else (_batch(row), [rows.earned(one) for one in tx.query(sql, [number])])

        return await self._database.transact(work)


def _batch(row: dict[str, Any]) -> Batch:
    return Batch(row["number"], bytes.fromhex(row["root"]), row["receipts"], int(row["amount"]), rows.moment(row["time"]))
