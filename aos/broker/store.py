"""Where accounts, holds, ledgers, settlements and the journal live."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from aos.broker.accounts import Balance, Deposit, Hold, Line, Totals, Transfer
from aos.broker.ledger import Books, Change, Key, Ledger, SubAccount
from aos.broker.settlement import Batch, Earned
from aos.v1.broker_pb2 import ReserveRequest
from aos.v1.receipt_pb2 import Receipt

Decided = tuple[Hold, Transfer | None]
Settled = tuple[Hold, Transfer | None, Earned | None]
Deposited = tuple[Deposit, Transfer | None, Ledger | None]


@dataclass(frozen=True, slots=True)
class Reserving:
    """A hold that is asked for. ``decide`` is shown it, if it is there, what the account has, and its sub-account of that key."""

    hold: str
    account: str
    key: Key | None
    decide: Callable[[Hold | None, Balance, SubAccount | None], Decided]


@dataclass(frozen=True, slots=True)
class Settling:
    """A hold that is to end. ``decide`` is shown the hold, and the sub-account that it binds."""

    hold: str
    decide: Callable[[Hold, SubAccount | None], Settled]


class HoldDecisions(Protocol):
    """Reads what is asked about holds, signatures included; nothing of it takes part in a transaction but each ``decide``."""

    def reserving(self, request: ReserveRequest) -> Reserving:
        """Return how to set money aside for a job, once. Raises InvalidField."""
        ...

    def settling(self, hold: str, receipt: Receipt | None) -> Settling:
        """Return how to end a hold, once: paid by the receipt, or released. Raises InvalidField, BadReceipt and BadSignature."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One line as the journal keeps it."""

    sequence: int
    transfer: str
    time: datetime
    line: Line
    cause: str


@dataclass(frozen=True, slots=True)
class Standings:
    """What all accounts have by their rows, at one time, and how far the journal was then."""

    sequence: int
    pots: dict[tuple[str, str], int]
    """By account and pot."""
    bound: dict[str, int]
    """By account: what its holds, and receipts that it may yet lose, say is held."""
    pending: dict[tuple[str, str], int]
    """By account and pot: open refunds."""
    totals: Totals
    """The sums that are kept of all accounts."""


class BrokerStore(Protocol):
    """Keeps money. Each method is one transaction and returns only once it is durable.

    ``decide`` is pure. A store runs it inside the transaction, and may run it again after a conflict. What it returns is kept
    whole: the hold or deposit, the transfer's lines at the journal's end, and the balances that follow from them.
    """

    async def balance(self, account: str) -> Balance | None:
        """Return what an account has; None if there is none."""
        ...

    async def deposit(self, request_id: str, account: str, decide: Callable[[Deposit | None, Ledger | None], Deposited]) -> Balance:
        """Show ``decide`` the deposit that request_id made, if any, and the account's ledger. Returns what the account has then."""
        ...

    async def reserve(
        self, hold: str, account: str, key: Key | None, decide: Callable[[Hold | None, Balance, SubAccount | None], Decided]
    ) -> Hold:
        """Show ``decide`` the hold, if there is one, what the account has, and its sub-account of that key."""
        ...

    async def settle(self, hold: str, decide: Callable[[Hold, SubAccount | None], Settled]) -> Hold:
        """Show ``decide`` the hold, and the sub-account that it binds. Raises HoldNotFound, and ReceiptUsed after a fee."""
        ...

    async def totals(self) -> Totals:
        """Return the sums of all accounts and of all deposits, as they are at one time."""
        ...

    async def entries(self, account: str, *, after: int, limit: int) -> Sequence[Entry]:
        """Return lines behind that sequence, oldest first, of one account or (empty) of all."""
        ...

    async def standings(self) -> Standings:
        """Return what all accounts have, at one time."""
        ...


class LedgerStore(Protocol):
    """Keeps ledgers and settlements, as BrokerStore keeps accounts."""

    async def books(self, account: str) -> Books:
        """Return all that there is of an account."""
        ...

    async def ledgers(self, *, after: str, limit: int) -> Sequence[Books]:
        """Return accounts that have a ledger, in the order of their names, behind that one."""
        ...

    async def move(
        self, account: str, request_id: str, contents: str, decide: Callable[[Books], Change]
    ) -> tuple[Books, Change | None]:
        """Show ``decide`` the books. Returns them as they are then, and the change; none if the request_id made it before.

        Raises RequestIdReused if the request_id, unless it is empty, did something else before.
        """
        ...

    async def spend(
        self,
        account: str,
        receipt: str,
        decide: Callable[[Books, Earned | None], tuple[SubAccount, Transfer | None, Earned]],
    ) -> Earned:
        """Show ``decide`` the books, and what the receipt paid before, if anything."""
        ...

    async def earned(self, receipt: str) -> Earned | None:
        """Return what a receipt paid; None if it paid nothing."""
        ...

    async def dispute(self, receipt: str, decide: Callable[[Earned, Books], tuple[Earned, Transfer | None]]) -> Earned:
        """Show ``decide`` the receipt, and the payer's books. Raises ReceiptNotPaid."""
        ...

    async def seal(
        self,
        *,
        limit: int,
        due: Callable[[Earned], bool],
        decide: Callable[[Sequence[Earned], int], tuple[Batch, list[Earned], Transfer | None]],
    ) -> Batch | None:
        """Show ``decide`` the oldest receipts that are due and the next batch's number. None if nothing is due."""
        ...

    async def batches(self, *, after: int, limit: int) -> Sequence[Batch]:
        """Return batches behind that number, oldest first."""
        ...

    async def batch(self, number: int) -> tuple[Batch, Sequence[Earned]] | None:
        """Return a batch and its receipts, in the order of its tree; None if there is none."""
        ...
