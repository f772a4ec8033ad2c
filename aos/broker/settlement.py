"""Receipts that were paid: which can still be disputed, and the batches that the others are settled in. Pure.

A batch is a Merkle sum tree over receipts (aos/verification/sums.py), so that one root stands for all of them and any of them can
be proved against it. While a receipt is open or frozen its money is held at the operator's account; a dispute freezes exactly that
receipt.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from aos.broker.accounts import Claim, Line, Movement, Pot, Reason, Transfer
from aos.errors import ReceiptUsed
from aos.verification import sums
from aos.verification.sums import SumNode

SUM_BYTES: Final = 32

Resolved = tuple["Earned", Transfer | None]


class Standing(enum.StrEnum):
    """What may still become of a receipt's money."""

    OPEN = "open"
    """It can be disputed; its operator cannot withdraw it yet."""
    FROZEN = "frozen"
    """It is disputed; nobody gets it before that is decided."""
    OVERTURNED = "overturned"
    """It went back to who had paid it."""
    PAID = "paid"
    """It is its operator's."""


@dataclass(frozen=True, slots=True)
class Earned:
    """What one receipt paid. ``receipt`` is its digest in hex; ``batch`` is 0 until it is in one."""

    receipt: str
    payer: str
    pot: str
    """Of the payer's account."""
    operator: str
    price: int
    time: datetime
    standing: Standing
    batch: int = 0
    body: bytes = field(default=b"", compare=False, repr=False)
    """The receipt itself, where it is to be kept for a dispute; what is read has none."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Receipts that were settled together."""

    number: int
    root: bytes
    receipts: int
    amount: int
    time: datetime


def earn(claim: Claim, payer: str, pot: str, now: datetime, window: timedelta, *, body: bytes = b"") -> Earned:
    """Return what the receipt pays: the operator's at once, or, with a window, once nobody has disputed it for so long."""
    standing = Standing.OPEN if window else Standing.PAID
    return Earned(claim.receipt, payer, pot, claim.account, claim.price, now, standing, body=body)


def into(window: timedelta) -> Pot:
    """Return the pot of an operator's account that receives what it earns."""
    return Pot.HELD if window else Pot.AVAILABLE


def freeze(earned: Earned, now: datetime, window: timedelta) -> Earned:
    """Return the receipt disputed; again: as it is. Raises ReceiptUsed once it is too late."""
    if earned.standing is Standing.FROZEN:
        return earned
    if earned.standing is not Standing.OPEN:
        raise ReceiptUsed(earned.receipt, earned.standing.value)
    if earned.time + window <= now:
        raise ReceiptUsed(earned.receipt, f"older than the {window.total_seconds():g} s in which it could be disputed")
    return replace(earned, standing=Standing.FROZEN)


def resolve(earned: Earned, home: str, by: Movement, *, upheld: bool) -> Resolved:
    """Return the receipt after its dispute: open again, to be settled next, or its money back with the payer, in the pot ``home``.

    The same again changes nothing. Raises ReceiptUsed if it is not frozen.
    """
    if earned.standing is (Standing.OPEN if upheld else Standing.OVERTURNED):
        return earned, None
    if earned.standing is not Standing.FROZEN:
        raise ReceiptUsed(earned.receipt, earned.standing.value)
    if upheld:
        return replace(earned, standing=Standing.OPEN), None
    return replace(earned, standing=Standing.OVERTURNED), by.transfer(
        f"receipt {earned.receipt}",
        Line(earned.operator, Pot.HELD, -earned.price, Reason.OVERTURN),
        Line(earned.payer, home, earned.price, Reason.OVERTURN),
    )


def due(earned: Earned, now: datetime, window: timedelta) -> bool:
    """Say whether the receipt belongs into the next batch."""
    ripe = earned.standing is Standing.OPEN and earned.time + window <= now
    return not earned.batch and (ripe or earned.standing is Standing.PAID)


def seal(receipts: Sequence[Earned], number: int, by: Movement) -> tuple[Batch, list[Earned], Transfer | None]:
    """Return the batch of these receipts, all due, with what they earned in their operators' hands."""
    held: Counter[str] = Counter()
    for one in receipts:
        if one.standing is Standing.OPEN:
            held[one.operator] += one.price
    lines = [
        line
        for operator, amount in sorted(held.items())
        for line in (
            Line(operator, Pot.HELD, -amount, Reason.SETTLE),
            Line(operator, Pot.AVAILABLE, amount, Reason.SETTLE),
        )
    ]
    root = sums.root(leaves(receipts)).digest
    batch = Batch(number, root, len(receipts), sum(one.price for one in receipts), by.time)
    after = [replace(one, standing=Standing.PAID, batch=number) for one in receipts]
    return batch, after, by.transfer(f"settlement {number}", *lines)


def leaves(receipts: Sequence[Earned]) -> list[SumNode]:
    """Return the leaves of the tree over these receipts: each stands for a digest and its price."""
    return [sums.leaf(bytes.fromhex(one.receipt), one.price) for one in receipts]


def prove(receipts: Sequence[Earned], index: int) -> list[bytes]:
    """Return the neighbours on the way from a receipt to its batch's root, lowest first: of each its digest and its sum."""
    return [one.digest + one.total.to_bytes(SUM_BYTES, "big") for one in sums.proof(leaves(receipts), index)]
