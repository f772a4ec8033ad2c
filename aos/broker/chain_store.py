"""What settlement needs of a chain, and where its batches live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from aos.broker.accounts import Movement
from aos.broker.chain import (
    ChainBatch,
    Claims,
    Counted,
    Cursor,
    Dispute,
    Drafted,
    Evidence,
    Fate,
    Found,
    Funds,
    Placed,
    Progress,
    Site,
    Wallet,
)
from aos.broker.settlement import Earned


@dataclass(frozen=True, slots=True)
class Spent:
    """What sending took since the process began: gas, what that cost in neurons, and how often it was refused."""

    gas: int = 0
    fees: int = 0
    refused: int = 0


class SettlementChain(Protocol):
    """A chain, for as long as it answers. What it says is as of the last block that is deep enough, unless it says otherwise.

    Each method raises ServiceUnavailable if the chain does not answer.
    """

    @property
    def site(self) -> Site:
        """Where the contracts are."""
        ...

    @property
    def spent(self) -> Spent:
        """What sending took."""
        ...

    @property
    def providers(self) -> Sequence[str]:
        """Whose receipts can be signed for here: addresses in lower case."""
        ...

    def identity(self, provider: str, nonce: int) -> str:
        """Return the contract's name for this provider's batch of this nonce."""
        ...

    async def height(self) -> int:
        """Return the number of the last block that is deep enough."""
        ...

    async def time(self) -> int:
        """Return that block's time."""
        ...

    async def funds(self, user: str, provider: str) -> Funds:
        """Return what a user can pay a provider, as of the latest block."""
        ...

    async def wallet(self, user: str) -> Wallet:
        """Return what a user has, as of the latest block."""
        ...

    async def send(self, batch: ChainBatch) -> bool:
        """Send the batch, or go on waiting for it. False: this attempt's transaction is in a block, and was refused there.

        Raises ChainRefused if nothing was sent, and TransactionPending.
        """
        ...

    async def resume(self) -> None:
        """Finish what was sent and has no batch any more, so that nothing waits behind it. Raises as ``send`` does."""
        ...

    async def has(self, batch: ChainBatch) -> bool:
        """Return whether the chain has the batch, by its state alone."""
        ...

    async def find(self, batch: ChainBatch) -> Found | None:
        """Return the batch as the chain has it, by its state, and what its events say of it; None if it has none."""
        ...

    async def disputes(self, cursor: Cursor | None) -> tuple[Cursor, Sequence[Dispute]]:
        """Return what happened behind the cursor, and how far that is. A cursor before the given one: begin again behind that."""
        ...


class DutyChain(SettlementChain, Protocol):
    """A chain on which claims and answers can be sent, too. Sending raises as ``SettlementChain.send`` does."""

    async def claims(self, batch: ChainBatch) -> Claims:
        """Return what of a settled batch can be claimed."""
        ...

    async def claim(self, batch: ChainBatch, attempt: int) -> None:
        """Claim it. Each attempt is one transaction, however often it is asked for."""
        ...

    async def answer_by(self, identity: str, line: int, leaf: int) -> int | None:
        """Return until when a dispute can be answered, seconds since 1970; None if it is not open in the latest block."""
        ...

    async def answer(self, placed: Placed, evidence: Evidence, attempt: int) -> None:
        """Answer the dispute of a receipt. Each attempt is one transaction, however often it is asked for."""
        ...


class DutyStore(Protocol):
    """Keeps what is still to be claimed and answered, and what answers it. Times are seconds since 1970, in the chain's clock."""

    async def unclaimed(self, now: int, limit: int) -> Sequence[tuple[ChainBatch, int]]:
        """Return settled batches whose window is over and which it is time to look at, and how often each was claimed before."""
        ...

    async def claimed(self, number: int, *, forget_at: int) -> None:
        """Keep that nothing of a batch is left to claim, and from when on nothing is needed that answers its disputes."""
        ...

    async def claim_again(self, number: int, *, at: int, attempts: int) -> None:
        """Keep when to look at a batch again."""
        ...

    async def disputed(self, now: int, limit: int) -> Sequence[tuple[str, int, int, int]]:
        """Return open disputes, oldest first, which it is time to look at: batch, line, leaf, and answers sent before."""
        ...

    async def answer_again(self, identity: str, line: int, leaf: int, *, at: int, attempts: int) -> None:
        """Keep when to look at a dispute again."""
        ...

    async def given_up(self, identity: str, line: int, leaf: int) -> None:
        """Keep that a dispute cannot be answered."""
        ...

    async def evidence(self, identity: str, line: int, leaf: int) -> Evidence | None:
        """Return what answers a dispute; None if that is not kept."""
        ...

    async def forget(self, now: int, before: int) -> None:
        """Forget what no dispute can need any more: of batches whose time has come, and requests that ended before ``before`` and
        were never paid for.
        """
        ...


class ChainFigures(Protocol):
    """What there is, for metrics."""

    async def counts(self) -> tuple[Mapping[Progress, int], int, Mapping[Fate, int]]:
        """Return batches by progress, settled ones of which something is left to claim, and disputed receipts by their fate."""
        ...

    async def oldest(self, operators: Sequence[str], payers: Sequence[str]) -> datetime | None:
        """Return when the oldest receipt of these operators and payers was paid that is not settled; None if all are."""
        ...


class ChainStore(Protocol):
    """Keeps which receipt is in which batch. Each method is one transaction and returns only once it is durable."""

    async def turn(self, holder: str, seconds: float) -> bool:
        """Say whether this broker is the one to settle, for so long from now. False while it is another's turn."""
        ...

    async def leave(self, holder: str) -> None:
        """Let another broker settle."""
        ...

    async def waiting(self, provider: str, payers: Sequence[str], limit: int) -> Sequence[Earned]:
        """Return paid receipts of these accounts that are in no batch, oldest first."""
        ...

    async def make(self, drafted: Drafted, identity: str, by: Movement) -> ChainBatch | None:
        """Keep a batch; its money leaves the provider's account here. None, and nothing is kept, if that has too little."""
        ...

    async def batches(self, progress: Progress, limit: int) -> Sequence[ChainBatch]:
        """Return batches that are so far; of settled ones the latest first, of others the oldest."""
        ...

    async def settled(self, batch: ChainBatch, found: Found, by: Movement) -> None:
        """Keep that the chain has it. Receipts of refused lines wait again, and their money comes back."""
        ...

    async def unsettled(self, batch: ChainBatch) -> None:
        """Keep that the chain has it not, after all, or that what was sent failed: it is to be sent anew."""
        ...

    async def release(self, batch: ChainBatch, by: Movement) -> None:
        """Keep that it can never be settled: its receipts wait again, and their money comes back."""
        ...

    async def bound(self) -> Mapping[str, str]:
        """Return the wallets that accounts' owners bound, by account."""
        ...

    async def bind(self, account: str, wallet: str) -> None:
        """Keep the account's wallet; empty: that it has none."""
        ...

    async def placed(self, receipt: str) -> Placed | None:
        """Return where a receipt is; None if it is in no batch."""
        ...

    async def counted(self, account: str) -> Counted:
        """Return what became of an account's receipts."""
        ...

    async def paid(self, account: str, start: datetime | None, end: datetime | None, limit: int) -> Sequence[ChainBatch]:
        """Return the latest batches with receipts of the account, as its payer or as their provider, that were paid in that time.

        Only lines of the account are in them.
        """
        ...

    async def cursor(self) -> Cursor | None:
        """Return how far events were read."""
        ...

    async def follow(self, cursor: Cursor, disputes: Sequence[Dispute]) -> None:
        """Keep what happened and how far that was read; what was kept of later blocks is forgotten."""
        ...
