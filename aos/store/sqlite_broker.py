"""Accounts, holds and the journal in SQLite. Amounts are decimal text, because they outgrow 64 bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from aos.broker.accounts import EXTERNAL, Balance, Deposit, Hold, Line, Pot, Reason, State, Totals, Transfer, after
from aos.broker.store import Decided, Entry
from aos.errors import HoldNotFound
from aos.store.sqlite import SqliteFile

MIGRATIONS: Final = Migrations("broker")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@MIGRATIONS(name="0001_accounts")
def _accounts(db: Database) -> None:
    # the rules are accounts.py's; what stands here keeps any other writer from breaking them
    for sql in (
        """CREATE TABLE broker_accounts (
            name TEXT PRIMARY KEY,
            available TEXT NOT NULL CHECK (available NOT GLOB '*[^0-9]*' AND available <> ''),
            held TEXT NOT NULL CHECK (held NOT GLOB '*[^0-9]*' AND held <> '')
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE broker_deposits (
            request_id TEXT PRIMARY KEY,
            account TEXT NOT NULL REFERENCES broker_accounts,
            amount TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE broker_holds (
            name TEXT PRIMARY KEY,
            account TEXT NOT NULL REFERENCES broker_accounts,
            amount TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('held', 'committed', 'released')),
            paid TEXT NOT NULL,
            receipt TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
        """CREATE TRIGGER broker_holds_settle_once BEFORE UPDATE ON broker_holds WHEN OLD.state <> 'held'
        BEGIN SELECT RAISE(ABORT, 'a hold is settled once'); END""",
    ):
        db.execute(sql)


@MIGRATIONS(name="0002_journal")
def _journal(db: Database) -> None:
    for sql in (
        # time is in microseconds since 1970-01-01 UTC
        """CREATE TABLE broker_journal (
            sequence INTEGER PRIMARY KEY,
            transfer TEXT NOT NULL,
            time INTEGER NOT NULL,
            account TEXT NOT NULL,
            pot TEXT NOT NULL CHECK (pot IN ('available', 'held')),
            amount TEXT NOT NULL,
            reason TEXT NOT NULL CHECK (reason IN ('deposit', 'reserve', 'commit', 'release')),
            cause TEXT NOT NULL
        ) STRICT""",
        "CREATE INDEX broker_journal_account ON broker_journal (account, sequence)",
        """CREATE TRIGGER broker_journal_no_update BEFORE UPDATE ON broker_journal
        BEGIN SELECT RAISE(ABORT, 'the journal is only added to'); END""",
        """CREATE TRIGGER broker_journal_no_delete BEFORE DELETE ON broker_journal
        BEGIN SELECT RAISE(ABORT, 'the journal is only added to'); END""",
        # INSERT OR REPLACE deletes without firing a delete trigger
        """CREATE TRIGGER broker_journal_no_replace BEFORE INSERT ON broker_journal
        WHEN EXISTS (SELECT 1 FROM broker_journal WHERE sequence = NEW.sequence)
        BEGIN SELECT RAISE(ABORT, 'the journal is only added to'); END""",
        """CREATE TRIGGER broker_journal_no_gap AFTER INSERT ON broker_journal
        WHEN NEW.sequence <> 1 AND NOT EXISTS (SELECT 1 FROM broker_journal WHERE sequence = NEW.sequence - 1)
        BEGIN SELECT RAISE(ABORT, 'the journal has no gaps'); END""",
    ):
        db.execute(sql)


@MIGRATIONS(name="0003_totals")
def _totals(db: Database) -> None:
    # kept beside the balances, because they are asked for more often than all accounts can be read
    for sql in (
        """CREATE TABLE broker_totals (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            accounts INTEGER NOT NULL,
            available TEXT NOT NULL,
            held TEXT NOT NULL,
            deposits TEXT NOT NULL
        ) STRICT""",
        "INSERT INTO broker_totals VALUES (1, 0, '0', '0', '0')",
    ):
        db.execute(sql)
    _write_totals(db, added_up(db))


def added_up(db: Database) -> Totals:
    """Return the sums of all accounts and of all deposits, each looked at: what the kept ones must be. Slow."""
    # added up here, because sums outgrow SQLite's integers
    pots = [(int(row["available"]), int(row["held"])) for row in db.query("SELECT available, held FROM broker_accounts")]
    balance = Balance(sum(available for available, _ in pots), sum(held for _, held in pots))
    return Totals(len(pots), balance, sum(int(row["amount"]) for row in db.query("SELECT amount FROM broker_deposits")))


class SqliteBrokerStore:
    """A BrokerStore in one file."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    async def balance(self, account: str) -> Balance | None:
        """Return what an account has; None if there is none."""
        return await self._file.transact(lambda db: _balance(db, account))

    async def deposit(
        self, request_id: str, account: str, decide: Callable[[Deposit | None], tuple[Deposit, Transfer | None]]
    ) -> Balance:
        """Show ``decide`` the deposit that request_id made, if any. Returns what the account has then."""

        def work(db: Database) -> Balance:
            row = _one(db, "SELECT * FROM broker_deposits WHERE request_id = ?", request_id)
            before = None if row is None else Deposit(row["request_id"], row["account"], int(row["amount"]))
            made, transfer = decide(before)
            if before is None:
                _post(db, made.account, transfer, deposited=made.amount)
                sql = "INSERT INTO broker_deposits (request_id, account, amount) VALUES (?, ?, ?)"
                db.execute(sql, [made.request_id, made.account, str(made.amount)])
            return _balance(db, account) or Balance()

        return await self._file.transact(work)

    async def reserve(self, hold: str, account: str, decide: Callable[[Hold | None, Balance], Decided]) -> Hold:
        """Show ``decide`` the hold, if there is one, and what the account has."""

        def work(db: Database) -> Hold:
            before = _hold(db, hold)
            made, transfer = decide(before, _balance(db, account) or Balance())
            if before is None:
                _post(db, made.account, transfer)
                db.execute("INSERT INTO broker_holds VALUES (:name, :account, :amount, :state, :paid, :receipt)", _row(made))
            return made

        return await self._file.transact(work)

    async def settle(self, hold: str, decide: Callable[[Hold], Decided]) -> Hold:
        """Show ``decide`` the hold. Raises HoldNotFound."""

        def work(db: Database) -> Hold:
            before = _hold(db, hold)
            if before is None:
                raise HoldNotFound(hold)
            settled, transfer = decide(before)
            if settled != before:
                _post(db, settled.account, transfer)
                sql = (
                    "UPDATE broker_holds SET amount = :amount, state = :state, paid = :paid, receipt = :receipt WHERE name = :name"
                )
                db.execute(sql, _row(settled))
            return settled

        return await self._file.transact(work)

    async def totals(self) -> Totals:
        """Return the sums of all accounts and of all deposits, as they are at one time."""
        return await self._file.transact(_read_totals)

    async def entries(self, account: str, *, after: int, limit: int) -> Sequence[Entry]:
        """Return lines behind that sequence, oldest first, of one account or (empty) of all."""
        where, values = ("account = ? AND ", [account]) if account else ("", [])
        sql = f"SELECT * FROM broker_journal WHERE {where}sequence > ? ORDER BY sequence LIMIT ?"  # noqa: S608  # two fixed texts

        def work(db: Database) -> list[Entry]:
            return [_entry(row) for row in db.query(sql, [*values, after, limit])]

        return await self._file.transact(work)


def _post(db: Database, account: str, transfer: Transfer | None, *, deposited: int = 0) -> None:
    """Add the transfer to the journal and move the balances; ``account`` is there from then on, whatever moves."""
    lines, totals = () if transfer is None else transfer.lines, _read_totals(db)
    new, available, held = 0, totals.balance.available, totals.balance.held
    for name in {account, *(line.account for line in lines)} - {EXTERNAL}:
        known = _balance(db, name)
        before = known or Balance()
        balance = after(before, [line for line in lines if line.account == name])
        new += known is None
        available, held = available + balance.available - before.available, held + balance.held - before.held
        sql = """INSERT INTO broker_accounts (name, available, held) VALUES (?, ?, ?)
            ON CONFLICT DO UPDATE SET available = excluded.available, held = excluded.held"""
        db.execute(sql, [name, str(balance.available), str(balance.held)])
    _write_totals(db, Totals(totals.accounts + new, Balance(available, held), totals.deposited + deposited))
    if transfer is not None:
        sql = """INSERT INTO broker_journal (transfer, time, account, pot, amount, reason, cause)
            VALUES (?, ?, ?, ?, ?, ?, ?)"""
        time = (transfer.time - _EPOCH) // _MICROSECOND
        for line in lines:
            values = [transfer.id, time, line.account, line.pot.value, str(line.amount), line.reason.value, transfer.cause]
            db.execute(sql, values)


def _read_totals(db: Database) -> Totals:
    row = next(iter(db.query("SELECT * FROM broker_totals")))
    return Totals(row["accounts"], Balance(int(row["available"]), int(row["held"])), int(row["deposits"]))


def _write_totals(db: Database, totals: Totals) -> None:
    values = [totals.accounts, str(totals.balance.available), str(totals.balance.held), str(totals.deposited)]
    db.execute("UPDATE broker_totals SET accounts = ?, available = ?, held = ?, deposits = ?", values)


def _one(db: Database, sql: str, *values: str) -> dict[str, Any] | None:
    return next(iter(db.query(sql, list(values))), None)


def _balance(db: Database, account: str) -> Balance | None:
    row = _one(db, "SELECT * FROM broker_accounts WHERE name = ?", account)
    return None if row is None else Balance(int(row["available"]), int(row["held"]))


def _hold(db: Database, name: str) -> Hold | None:
    row = _one(db, "SELECT * FROM broker_holds WHERE name = ?", name)
    if row is None:
        return None
    return Hold(row["name"], row["account"], int(row["amount"]), State(row["state"]), int(row["paid"]), row["receipt"])


def _row(hold: Hold) -> dict[str, Any]:
    return {
        "name": hold.name,
        "account": hold.account,
        "amount": str(hold.amount),
        "state": hold.state.value,
        "paid": str(hold.paid),
        "receipt": hold.receipt,
    }


def _entry(row: dict[str, Any]) -> Entry:
    line = Line(row["account"], Pot(row["pot"]), int(row["amount"]), Reason(row["reason"]))
    return Entry(row["sequence"], row["transfer"], _EPOCH + timedelta(microseconds=row["time"]), line, row["cause"])
