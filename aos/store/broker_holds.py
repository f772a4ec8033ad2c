"""Holds inside a transaction, whoever's it is: one at a time, or those of many jobs together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from aos.broker.accounts import Balance, Hold, Pot, Transfer, after
from aos.broker.ledger import Key, Service
from aos.broker.settlement import Earned
from aos.broker.store import Reserving, Settling
from aos.errors import AosError, HoldNotFound
from aos.store import broker_rows as rows
from aos.store.broker_journal import post, post_all
from aos.store.reading import insert_all
from aos.store.sql import Dialect, Transaction

_COLUMNS: Final = ("name", "account", "amount", "state", "paid", "receipt", "pot")
_INTO: Final = f"broker_holds ({', '.join(_COLUMNS)})"
_ENDED: Final = "UPDATE broker_holds SET amount = :amount, state = :state, paid = :paid, receipt = :receipt WHERE name = :name"


def reserve(tx: Transaction, asked: Reserving) -> Hold:
    """Make a hold, unless it is there. Raises what ``decide`` raises, before anything is written."""
    there = rows.balances(tx, [asked.account], own=True)
    before = rows.hold(tx, asked.hold)
    sub = None if asked.key is None else rows.books(tx, asked.account).subs.get(asked.key)
    made, transfer = asked.decide(before, there.get(asked.account, Balance()), sub)
    if before is None:
        post(tx, made.account, transfer, there)
        _insert(tx, [made])
    return made


class Reservations:
    """Holds of new jobs on SQLite, decided one behind the other and written together; one of a sub-account's money is alone."""

    def __init__(self, tx: Transaction, accounts: Iterable[str]) -> None:
        self._tx = tx
        self._known = rows.balances(tx, sorted(set(accounts)), own=True)
        self._now = dict(self._known)
        self._moves: list[tuple[str, Transfer | None]] = []
        self._made: list[Hold] = []

    def add(self, asked: Reserving) -> None:
        """Decide on a hold that is not there: its name is its job's, which is new. Raises what ``decide`` raises."""
        has = self._now.get(asked.account, Balance())
        sub = None if asked.key is None else rows.books(self._tx, asked.account).subs.get(asked.key)
        made, transfer = asked.decide(None, has, sub)
        if transfer is not None:
            self._now[asked.account] = after(has, [line for line in transfer.lines if line.account == asked.account])
        self._moves.append((asked.account, transfer))
        self._made.append(made)

    def write(self) -> None:
        """Keep all of them."""
        if self._made:
            post_all(self._tx, self._moves, self._known)
            _insert(self._tx, self._made)


def settle(tx: Transaction, asked: Settling) -> Hold:
    """End a hold. Raises HoldNotFound, ReceiptUsed after a fee, and what ``decide`` raises."""
    before = rows.hold(tx, asked.hold, own=True)
    if before is None:
        raise HoldNotFound(asked.hold)
    sub = None if before.pot == Pot.AVAILABLE else rows.books(tx, before.account, own=True).subs.get(_key(before.pot))
    settled, transfer, earned = asked.decide(before, sub)
    if settled == before:
        return settled
    if earned is not None and tx.dialect is Dialect.POSTGRES:
        rows.check_unpaid(tx, earned.receipt)
    post(tx, settled.account, transfer)
    if earned is not None:
        rows.keep_earned(tx, earned)
    tx.execute(_ENDED, rows.hold_row(settled))
    return settled


def settle_all(tx: Transaction, asked: Sequence[Settling]) -> list[bool]:
    """End holds of available money on SQLite, together, and say which have ended. Others are as they were, to be ended alone.

    Raises ReceiptUsed if a receipt has paid before: then nothing of this transaction may be kept.
    """
    there = rows.holds(tx, [one.hold for one in asked])
    moves: list[tuple[str, Transfer | None]] = []
    paid: list[Earned] = []
    changed: dict[str, Hold] = {}
    done: list[bool] = []
    for one in asked:
        before = changed.get(one.hold) or there.get(one.hold)
        if before is None or before.pot != Pot.AVAILABLE:
            done.append(False)
            continue
        try:
            settled, transfer, earned = one.decide(before, None)
        except AosError:
            done.append(False)
            continue
        done.append(True)
        if settled == before:
            continue
        moves.append((settled.account, transfer))
        paid += [] if earned is None else [earned]
        changed[settled.name] = settled
    if changed:
        post_all(tx, moves)
        rows.keep_all_earned(tx, paid)
        for hold in changed.values():
            tx.execute(_ENDED, rows.hold_row(hold))
    return done


def _insert(tx: Transaction, made: Sequence[Hold]) -> None:
    written = map(rows.hold_row, made)
    insert_all(tx, _INTO, [[row[name] for name in _COLUMNS] for row in written])


def _key(pot: str) -> Key:
    service, _, provider = pot.partition("/")
    return Key(Service(service), provider)
