"""The broker's rows: what is read from them, and the one way in which balances change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlite_utils import Database

from aos.broker.accounts import EXTERNAL, Balance, Hold, Line, Pot, Reason, State, Transfer, after
from aos.broker.ledger import Books, Key, Ledger, Refund, Service, SubAccount
from aos.broker.settlement import Earned, Standing
from aos.broker.store import Entry
from aos.errors import ReceiptUsed
from aos.v1.receipt_pb2 import Receipt

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_OWN: Final = frozenset({Pot.AVAILABLE, Pot.HELD})
_TOGETHER: Final = 100
"""Rows of one statement at most: databases limit its values."""


def micros(time: datetime) -> int:
    """Return the time in microseconds since 1970-01-01 UTC."""
    return (time - _EPOCH) // _MICROSECOND


def moment(time: int) -> datetime:
    """Return the time so many microseconds after 1970-01-01 UTC."""
    return _EPOCH + timedelta(microseconds=time)


def one(db: Database, sql: str, *values: object) -> dict[str, Any] | None:
    """Return the first row; None if there is none."""
    # not db.query, whose looks at the statement take longer than the statement
    cursor = db.execute(sql, list(values))
    row = cursor.fetchone()
    return None if row is None else {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def post(db: Database, account: str, transfer: Transfer | None, known: Mapping[str, Balance] | None = None) -> None:
    """Add the transfer to the journal and move the balances; ``account`` is there from then on, whatever moves.

    ``known`` are balances that were read in this transaction already. Sub-accounts that it names must be there. Raises ValueError
    rather than let a pot go below 0.
    """
    lines = () if transfer is None else transfer.lines
    names = sorted({account, *(line.account for line in lines if line.pot in _OWN)} - {EXTERNAL})
    # few statements: each may have to wait for Python's lock
    there, kept = dict(known or {}), list[Sequence[object]]()
    there |= balances(db, [name for name in names if name not in there])
    for name in names:
        mine = [line for line in lines if line.account == name and line.pot in _OWN]
        if mine or name not in there:
            now = after(there.get(name, Balance()), mine)
            kept.append((name, str(now.available), str(now.held)))
    sql = """ ON CONFLICT (name) DO UPDATE SET available = excluded.available, held = excluded.held"""
    _insert(db, "broker_accounts (name, available, held)", kept, sql)
    for line in lines:
        if line.pot not in _OWN:
            _move_sub(db, line)
    if transfer is not None:
        time = micros(transfer.time)
        written = [
            (transfer.id, time, line.account, str(line.pot), str(line.amount), line.reason.value, transfer.cause) for line in lines
        ]
        _insert(db, "broker_journal (transfer, time, account, pot, amount, reason, cause)", written)


def _insert(db: Database, into: str, rows: Sequence[Sequence[object]], otherwise: str = "") -> None:
    """Insert all rows, in their order, in as few statements as can be."""
    for at in range(0, len(rows), _TOGETHER):
        some = rows[at : at + _TOGETHER]
        marks = ", ".join([f"({', '.join('?' * len(some[0]))})"] * len(some))
        sql = f"INSERT INTO {into} VALUES {marks}{otherwise}"  # noqa: S608  # fixed words and marks
        db.execute(sql, [value for row in some for value in row])


def balances(db: Database, names: Sequence[str]) -> dict[str, Balance]:
    """Return what those of these accounts have that there are."""
    found: dict[str, Balance] = {}
    for at in range(0, len(names), _TOGETHER):
        some = names[at : at + _TOGETHER]
        sql = f"SELECT name, available, held FROM broker_accounts WHERE name IN ({', '.join('?' * len(some))})"  # noqa: S608  # marks
        found |= {name: Balance(int(available), int(held)) for name, available, held in db.execute(sql, some).fetchall()}
    return found


def _move_sub(db: Database, line: Line) -> None:
    service, _, provider = line.pot.partition("/")
    where = [line.account, service, provider]
    row = one(db, "SELECT balance FROM broker_sub_accounts WHERE account = ? AND service = ? AND provider = ?", *where)
    if row is None or int(row["balance"]) + line.amount < 0:
        raise ValueError(f"{line.account} has no {-line.amount} in {line.pot}")
    sql = "UPDATE broker_sub_accounts SET balance = ? WHERE account = ? AND service = ? AND provider = ?"
    db.execute(sql, [str(int(row["balance"]) + line.amount), *where])


def balance(db: Database, account: str) -> Balance | None:
    """Return what an account has; None if there is none."""
    return balances(db, [account]).get(account)


def hold(db: Database, name: str) -> Hold | None:
    """Return a hold; None if there is none."""
    row = one(db, "SELECT * FROM broker_holds WHERE name = ?", name)
    if row is None:
        return None
    return Hold(row["name"], row["account"], int(row["amount"]), State(row["state"]), int(row["paid"]), row["receipt"], row["pot"])


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


def ledger(db: Database, account: str) -> Ledger | None:
    """Return an account's ledger; None if there is none."""
    row = one(db, "SELECT * FROM broker_ledgers WHERE account = ?", account)
    if row is None:
        return None
    low, _, high = row["signer"].partition(",")
    return Ledger(row["account"], moment(row["created"]), row["info"], (int(low), int(high)))


def keep_ledger(db: Database, kept: Ledger) -> None:
    """Keep a ledger as it is now."""
    sql = """INSERT INTO broker_ledgers (account, created, info, signer) VALUES (?, ?, ?, ?)
        ON CONFLICT DO UPDATE SET info = excluded.info, signer = excluded.signer"""
    db.execute(sql, [kept.account, micros(kept.created), kept.additional_info, f"{kept.signer[0]},{kept.signer[1]}"])


def books(db: Database, account: str) -> Books:
    """Return all that there is of an account."""
    refunds: dict[Key, list[Refund]] = {}
    for row in db.query("SELECT * FROM broker_refunds WHERE account = ? ORDER BY number", [account]):
        asked = Refund(row["number"], int(row["amount"]), moment(row["created"]), moment(row["release"]))
        refunds.setdefault(Key(Service(row["service"]), row["provider"]), []).append(asked)
    subs: dict[Key, SubAccount] = {}
    for row in db.query("SELECT * FROM broker_sub_accounts WHERE account = ? ORDER BY service, provider", [account]):
        key = Key(Service(row["service"]), row["provider"])
        waiting = tuple(refunds.get(key, ()))
        until = None if row["former_until"] is None else moment(row["former_until"])
        subs[key] = SubAccount(account, key, int(row["balance"]), waiting, row["signer"], row["next_refund"], row["former"], until)
    return Books(account, ledger(db, account), balance(db, account) or Balance(), subs)


def keep_subs(db: Database, subs: Iterable[SubAccount]) -> None:
    """Keep all of the sub-accounts but their balances, which follow from the journal."""
    for sub in subs:
        where = [sub.account, sub.key.service.value, sub.key.provider]
        sql = """INSERT INTO broker_sub_accounts (account, service, provider, balance, signer, next_refund, former, former_until)
            VALUES (?, ?, ?, '0', ?, ?, ?, ?) ON CONFLICT DO UPDATE SET signer = excluded.signer,
            next_refund = excluded.next_refund, former = excluded.former, former_until = excluded.former_until"""
        until = None if sub.former_until is None else micros(sub.former_until)
        db.execute(sql, [*where, sub.signer, sub.next_refund, sub.former, until])
        db.execute("DELETE FROM broker_refunds WHERE account = ? AND service = ? AND provider = ?", where)
        for asked in sub.refunds:
            sql = "INSERT INTO broker_refunds VALUES (?, ?, ?, ?, ?, ?, ?)"
            db.execute(sql, [*where, asked.index, str(asked.amount), micros(asked.created), micros(asked.release)])


def earned(row: dict[str, Any]) -> Earned:
    """Return a receipt that was paid."""
    standing = Standing(row["standing"])
    return Earned(
        row["receipt"], row["payer"], row["pot"], row["operator"], int(row["price"]), moment(row["time"]), standing, row["batch"]
    )


def find_earned(db: Database, receipt: str) -> Earned | None:
    """Return what a receipt paid; None if it paid nothing."""
    row = one(db, "SELECT * FROM broker_receipts WHERE receipt = ?", receipt)
    return None if row is None else earned(row)


def keep_earned(db: Database, new: Earned) -> None:
    """Keep a receipt that was paid just now. Raises ReceiptUsed if it was paid before."""
    sql = """INSERT INTO broker_receipts (receipt, payer, pot, operator, price, time, standing, batch)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (receipt) DO NOTHING"""
    values = [new.receipt, new.payer, str(new.pot), new.operator, str(new.price), micros(new.time), new.standing.value, new.batch]
    if not db.execute(sql, values).rowcount:
        used = find_earned(db, new.receipt) or new
        raise ReceiptUsed(used.receipt, used.standing.value)
    if new.body:
        job = f"jobs/{Receipt.FromString(new.body).job.hex()}"
        db.execute("INSERT INTO broker_bodies (receipt, job, body) VALUES (?, ?, ?)", [new.receipt, job, new.body])
