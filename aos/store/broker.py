"""Accounts, holds and the journal. Amounts are decimal text, because they outgrow 64 bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from aos.broker.accounts import Balance, Deposit, Hold, Pot, Totals, after
from aos.broker.ledger import Key, Ledger, SubAccount
from aos.broker.store import Decided, Deposited, Entry, Reserving, Settled, Settling, Standings
from aos.store import broker_holds
from aos.store import broker_rows as rows
from aos.store.broker_journal import post, totals
from aos.store.reading import at_one_time, first
from aos.store.sql import SqlDatabase, Transaction
from aos.store.sqlite import SqliteFile


class SqlBrokerStore:
    """A BrokerStore in a database."""

    def __init__(self, database: SqlDatabase, *, jobs_beside: bool = False) -> None:
        """``jobs_beside``: the jobs are in the same database, so that on SQLite holds wait for no disk of their own.

        A hold is on disk before its job's acceptance, which comes behind it and waits; and a payment before the job's mark that it
        was settled, so that what a loss of power undoes of it is paid again. PostgreSQL keeps that order, too, but not for those
        who outlive it: when it alone ends, whoever was told of a hold that is undone would have the job accepted without one.
        """
        self._database = database
        self._durable = not (jobs_beside and isinstance(database, SqliteFile))

    async def balance(self, account: str) -> Balance | None:
        """Return what an account has; None if there is none."""
        return await self._database.transact(lambda tx: rows.balance(tx, account))

    async def deposit(self, request_id: str, account: str, decide: Callable[[Deposit | None, Ledger | None], Deposited]) -> Balance:
        """Show ``decide`` the deposit that request_id made, if any, and the account's ledger. Returns what the account has then."""

        def work(tx: Transaction) -> Balance:
            has = rows.balance(tx, account, own=True) or Balance()
            there, before = rows.ledger(tx, account), _deposit(tx, request_id)
            made, transfer, ledger = decide(before, there)
            if before is not None:
                return has
            post(tx, made.account, transfer)
            if ledger is not None and ledger != there:
                rows.keep_ledger(tx, ledger)
            sql = "INSERT INTO broker_deposits (request_id, account, amount) VALUES (?, ?, ?)"
            tx.execute(sql, [made.request_id, made.account, str(made.amount)])
            return has if transfer is None else after(has, [line for line in transfer.lines if line.account == account])

        return await self._database.transact(work)

    async def reserve(
        self, hold: str, account: str, key: Key | None, decide: Callable[[Hold | None, Balance, SubAccount | None], Decided]
    ) -> Hold:
        """Show ``decide`` the hold, if there is one, what the account has, and its sub-account of that key."""
        asked = Reserving(hold, account, key, decide)
        return await self._database.transact(lambda tx: broker_holds.reserve(tx, asked), durable=self._durable)

    async def settle(self, hold: str, decide: Callable[[Hold, SubAccount | None], Settled]) -> Hold:
        """Show ``decide`` the hold, and the sub-account that it binds. Raises HoldNotFound, and ReceiptUsed after a fee."""
        asked = Settling(hold, decide)
        return await self._database.transact(lambda tx: broker_holds.settle(tx, asked), durable=self._durable)

    async def totals(self) -> Totals:
        """Return the sums of all accounts and of all deposits, as they are at one time."""
        return await self._database.transact(totals)

    async def entries(self, account: str, *, after: int, limit: int) -> Sequence[Entry]:
        """Return lines behind that sequence, oldest first, of one account or (empty) of all."""
        where, values = ("account = ? AND ", [account]) if account else ("", [])
        sql = f"SELECT * FROM broker_journal WHERE {where}sequence > ? ORDER BY sequence LIMIT ?"  # noqa: S608  # two fixed texts

        def work(tx: Transaction) -> list[Entry]:
            return [rows.entry(row) for row in tx.query(sql, [*values, after, limit])]

        return await self._database.transact(work)

    async def standings(self) -> Standings:
        """Return what all accounts have, at one time."""

        def work(tx: Transaction) -> Standings:
            at_one_time(tx)
            last = first(tx, "SELECT MAX(sequence) AS last FROM broker_journal")
            pots: dict[tuple[str, str], int] = {}
            for row in tx.query("SELECT * FROM broker_accounts"):
                pots[row["name"], Pot.AVAILABLE.value] = int(row["available"])
                pots[row["name"], Pot.HELD.value] = int(row["held"])
            for row in tx.query("SELECT * FROM broker_sub_accounts"):
                pots[row["account"], f"{row['service']}/{row['provider']}"] = int(row["balance"])
            bound: Counter[str] = Counter()
            for row in tx.query("SELECT account, amount FROM broker_holds WHERE state = 'held'"):
                bound[row["account"]] += int(row["amount"])
            for row in tx.query("SELECT operator, price FROM broker_receipts WHERE standing IN ('open', 'frozen')"):
                bound[row["operator"]] += int(row["price"])
            pending: Counter[tuple[str, str]] = Counter()
            for row in tx.query("SELECT * FROM broker_refunds"):
                pending[row["account"], f"{row['service']}/{row['provider']}"] += int(row["amount"])
            return Standings((last or {}).get("last") or 0, pots, dict(bound), dict(pending), totals(tx))

        return await self._database.transact(work)


def _deposit(tx: Transaction, request_id: str) -> Deposit | None:
    row = first(tx, "SELECT * FROM broker_deposits WHERE request_id = ?", request_id)
    return None if row is None else Deposit(row["request_id"], row["account"], int(row["amount"]))
