"""Settlement on a chain: which receipts go into which batch, and what is known of it. Pure.

A batch is one provider's; a line of it is one user's receipts, under the root of a sum tree (aos/verification/sums.py). Its nonce
is good once on the chain, however often the batch is sent: that is why no receipt is paid twice.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aos.broker.accounts import EXTERNAL, Line, Movement, Pot, Reason, Transfer
from aos.broker.settlement import Earned, leaves
from aos.v1.receipt_pb2 import Receipt
from aos.v1.requests_pb2 import SignedRequest
from aos.verification import sums
from aos.verification.sums import SumNode

LINES: Final = 64
"""Users of one batch at most: the contract's limit."""
RECEIPTS: Final = 10_000
"""Receipts of one batch at most."""


class Progress(enum.StrEnum):
    """How far a batch is."""

    MADE = "made"
    """It is to be sent, or was, and is not on the chain as far as is known."""
    SETTLED = "settled"
    """It is on the chain, deep enough."""
    RELEASED = "released"
    """It came too late and never can be settled: its receipts go into other batches."""


class Fate(enum.StrEnum):
    """What the chain's disputes did to a receipt."""

    NONE = ""
    DISPUTED = "disputed"
    ANSWERED = "answered"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True)
class ChainLine:
    """One user's receipts in a batch. ``user`` is the wallet that pays for ``account``; ``refused`` is the contract's reason."""

    account: str
    user: str
    root: bytes
    total: int
    count: int
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Drafted:
    """A batch before it has a number, with the receipts of each line, in the order of the line's tree."""

    provider: str
    nonce: int
    deadline: int
    since: int
    lines: tuple[ChainLine, ...]
    receipts: tuple[tuple[Earned, ...], ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A batch as the chain has it."""

    transaction: str
    block: int
    closes_at: int
    refused: Mapping[int, str] = field(default_factory=dict[int, str])
    """The contract's reason, by the line's number."""


@dataclass(frozen=True, slots=True)
class ChainBatch:
    """A batch. Times are seconds since 1970, in the chain's clock."""

    number: int
    identity: str
    """The contract's name for it, 64 hex digits."""
    provider: str
    nonce: int
    deadline: int
    since: int
    """It is in no block before this one."""
    attempt: int
    """Rises when a transaction of it failed: each has its own key in the outbox."""
    progress: Progress
    lines: tuple[ChainLine, ...]
    transaction: str = ""
    block: int = 0
    closes_at: int = 0


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a receipt is on the chain, or on its way there."""

    batch: ChainBatch
    line: int
    leaf: int
    fate: Fate
    siblings: tuple[SumNode, ...]


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far events were read. The hash tells whether that block still is the chain's."""

    block: int
    hash: str


@dataclass(frozen=True, slots=True)
class Dispute:
    """One event about one receipt."""

    identity: str
    line: int
    leaf: int
    fate: Fate
    block: int


@dataclass(frozen=True, slots=True)
class Claims:
    """What of a batch can be claimed now, in neurons. ``done``: nothing ever can any more, as of a block that is deep enough."""

    amount: int
    done: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """What answers a dispute: the receipt, its digest in hex, and what its user signed for it."""

    digest: str
    receipt: Receipt
    request: SignedRequest


@dataclass(frozen=True, slots=True)
class Funds:
    """What a user's sub-account with a provider can pay now; 0 while the provider's signer is not acknowledged."""

    user: str
    spendable: int


@dataclass(frozen=True, slots=True)
class Wallet:
    """What a user has on the chain, in neurons."""

    available: int
    total: int


@dataclass(frozen=True, slots=True)
class Counted:
    """What became of an account's receipts: how many, and neurons."""

    waiting: int = 0
    sent: int = 0
    settled: int = 0
    paid: int = 0


@dataclass(frozen=True, slots=True)
class Site:
    """Where a chain's contracts are."""

    chain_id: int
    ledger: str
    inference: str
    fine_tuning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSettings:
    """How receipts are settled on a chain. Raises ValueError, naming the setting, for a value that cannot be."""

    payers: Mapping[str, str]
    """By account: the wallet that pays for it on the chain, unless its owner bound another. The administrator's to say.

    Receipts of accounts without a wallet stay off it.
    """
    seconds: float = 5.0
    """From one round to the next."""
    receipts: int = RECEIPTS
    """Most receipts of one batch."""
    valid_seconds: int = 86_400
    """How long a batch can be settled once it was signed; then its receipts go into another."""

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= 86_400:  # noqa: PLR2004  # a day
            raise ValueError(f"seconds: must be above 0 and at most a day, not {self.seconds}")
        if not 1 <= self.receipts <= RECEIPTS:
            raise ValueError(f"receipts: must be from 1 to {RECEIPTS}, not {self.receipts}")
        if self.valid_seconds < 1:
            raise ValueError(f"valid_seconds: must be above 0, not {self.valid_seconds}")


def draft(
    receipts: Sequence[Earned], funds: Mapping[str, Funds], has: int, *, provider: str, nonce: int, deadline: int, since: int
) -> Drafted | None:
    """Return a batch of the oldest receipts that each account can pay; None if nobody can pay any.

    ``funds`` are by account, ``has`` is what the provider's account here still has of what it earned: the rest was paid out.
    """
    left, mine, short = {account: one.spendable for account, one in funds.items()}, dict[str, list[Earned]](), set[str]()
    for one in receipts:
        account = one.payer
        if account in short or (account not in mine and len(mine) >= LINES):
            continue
        if account not in left or one.price > min(left[account], has):
            short.add(account)  # in order: what is older is paid first
            continue
        left[account], has = left[account] - one.price, has - one.price
        mine.setdefault(account, []).append(one)
    if not mine:
        return None
    lines: list[ChainLine] = []
    for account, taken in mine.items():
        top = sums.root(leaves(taken))
        lines.append(ChainLine(account, funds[account].user, top.digest, top.total, len(taken)))
    return Drafted(provider, nonce, deadline, since, tuple(lines), tuple(tuple(taken) for taken in mine.values()))


def leave(number: int, operator: str, amount: int, by: Movement) -> Transfer | None:
    """Return the transfer of what the chain pays out of the operator's account; a negative amount comes back."""
    return by.transfer(
        f"chain batch {number}",
        Line(operator, Pot.AVAILABLE, -amount, Reason.REFUND),
        Line(EXTERNAL, Pot.AVAILABLE, amount, Reason.REFUND),
    )
