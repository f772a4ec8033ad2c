"""The one way in which balances change: a transfer's lines at the journal's end, the pots that they move, and the sums of all."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Final

from aos.broker.accounts import EXTERNAL, Balance, Line, Pot, Reason, Totals, Transfer, after
from aos.broker.requests import is_operators
from aos.store.broker_rows import balance, micros
from aos.store.reading import first, slots
from aos.store.sql import Dialect, Transaction

LINES: Final = 256
"""Most lines of the journal that one statement writes."""
_OWN: Final = frozenset({Pot.AVAILABLE, Pot.HELD})


def post(tx: Transaction, account: str, transfer: Transfer | None) -> None:
    """Add the transfer to the journal and move the balances; ``account`` is there from then on, whatever moves.

    Sub-accounts that it names must be there, and their account must be this transaction's own. Raises ValueError rather than let a
    pot go below 0. The last thing that a transaction waits for: from here on all others wait for its end.
    """
    lines = () if transfer is None else transfer.lines
    opened = 0
    names = {account, *(line.account for line in lines if line.pot in _OWN)} - {EXTERNAL}
    for name in sorted(names, key=_order) if len(names) > 1 else names:
        mine = [line for line in lines if line.account == name and line.pot in _OWN]
        before = balance(tx, name, own=True)
        if before is not None and not mine:
            continue
        opened += before is None
        kept = after(before or Balance(), mine)
        sql = """INSERT INTO broker_accounts (name, available, held) VALUES (?, ?, ?)
            ON CONFLICT (name) DO UPDATE SET available = excluded.available, held = excluded.held"""
        tx.execute(sql, [name, str(kept.available), str(kept.held)])
    for line in lines:
        if line.pot not in _OWN:
            _move_sub(tx, line)
    if transfer is not None:
        _write(tx, transfer)
    if lines or opened:
        _add_up(tx, lines, opened)


def _order(account: str) -> tuple[bool, str]:
    return is_operators(account), account


def totals(tx: Transaction) -> Totals:
    """Return what all accounts have together, and what came in and went out."""
    row: dict[str, Any] = first(tx, "SELECT * FROM broker_totals") or {}
    pots = Balance(int(row["available"]), int(row["held"]))
    return Totals(int(row["accounts"]), pots, int(row["deposited"]), int(row["in_sub_accounts"]), int(row["paid_out"]))


_TOTALS: Final = ("accounts", "available", "held", "in_sub_accounts", "deposited", "paid_out")
_READ: Final = f"SELECT {', '.join(_TOTALS)} FROM broker_totals"  # noqa: S608  # fixed names
_KEEP: Final = f"UPDATE broker_totals SET {', '.join(f'{one} = ?' for one in _TOTALS)}"  # noqa: S608  # fixed names
_ADD: Final = f"UPDATE broker_totals SET {', '.join(f'{one} = {one} + CAST(? AS numeric)' for one in _TOTALS)}"  # noqa: S608  # as well


def _add_up(tx: Transaction, lines: Iterable[Line], opened: int) -> None:
    available = held = in_sub_accounts = deposited = paid_out = 0
    for line in lines:
        if line.account == EXTERNAL:
            if line.reason is Reason.DEPOSIT:
                deposited -= line.amount
            elif line.reason is Reason.REFUND:
                paid_out += line.amount
        elif line.pot == Pot.AVAILABLE:
            available += line.amount
        elif line.pot == Pot.HELD:
            held += line.amount
        else:
            in_sub_accounts += line.amount
    more = (opened, available, held, in_sub_accounts, deposited, paid_out)
    if tx.dialect is Dialect.POSTGRES:
        tx.execute(_ADD, [str(one) for one in more])
        return
    # added up here, because sums outgrow SQLite's integers
    accounts, *sums = [int(before) + one for before, one in zip(tx.execute(_READ).fetchone(), more, strict=True)]
    tx.execute(_KEEP, [accounts, *map(str, sums)])


def _write(tx: Transaction, transfer: Transfer) -> None:
    time = micros(transfer.time)
    for start in range(0, len(transfer.lines), LINES):
        part = transfer.lines[start : start + LINES]
        values: list[object] = []
        for one in part:
            values += [transfer.id, time, one.account, str(one.pot), str(one.amount), one.reason.value, transfer.cause]
        tx.execute(_insert(len(part)), values)


@cache
def _insert(lines: int) -> str:
    columns = "transfer, time, account, pot, amount, reason, cause"
    return f"INSERT INTO broker_journal ({columns}) VALUES {slots(lines, 7)}"  # noqa: S608  # fixed names and marks


def _move_sub(tx: Transaction, line: Line) -> None:
    service, _, provider = line.pot.partition("/")
    where = [line.account, service, provider]
    row = first(tx, "SELECT balance FROM broker_sub_accounts WHERE account = ? AND service = ? AND provider = ?", *where)
    if row is None or int(row["balance"]) + line.amount < 0:
        raise ValueError(f"{line.account} has no {-line.amount} in {line.pot}")
    sql = "UPDATE broker_sub_accounts SET balance = ? WHERE account = ? AND service = ? AND provider = ?"
    tx.execute(sql, [str(int(row["balance"]) + line.amount), *where])
