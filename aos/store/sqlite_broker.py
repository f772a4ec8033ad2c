"""Accounts, holds and the journal in SQLite. Amounts are decimal text, because they outgrow 64 bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from sqlite_utils import Database

from aos.broker.accounts import EXTERNAL, Balance, Deposit, Hold, Pot, Totals
from aos.broker.ledger import Key, Ledger, Service, SubAccount
from aos.broker.store import Decided, Deposited, Entry, Settled, Standings
from aos.errors import HoldNotFound
from aos.store import sqlite_broker_rows as rows
from aos.store.sqlite import SqliteFile


class SqliteBrokerStore:
    """A BrokerStore in one file."""

    def __init__(self, file: SqliteFile, *, jobs_beside: bool = False) -> None:
        """``jobs_beside``: the jobs are in the same file, so that holds need no disk of their own.

        A hold is on disk before its job's acceptance, which comes behind it and waits; and a payment before the job's mark that it
        was settled, so that what a loss of power undoes of it is paid again.
        """
        self._file, self._durable = file, not jobs_beside

    async def balance(self, account: str) -> Balance | None:
        """Return what an account has; None if there is none."""
        return await self._file.transact(lambda db: rows.balance(db, account))

    async def deposit(self, request_id: str, account: str, decide: Callable[[Deposit | None, Ledger | None], Deposited]) -> Balance:
        """Show ``decide`` the deposit that request_id made, if any, and the account's ledger. Returns what the account has then."""

        def work(db: Database) -> Balance:
            row = rows.one(db, "SELECT * FROM broker_deposits WHERE request_id = ?", request_id)
            before = None if row is None else Deposit(row["request_id"], row["account"], int(row["amount"]))
            there = rows.ledger(db, account)
            made, transfer, ledger = decide(before, there)
            if before is None:
                rows.post(db, made.account, transfer)
                if ledger is not None and ledger != there:
                    rows.keep_ledger(db, ledger)
                sql = "INSERT INTO broker_deposits (request_id, account, amount) VALUES (?, ?, ?)"
                db.execute(sql, [made.request_id, made.account, str(made.amount)])
            return rows.balance(db, account) or Balance()

        return await self._file.transact(work)

    async def reserve(
        self, hold: str, account: str, key: Key | None, decide: Callable[[Hold | None, Balance, SubAccount | None], Decided]
    ) -> Hold:
        """Show ``decide`` the hold, if there is one, what the account has, and its sub-account of that key."""

        def work(db: Database) -> Hold:
            before = rows.hold(db, hold)
            sub = None if key is None else rows.books(db, account).subs.get(key)
            there = rows.balances(db, [account])
            made, transfer = decide(before, there.get(account, Balance()), sub)
            if before is None:
                rows.post(db, made.account, transfer, there)
                sql = """INSERT INTO broker_holds (name, account, amount, state, paid, receipt, pot)
                    VALUES (:name, :account, :amount, :state, :paid, :receipt, :pot)"""
                db.execute(sql, rows.hold_row(made))
            return made

        return await self._file.transact(work, durable=self._durable)

    async def settle(self, hold: str, decide: Callable[[Hold, SubAccount | None], Settled]) -> Hold:
        """Show ``decide`` the hold, and the sub-account that it binds. Raises HoldNotFound, and ReceiptUsed after a fee."""

        def work(db: Database) -> Hold:
            before = rows.hold(db, hold)
            if before is None:
                raise HoldNotFound(hold)
            sub = None if before.pot == Pot.AVAILABLE else rows.books(db, before.account).subs.get(_key(before.pot))
            settled, transfer, earned = decide(before, sub)
            if settled != before:
                rows.post(db, settled.account, transfer)
                if earned is not None:
                    rows.keep_earned(db, earned)
                sql = (
                    "UPDATE broker_holds SET amount = :amount, state = :state, paid = :paid, receipt = :receipt WHERE name = :name"
                )
                db.execute(sql, rows.hold_row(settled))
            return settled

        return await self._file.transact(work, durable=self._durable)

    async def totals(self) -> Totals:
        """Return the sums of all accounts and of all deposits, as they are at one time."""

        def work(db: Database) -> Totals:
            # added up here, because sums outgrow SQLite's integers
            pots = [(int(row["available"]), int(row["held"])) for row in db.query("SELECT available, held FROM broker_accounts")]
            balance = Balance(sum(available for available, _ in pots), sum(held for _, held in pots))
            subs = sum(int(row["balance"]) for row in db.query("SELECT balance FROM broker_sub_accounts"))
            outside: Counter[str] = Counter()
            for row in db.query("SELECT reason, amount FROM broker_journal WHERE account = ?", [EXTERNAL]):
                outside[row["reason"]] -= int(row["amount"])
            return Totals(len(pots), balance, outside["deposit"], subs, -outside["refund"])

        return await self._file.transact(work)

    async def entries(self, account: str, *, after: int, limit: int) -> Sequence[Entry]:
        """Return lines behind that sequence, oldest first, of one account or (empty) of all."""
        where, values = ("account = ? AND ", [account]) if account else ("", [])
        sql = f"SELECT * FROM broker_journal WHERE {where}sequence > ? ORDER BY sequence LIMIT ?"  # noqa: S608  # two fixed texts

        def work(db: Database) -> list[Entry]:
            return [rows.entry(row) for row in db.query(sql, [*values, after, limit])]

        return await self._file.transact(work)

    async def standings(self) -> Standings:
        """Return what all accounts have, at one time."""

        def work(db: Database) -> Standings:
            last = rows.one(db, "SELECT MAX(sequence) AS last FROM broker_journal")
            pots: dict[tuple[str, str], int] = {}
            for row in db.query("SELECT * FROM broker_accounts"):
                pots[row["name"], Pot.AVAILABLE.value] = int(row["available"])
                pots[row["name"], Pot.HELD.value] = int(row["held"])
            for row in db.query("SELECT * FROM broker_sub_accounts"):
                pots[row["account"], f"{row['service']}/{row['provider']}"] = int(row["balance"])
            bound: Counter[str] = Counter()
            for row in db.query("SELECT account, amount FROM broker_holds WHERE state = 'held'"):
                bound[row["account"]] += int(row["amount"])
            for row in db.query("SELECT operator, price FROM broker_receipts WHERE standing IN ('open', 'frozen')"):
                bound[row["operator"]] += int(row["price"])
            pending: Counter[tuple[str, str]] = Counter()
            for row in db.query("SELECT * FROM broker_refunds"):
                pending[row["account"], f"{row['service']}/{row['provider']}"] += int(row["amount"])
            return Standings((last or {}).get("last") or 0, pots, dict(bound), dict(pending))

        return await self._file.transact(work)


def _key(pot: str) -> Key:
    service, _, provider = pot.partition("/")
    return Key(Service(service), provider)
