"""The one way in which balances change: a transfer's lines at the journal's end, the pots that they move, and the sums of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from aos.broker.accounts import EXTERNAL, Balance, Line, Pot, Reason, Totals, Transfer, after
from aos.broker.requests import is_operators
from aos.store.broker_rows import balances, micros
from aos.store.reading import first, insert_all
from aos.store.sql import Dialect, Transaction

_OWN: Final = frozenset({Pot.AVAILABLE, Pot.HELD})
_HAVE: Final = " ON CONFLICT (name) DO UPDATE SET available = excluded.available, held = excluded.held"


def post(tx: Transaction, account: str, transfer: Transfer | None, known: Mapping[str, Balance] | None = None) -> None:
    """Add the transfer to the journal and move the balances; ``account`` is there from then on, whatever moves.

    ``known`` are balances that this transaction read as its own already. Sub-accounts that it names must be there, and their
    account must be this transaction's own. Raises ValueError rather than let a pot go below 0. The last thing that a transaction
    waits for: from here on all others wait for its end.
    """
    post_all(tx, [(account, transfer)], known)


def post_all(tx: Transaction, moves: Sequence[tuple[str, Transfer | None]], known: Mapping[str, Balance] | None = None) -> None:
    """Do as ``post`` does for each account and transfer, one behind the other, in few statements."""
    lines = [line for _, transfer in moves if transfer is not None for line in transfer.lines]
    names = ({account for account, _ in moves} | {line.account for line in lines if line.pot in _OWN}) - {EXTERNAL}
    there = dict(known or {})
    there |= balances(tx, sorted(names - there.keys(), key=_order), own=True)
    now = {name: Balance() for name in names - there.keys()}
    opened = len(now)
    for _, transfer in moves:
        own = [line for line in transfer.lines if line.pot in _OWN and line.account != EXTERNAL] if transfer is not None else ()
        for name in dict.fromkeys(line.account for line in own):
            before = now[name] if name in now else there[name]
            now[name] = after(before, [line for line in own if line.account == name])
    kept = [(name, str(one.available), str(one.held)) for name, one in sorted(now.items())]
    insert_all(tx, "broker_accounts (name, available, held)", kept, _HAVE)
    for line in lines:
        if line.pot not in _OWN:
            _move_sub(tx, line)
    insert_all(
        tx,
        "broker_journal (transfer, time, account, pot, amount, reason, cause)",
        [
            (transfer.id, micros(transfer.time), one.account, str(one.pot), str(one.amount), one.reason.value, transfer.cause)
            for _, transfer in moves
            if transfer is not None
            for one in transfer.lines
        ],
    )
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


def _move_sub(tx: Transaction, line: Line) -> None:
    service, _, provider = line.pot.partition("/")
    where = [line.account, service, provider]
    row = first(tx, "SELECT balance FROM broker_sub_accounts WHERE account = ? AND service = ? AND provider = ?", *where)
    if row is None or int(row["balance"]) + line.amount < 0:
        raise ValueError(f"{line.account} has no {-line.amount} in {line.pot}")
    sql = "UPDATE broker_sub_accounts SET balance = ? WHERE account = ? AND service = ? AND provider = ?"
    tx.execute(sql, [str(int(row["balance"]) + line.amount), *where])
