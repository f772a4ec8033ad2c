"""Money: what an account has, what a job holds, and every movement as lines that add up to 0. Pure.

Each account has two pots, what it may spend and what is set aside for jobs; a ledger (aos/broker/ledger.py) has one more for each
of its sub-accounts. Money enters from outside, moves between pots, and is never made: the lines of one transfer cancel out. What an
operator has earned is held while it can be disputed. Amounts are integers, in neurons.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from aos.errors import BadReceipt, HoldSettled, InsufficientBalance, RequestIdReused

EXTERNAL: Final = "external"
"""Where deposits come from. No account's name, and the only one below 0."""


class Pot(enum.StrEnum):
    """The parts that every account has. Sub-accounts are further ones, named after service and provider."""

    AVAILABLE = "available"
    HELD = "held"


class Reason(enum.StrEnum):
    """What a line is part of."""

    DEPOSIT = "deposit"
    """Money came from outside."""
    REFUND = "refund"
    """Available money was paid out."""
    TRANSFER = "transfer"
    """Available money went to a sub-account."""
    RETRIEVE = "retrieve"
    """Money of a sub-account, asked for and released, is available again."""
    RESERVE = "reserve"
    """The most that a job may cost was set aside."""
    COMMIT = "commit"
    """A job was paid from what was set aside for it."""
    RELEASE = "release"
    """What a job did not cost was given back."""
    FEE = "fee"
    """Work was paid from a sub-account, nothing being set aside before."""
    SETTLE = "settle"
    """What was earned can no longer be disputed, and may be withdrawn."""
    OVERTURN = "overturn"
    """What was earned was disputed, and went back to who paid it."""


class State(enum.Enum):
    """Whether a hold binds its money."""

    HELD = "held"
    COMMITTED = "committed"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account has in its pots; neither is ever below 0."""

    available: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """What all accounts have together, what was ever put in, and what was ever paid out."""

    accounts: int
    balance: Balance
    deposited: int
    in_sub_accounts: int = 0
    paid_out: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """How much came to one pot, or (negative) went."""

    account: str
    pot: str
    amount: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Transfer:
    """One movement: lines that add up to 0, what caused it, when."""

    id: str
    time: datetime
    cause: str
    lines: tuple[Line, ...]

    def __post_init__(self) -> None:
        if sum(line.amount for line in self.lines):
            raise ValueError(f"the lines of {self.cause} do not add up to 0")


@dataclass(frozen=True, slots=True)
class Hold:
    """An amount set aside for one job. ``receipt`` is the hex digest of the one that it was paid by, else empty."""

    name: str
    account: str
    amount: int
    state: State = State.HELD
    paid: int = 0
    receipt: str = ""
    pot: str = Pot.AVAILABLE
    """Where the amount came from, and what is left of it goes back to: available, or a sub-account."""


@dataclass(frozen=True, slots=True)
class Deposit:
    """Money that came from outside, once."""

    request_id: str
    account: str
    amount: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What a receipt, its signature checked, says about money. ``account`` is the operator's."""

    receipt: str
    account: str
    price: int


@dataclass(frozen=True, slots=True)
class Movement:
    """The name and the time that a new transfer gets."""

    id: str
    time: datetime

    def transfer(self, cause: str, *lines: Line) -> Transfer | None:
        """Return the transfer of the lines that move anything; None if none does."""
        moving = tuple(line for line in lines if line.amount)
        return Transfer(self.id, self.time, cause, moving) if moving else None


def deposit(before: Deposit | None, wanted: Deposit, by: Movement) -> tuple[Deposit, Transfer | None]:
    """Return the deposit and its transfer, none if it was made before. Raises RequestIdReused if it was made otherwise."""
    if before is not None:
        if before != wanted:
            raise RequestIdReused(wanted.request_id, f"deposit of {before.amount} to {before.account}")
        return before, None
    return wanted, by.transfer(
        wanted.request_id,
        Line(EXTERNAL, Pot.AVAILABLE, -wanted.amount, Reason.DEPOSIT),
        Line(wanted.account, Pot.AVAILABLE, wanted.amount, Reason.DEPOSIT),
    )


def reserve(before: Hold | None, free: int, wanted: Hold, by: Movement) -> tuple[Hold, Transfer | None]:
    """Return the hold and its transfer, none if it was made before. ``free`` is what its pot has to give.

    Raises InsufficientBalance, and RequestIdReused if the job's hold was made otherwise: a hold's name is its request_id.
    """
    if before is not None:
        if (before.account, before.pot, before.amount) != (wanted.account, wanted.pot, wanted.amount):
            raise RequestIdReused(wanted.name, f"hold of {before.amount} on {before.account}")
        return before, None
    if free < wanted.amount:
        pot = "" if wanted.pot == Pot.AVAILABLE else wanted.pot
        raise InsufficientBalance(project_of(wanted.account), free, wanted.amount, pot=pot)
    return wanted, by.transfer(
        wanted.name,
        Line(wanted.account, wanted.pot, -wanted.amount, Reason.RESERVE),
        Line(wanted.account, Pot.HELD, wanted.amount, Reason.RESERVE),
    )


def commit(hold: Hold, claim: Claim, by: Movement, *, into: Pot = Pot.AVAILABLE) -> tuple[Hold, Transfer | None]:
    """Return the hold paid from, into that pot of the operator's, the rest given back. The same receipt again changes nothing.

    Raises HoldSettled after another receipt or a release, BadReceipt for a price above the hold.
    """
    if hold.state is State.COMMITTED and hold.receipt == claim.receipt:
        return hold, None
    if hold.state is not State.HELD:
        raise HoldSettled(hold.name, hold.state.value)
    if claim.price > hold.amount:
        raise BadReceipt(job_of(hold.name), "price", f"is {claim.price}, above the {hold.amount} that are held")
    rest = hold.amount - claim.price
    return replace(hold, state=State.COMMITTED, paid=claim.price, receipt=claim.receipt), by.transfer(
        hold.name,
        Line(hold.account, Pot.HELD, -claim.price, Reason.COMMIT),
        Line(claim.account, into, claim.price, Reason.COMMIT),
        Line(hold.account, Pot.HELD, -rest, Reason.RELEASE),
        Line(hold.account, hold.pot, rest, Reason.RELEASE),
    )


def release(hold: Hold, by: Movement) -> tuple[Hold, Transfer | None]:
    """Return the hold with all given back. Again: changes nothing. Raises HoldSettled after a payment."""
    if hold.state is State.RELEASED:
        return hold, None
    if hold.state is State.COMMITTED:
        raise HoldSettled(hold.name, hold.state.value)
    return replace(hold, state=State.RELEASED), by.transfer(
        hold.name,
        Line(hold.account, Pot.HELD, -hold.amount, Reason.RELEASE),
        Line(hold.account, hold.pot, hold.amount, Reason.RELEASE),
    )


def after(balance: Balance, lines: Iterable[Line]) -> Balance:
    """Return what an account has after these lines, all its own; those of sub-accounts are not counted.

    Raises ValueError rather than let a pot go below 0.
    """
    available, held = balance.available, balance.held
    for line in lines:
        if line.pot == Pot.AVAILABLE:
            available += line.amount
        elif line.pot == Pot.HELD:
            held += line.amount
    if available < 0 or held < 0:
        raise ValueError(f"a pot would go below 0: available {available}, held {held}")
    return Balance(available, held)


def account_of(project: str) -> str:
    """Return the account of ``projects/…``."""
    return f"accounts/{project.removeprefix('projects/')}"


def project_of(account: str) -> str:
    """Return the project whose account it is."""
    return f"projects/{account.removeprefix('accounts/')}"


def job_of(hold: str) -> str:
    """Return the job whose hold it is."""
    return f"jobs/{hold.removeprefix('holds/')}"
