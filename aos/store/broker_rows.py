"""The broker's rows: what is read from them, and who may change them meanwhile.

On PostgreSQL the lock on an account's row stands for all that is the account's own: its sub-accounts, refunds, ledger, and what it
did by which request_id. Locks are taken in this order, so that nobody waits in a circle: a batch or the turn to make one, a hold or
receipts, projects' accounts, operators' accounts, and last the journal's end. Of two that make the same hold, deposit or receipt on
two accounts at once, the database runs the second again, which then finds the first's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aos.broker.accounts import Balance, Hold, Line, Reason, State
from aos.broker.ledger import Books, Key, Ledger, Refund, Service, SubAccount
from aos.broker.settlement import Earned, Standing
from aos.broker.store import Entry
from aos.errors import ReceiptUsed
from aos.store.reading import among, first, insert_all
from aos.store.sql import Dialect, Transaction
from aos.v1.receipt_pb2 import Receipt

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def micros(time: datetime) -> int:
    """Return the time in microseconds since 1970-01-01 UTC."""
    return (time - _EPOCH) // _MICROSECOND


def moment(time: int) -> datetime:
    """Return the time so many microseconds after 1970-01-01 UTC."""
    return _EPOCH + timedelta(microseconds=time)


def balance(tx: Transaction, account: str, *, own: bool = False) -> Balance | None:
    """Return what an account has; None if there is none. ``own``: nobody else changes it, or makes it, until this is over."""
    sql = _balance_sql(tx, own=own)
    row = tx.execute(sql, [account]).fetchone()
    if row is None and own and tx.dialect is Dialect.POSTGRES:
        tx.advisory(f"broker account {account}")  # there is no row to lock; now nobody else makes it
        row = tx.execute(sql, [account]).fetchone()
    return _balance(row)


def _balance_sql(tx: Transaction, *, own: bool) -> str:
    return f"SELECT available, held FROM broker_accounts WHERE name = ?{tx.lock if own else ''}"  # noqa: S608  # fixed words


def _balance(row: tuple[str, str] | None) -> Balance | None:
    return None if row is None else Balance(int(row[0]), int(row[1]))


def balances(tx: Transaction, accounts: Sequence[str], *, own: bool = False) -> dict[str, Balance]:
    """Return what those of these accounts have that there are. ``own``: they become this transaction's own, in the given order."""
    if len(accounts) > 1 and tx.dialect is Dialect.SQLITE:
        are, names = among(tx, accounts)
        sql = f"SELECT name, available, held FROM broker_accounts WHERE name {are}"  # noqa: S608  # fixed words
        return {name: Balance(int(available), int(held)) for name, available, held in tx.execute(sql, [names]).fetchall()}
    # sent in their order, and asked for once
    rows = [tx.execute(_balance_sql(tx, own=own), [name]) for name in accounts]
    found = {
        name: _balance(row.fetchone()) or (balance(tx, name, own=own) if own else None)
        for name, row in zip(accounts, rows, strict=True)
    }
    return {name: one for name, one in found.items() if one is not None}


def hold(tx: Transaction, name: str, *, own: bool = False) -> Hold | None:
    """Return a hold; None if there is none. ``own``: nobody else settles it until this is over."""
    sql = "SELECT name, account, amount, state, paid, receipt, pot FROM broker_holds WHERE name = ?"
    row = tx.execute(f"{sql}{tx.lock if own else ''}", [name]).fetchone()
    return None if row is None else Hold(row[0], row[1], int(row[2]), State(row[3]), int(row[4]), row[5], row[6])


def holds(tx: Transaction, names: Sequence[str]) -> dict[str, Hold]:
    """Return those of these holds that there are, by their names."""
    are, values = among(tx, names)
    sql = f"SELECT name, account, amount, state, paid, receipt, pot FROM broker_holds WHERE name {are}"  # noqa: S608  # fixed words
    found = tx.execute(sql, [values]).fetchall()
    return {row[0]: Hold(row[0], row[1], int(row[2]), State(row[3]), int(row[4]), row[5], row[6]) for row in found}


def hold_row(kept: Hold) -> dict[str, Any]:
    """Return a hold's row."""
    return {
        "name": kept.name,
        "account": kept.account,
        "amount": str(kept.amount),
        "state": kept.state.value,
        "paid": str(kept.paid),
        "receipt": kept.receipt,
        "pot": str(kept.pot),
    }


def entry(row: dict[str, Any]) -> Entry:
    """Return a line of the journal."""
    line = Line(row["account"], row["pot"], int(row["amount"]), Reason(row["reason"]))
    return Entry(row["sequence"], row["transfer"], moment(row["time"]), line, row["cause"])


def ledger(tx: Transaction, account: str) -> Ledger | None:
    """Return an account's ledger; None if there is none."""
    row = first(tx, "SELECT * FROM broker_ledgers WHERE account = ?", account)
    if row is None:
        return None
    low, _, high = row["signer"].partition(",")
    return Ledger(row["account"], moment(row["created"]), row["info"], (int(low), int(high)))


def keep_ledger(tx: Transaction, kept: Ledger) -> None:
    """Keep a ledger as it is now."""
    sql = """INSERT INTO broker_ledgers (account, created, info, signer) VALUES (?, ?, ?, ?)
        ON CONFLICT (account) DO UPDATE SET info = excluded.info, signer = excluded.signer"""
    tx.execute(sql, [kept.account, micros(kept.created), kept.additional_info, f"{kept.signer[0]},{kept.signer[1]}"])


def books(tx: Transaction, account: str, *, own: bool = False) -> Books:
    """Return all that there is of an account. ``own``: nobody else changes it until this is over."""
    has = balance(tx, account, own=own) or Balance()
    refunds: dict[Key, list[Refund]] = {}
    for row in tx.query("SELECT * FROM broker_refunds WHERE account = ? ORDER BY number", [account]):
        asked = Refund(row["number"], int(row["amount"]), moment(row["created"]), moment(row["release"]))
        refunds.setdefault(Key(Service(row["service"]), row["provider"]), []).append(asked)
    subs: dict[Key, SubAccount] = {}
    for row in tx.query("SELECT * FROM broker_sub_accounts WHERE account = ? ORDER BY service, provider", [account]):
        key = Key(Service(row["service"]), row["provider"])
        waiting = tuple(refunds.get(key, ()))
        until = None if row["former_until"] is None else moment(row["former_until"])
        subs[key] = SubAccount(account, key, int(row["balance"]), waiting, row["signer"], row["next_refund"], row["former"], until)
    return Books(account, ledger(tx, account), has, subs)


def keep_subs(tx: Transaction, subs: Iterable[SubAccount]) -> None:
    """Keep all of the sub-accounts but their balances, which follow from the journal."""
    for sub in subs:
        where = [sub.account, sub.key.service.value, sub.key.provider]
        sql = """INSERT INTO broker_sub_accounts (account, service, provider, balance, signer, next_refund, former, former_until)
            VALUES (?, ?, ?, '0', ?, ?, ?, ?) ON CONFLICT (account, service, provider) DO UPDATE SET signer = excluded.signer,
            next_refund = excluded.next_refund, former = excluded.former, former_until = excluded.former_until"""
        until = None if sub.former_until is None else micros(sub.former_until)
        tx.execute(sql, [*where, sub.signer, sub.next_refund, sub.former, until])
        tx.execute("DELETE FROM broker_refunds WHERE account = ? AND service = ? AND provider = ?", where)
        for asked in sub.refunds:
            sql = "INSERT INTO broker_refunds VALUES (?, ?, ?, ?, ?, ?, ?)"
            tx.execute(sql, [*where, asked.index, str(asked.amount), micros(asked.created), micros(asked.release)])


def earned(row: dict[str, Any]) -> Earned:
    """Return a receipt that was paid."""
    standing = Standing(row["standing"])
    return Earned(
        row["receipt"], row["payer"], row["pot"], row["operator"], int(row["price"]), moment(row["time"]), standing, row["batch"]
    )


def find_earned(tx: Transaction, receipt: str, *, own: bool = False) -> Earned | None:
    """Return what a receipt paid; None if it paid nothing. ``own``: nobody else decides on it until this is over."""
    sql = f"SELECT * FROM broker_receipts WHERE receipt = ?{tx.lock if own else ''}"  # noqa: S608  # fixed words
    row = first(tx, sql, receipt)
    return None if row is None else earned(row)


def check_unpaid(tx: Transaction, receipt: str) -> None:
    """Raise ReceiptUsed for a receipt that was paid."""
    used = find_earned(tx, receipt)
    if used is not None:
        raise ReceiptUsed(used.receipt, used.standing.value)


def keep_earned(tx: Transaction, new: Earned) -> None:
    """Keep a receipt that was paid just now. To be called behind ``post``: of two that pay the same one, one waits there.

    On SQLite it raises ReceiptUsed. On PostgreSQL whoever calls it asked before ``post``: an answer here would be one that all wait
    for; and of two that asked at once, the second runs again, and asks again.
    """
    sql, values = f"INSERT INTO {_RECEIPTS} VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _earned_row(new)  # noqa: S608  # fixed words
    if tx.dialect is Dialect.POSTGRES:
        tx.execute(sql, values)
    elif not tx.execute(f"{sql} ON CONFLICT (receipt) DO NOTHING", values).rowcount:
        check_unpaid(tx, new.receipt)
    if new.body:
        job = f"jobs/{Receipt.FromString(new.body).job.hex()}"
        tx.execute("INSERT INTO broker_bodies (receipt, job, body) VALUES (?, ?, ?)", [new.receipt, job, new.body])


def keep_all_earned(tx: Transaction, new: Sequence[Earned]) -> None:
    """Do as ``keep_earned`` does on SQLite, for receipts that are not kept whole."""
    returned = insert_all(tx, _RECEIPTS, list(map(_earned_row, new)), " ON CONFLICT (receipt) DO NOTHING RETURNING receipt")
    for used in {one.receipt for one in new} - {receipt for (receipt,) in returned}:
        check_unpaid(tx, used)


_RECEIPTS: Final = "broker_receipts (receipt, payer, pot, operator, price, time, standing, batch)"


def _earned_row(new: Earned) -> list[object]:
    return [new.receipt, new.payer, str(new.pot), new.operator, str(new.price), micros(new.time), new.standing.value, new.batch]
