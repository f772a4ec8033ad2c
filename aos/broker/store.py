"""Where accounts, holds and the journal live."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from aos.broker.accounts import Balance, Deposit, Hold, Line, Totals, Transfer

Decided = tuple[Hold, Transfer | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line as the journal keeps it."""

    sequence: int
    transfer: str
    time: datetime
    line: Line
    cause: str


class BrokerStore(Protocol):
    """Keeps money. Each method is one transaction and returns only once it is durable.

    ``decide`` is pure. A store runs it inside the transaction, and may run it again after a conflict. What it returns is kept
    whole: the hold or deposit, the transfer's lines at the journal's end, and the balances that follow from them.
    """

    async def balance(self, account: str) -> Balance | None:
        """Return what an account has; None if there is none."""
        ...

    async def deposit(
        self, request_id: str, account: str, decide: Callable[[Deposit | None], tuple[Deposit, Transfer | None]]
    ) -> Balance:
        """Show ``decide`` the deposit that request_id made, if any. Returns what the account has then."""
        ...

    async def reserve(self, hold: str, account: str, decide: Callable[[Hold | None, Balance], Decided]) -> Hold:
        """Show ``decide`` the hold, if there is one, and what the account has."""
        ...

    async def settle(self, hold: str, decide: Callable[[Hold], Decided]) -> Hold:
        """Show ``decide`` the hold. Raises HoldNotFound."""
        ...

    async def totals(self) -> Totals:
        """Return the sums of all accounts and of all deposits, as they are at one time."""
        ...

    async def entries(self, account: str, *, after: int, limit: int) -> Sequence[Entry]:
        """Return lines behind that sequence, oldest first, of one account or (empty) of all."""
        ...
