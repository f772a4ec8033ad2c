"""A ledger and its sub-accounts: who may move which part of an account's money where, and when. Pure.

An account's money is available, held for jobs, or in sub-accounts, one a provider and service. It goes to a sub-account at once,
and comes back in two steps: it is asked for, and after the lock time released. The contracts in aos/chain have the same rules, and
tests/contracts plays the same moves on both. Amounts are integers, in neurons.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from aos.broker.accounts import EXTERNAL, Balance, Line, Movement, Pot, Reason, Transfer, project_of
from aos.errors import (
    AccountNotFound,
    AosError,
    InsufficientBalance,
    LedgerExists,
    LedgerLimit,
    LedgerNotEmpty,
    LedgerNotFound,
    RequestIdReused,
    SignerChangedRecently,
    SignerNotAcknowledged,
)


class Service(enum.StrEnum):
    """What a sub-account pays for."""

    INFERENCE = "inference"
    FINE_TUNING = "fine-tuning"


@dataclass(frozen=True, slots=True)
class Key:
    """Which sub-account of a ledger. ``provider`` is an address in lower case."""

    service: Service
    provider: str

    @property
    def pot(self) -> str:
        """Its name in the journal."""
        return f"{self.service.value}/{self.provider}"


@dataclass(frozen=True, slots=True)
class Refund:
    """An amount on its way back. ``release`` was fixed when it was asked for, whatever the lock time is by now."""

    index: int
    amount: int
    created: datetime
    release: datetime


@dataclass(frozen=True, slots=True)
class SubAccount:
    """What an account has with one provider."""

    account: str
    key: Key
    balance: int = 0
    refunds: tuple[Refund, ...] = ()
    """Open ones, oldest first; a part of the balance."""
    signer: str = ""
    """The address whose signatures the owner takes for the provider's; empty: nobody's."""
    next_refund: int = 0
    former: str = ""
    """The signer before, who is still good until ``former_until``, so that nobody gets out of paying by a change."""
    former_until: datetime | None = None

    @property
    def pending(self) -> int:
        """What is on its way back."""
        return sum(one.amount for one in self.refunds)

    @property
    def free(self) -> int:
        """What can be set aside for new work."""
        return self.balance - self.pending

    def claimable(self, now: datetime) -> int:
        """Return what retrieving would release now."""
        return sum(one.amount for one in self.refunds if one.release <= now)


@dataclass(frozen=True, slots=True)
class Ledger:
    """That an account's owner has a ledger, and what they say of themselves."""

    account: str
    created: datetime
    additional_info: str = ""
    signer: tuple[int, int] = (0, 0)
    """The documented `inferenceSigner`: any delegated key, in two 256-bit numbers."""


EMPTY: Final = Balance()


@dataclass(frozen=True, slots=True)
class Books:
    """All that there is of one account."""

    account: str
    ledger: Ledger | None = None
    balance: Balance = EMPTY
    subs: Mapping[Key, SubAccount] = field(default_factory=dict[Key, SubAccount])

    @property
    def total(self) -> int:
        """All that has not been spent."""
        return self.balance.available + self.balance.held + sum(sub.balance for sub in self.subs.values())

    def sub(self, key: Key) -> SubAccount:
        """Return the sub-account. Raises AccountNotFound."""
        if key not in self.subs:
            raise AccountNotFound(f"{self.account}/{key.pot}")
        return self.subs[key]

    def owned(self) -> Ledger:
        """Return the ledger. Raises LedgerNotFound."""
        if self.ledger is None:
            raise LedgerNotFound(self.account)
        return self.ledger


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What retrieving did with one provider. ``refused`` is why it did not ask for the rest; it keeps no other from theirs."""

    provider: str
    released: int = 0
    requested: int = 0
    refused: AosError | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of the books. Balances follow from the transfer's lines alone; ``subs`` says the rest of what they say."""

    ledger: Ledger | None
    subs: tuple[SubAccount, ...] = ()
    transfer: Transfer | None = None
    retrieved: tuple[Retrieved, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The limits of ledgers."""

    lock: timedelta
    sub_accounts: int
    """Most of one account and service."""
    refunds: int
    """Most open ones of one sub-account."""


DELETED: Final = "ledger deleted"


def add(books: Books, amount: int, wanted: Ledger, by: Movement) -> Change:
    """Return the new ledger with its first deposit. Raises LedgerExists."""
    if books.ledger is not None:
        raise LedgerExists(books.account)
    return Change(wanted, transfer=_deposited(books.account, amount, by))


def deposit(books: Books, amount: int, by: Movement) -> Change:
    """Return the ledger with money from outside. Raises LedgerNotFound."""
    return Change(books.owned(), transfer=_deposited(books.account, amount, by))


def refund(books: Books, amount: int, by: Movement) -> Change:
    """Return the ledger with an available amount paid out, at once. Raises LedgerNotFound and InsufficientBalance."""
    kept = books.owned()
    _covered(books, books.balance.available, amount, Pot.AVAILABLE)
    return Change(kept, transfer=by.transfer("refund", *_moved(books.account, Pot.AVAILABLE, amount, EXTERNAL, Reason.REFUND)))


def transfer(books: Books, key: Key, amount: int, by: Movement, rules: Rules) -> Change:
    """Return the sub-account, made if it was not there, with so much more to spend.

    What is on its way back is kept before anything new is sent. Raises LedgerNotFound, LedgerLimit and InsufficientBalance.
    """
    kept = books.owned()
    sub = books.subs.get(key)
    if sub is None:
        there = sum(one.service is key.service for one in books.subs)
        if there >= rules.sub_accounts:
            raise LedgerLimit(books.account, f"{key.service.value} sub-accounts", rules.sub_accounts)
        sub = SubAccount(books.account, key)
    sent = amount - min(amount, sub.pending)
    _covered(books, books.balance.available, sent, Pot.AVAILABLE)
    after = replace(sub, refunds=_shortened(sub.refunds, amount - sent))
    lines = _moved(books.account, Pot.AVAILABLE, sent, books.account, Reason.TRANSFER, into=key.pot)
    return Change(kept, (after,), by.transfer(f"transfer to {key.pot}", *lines))


def retrieve(books: Books, keys: Sequence[Key], by: Movement, rules: Rules) -> Change:
    """Return the sub-accounts with what is due released, and all the rest asked for. Raises LedgerNotFound.

    Of each provider by itself: one that is unknown, or has as many open refunds as it may have, keeps nobody else from theirs.
    """
    kept = books.owned()
    subs: dict[Key, SubAccount] = {}
    lines: list[Line] = []
    done: list[Retrieved] = []
    for key in keys:
        sub = subs.get(key) or books.subs.get(key)
        if sub is None:
            done.append(Retrieved(key.provider, refused=AccountNotFound(f"{books.account}/{key.pot}")))
            continue
        released = sub.claimable(by.time)
        lines += _moved(books.account, key.pot, released, books.account, Reason.RETRIEVE, into=Pot.AVAILABLE)
        waiting = tuple(one for one in sub.refunds if one.release > by.time)
        rest, refused = sub.free, None
        if rest and len(waiting) >= rules.refunds:
            rest, refused = 0, LedgerLimit(f"{books.account}/{key.pot}", "open refunds", rules.refunds)
        sub = replace(sub, balance=sub.balance - released, refunds=waiting)
        if rest:
            asked = Refund(sub.next_refund, rest, by.time, by.time + rules.lock)
            sub = replace(sub, refunds=(*waiting, asked), next_refund=sub.next_refund + 1)
        subs[key] = sub
        done.append(Retrieved(key.provider, released, rest, refused))
    return Change(kept, tuple(subs.values()), by.transfer("retrieve", *lines), tuple(done))


def acknowledge(books: Books, key: Key, signer: str, now: datetime, rules: Rules) -> Change:
    """Return the sub-account with the provider's signer taken; the one before stays good for the lock time.

    Raises AccountNotFound, and SignerChangedRecently while there is still one before.
    """
    sub = books.sub(key)
    if sub.signer == signer:
        return Change(books.owned(), (sub,))
    if not sub.signer:
        return Change(books.owned(), (replace(sub, signer=signer),))
    if sub.former_until is not None and now < sub.former_until:
        raise SignerChangedRecently(key.provider, sub.former, retry_after=(sub.former_until - now).total_seconds())
    return Change(books.owned(), (replace(sub, signer=signer, former=sub.signer, former_until=now + rules.lock),))


def withdraw(books: Books, amount: int, by: Movement) -> Change:
    """Return an operator's account, which has no ledger, with an available amount paid out. Raises InsufficientBalance."""
    _covered(books, books.balance.available, amount, Pot.AVAILABLE)
    return Change(None, transfer=by.transfer("refund", *_moved(books.account, Pot.AVAILABLE, amount, EXTERNAL, Reason.REFUND)))


def delete(books: Books, by: Movement) -> Change:
    """Return no ledger, its money paid out. Raises LedgerNotFound, and LedgerNotEmpty for money that is not available."""
    books.owned()
    bound = books.total - books.balance.available
    if bound:
        raise LedgerNotEmpty(books.account, bound)
    paid = _moved(books.account, Pot.AVAILABLE, books.balance.available, EXTERNAL, Reason.REFUND)
    return Change(None, transfer=by.transfer(DELETED, *paid))


def spend(sub: SubAccount, signer: str, amount: int, now: datetime) -> SubAccount:
    """Return the sub-account without a fee: its free part goes first, then what is on its way back, newest first.

    Raises SignerNotAcknowledged unless its owner has acknowledged ``signer``, and InsufficientBalance.
    """
    check_signer(sub, signer, now)
    if amount > sub.balance:
        raise InsufficientBalance(project_of(sub.account), sub.balance, amount, pot=sub.key.pot)
    return replace(sub, refunds=_shortened(sub.refunds, max(0, amount - sub.free)))


def check_signer(sub: SubAccount, signer: str, now: datetime) -> None:
    """Raise SignerNotAcknowledged unless the sub-account's owner takes the signer's word for the provider's."""
    still = sub.former_until is not None and now < sub.former_until and sub.former == signer
    if not sub.signer or (sub.signer != signer and not still):
        raise SignerNotAcknowledged(sub.account, sub.key.provider, signer)


def check_again(request_id: str, before: str, wanted: str) -> None:
    """Raise RequestIdReused if what the request_id did before is not what it is to do now."""
    if before != wanted:
        raise RequestIdReused(request_id, before)


def _deposited(account: str, amount: int, by: Movement) -> Transfer | None:
    return by.transfer("deposit", *_moved(EXTERNAL, Pot.AVAILABLE, amount, account, Reason.DEPOSIT))


def _moved(account: str, pot: str, amount: int, to: str, reason: Reason, *, into: str = Pot.AVAILABLE) -> tuple[Line, Line]:
    return Line(account, pot, -amount, reason), Line(to, into, amount, reason)


def _covered(books: Books, free: int, amount: int, pot: str) -> None:
    if free < amount:
        raise InsufficientBalance(project_of(books.account), free, amount, pot=pot)


def _shortened(refunds: tuple[Refund, ...], amount: int) -> tuple[Refund, ...]:
    """Return the refunds with so much less of them, newest first; one of which nothing is left is gone."""
    kept: list[Refund] = []
    for one in reversed(refunds):
        taken = min(amount, one.amount)
        amount -= taken
        if taken < one.amount:
            kept.append(replace(one, amount=one.amount - taken))
    return tuple(reversed(kept))
