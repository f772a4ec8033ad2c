"""Where an account's wallets, the nonces that they used, and the signatures over answers live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from aos.v1.requests_pb2 import SignedAnswer


class WalletStore(Protocol):
    """Each method is one transaction, and returns only once it is durable."""

    async def authorize(self, account: str, wallet: str, *, most: int) -> Sequence[str]:
        """Keep a wallet of an account, and return all of them. Raises LedgerLimit beyond ``most``."""
        ...

    async def revoke(self, account: str, wallet: str) -> Sequence[str]:
        """Forget a wallet of an account, and return those that are left."""
        ...

    async def wallets(self, account: str) -> Sequence[str]:
        """Return an account's wallets, in order."""
        ...

    async def use(self, account: str, wallet: str, nonce: int, *, expiry: int, now: int, body: bytes = b"") -> None:
        """Keep that the wallet used the nonce, until ``expiry``; times are in seconds since 1970. ``body`` is kept for disputes.

        Raises WalletNotAuthorized, and RequestReplayed if it did before; of two at once, one does.
        """
        ...

    async def ran(self, wallet: str, nonce: int, job: str) -> None:
        """Keep which job a kept request became. Nothing happens if it is not kept, or became another."""
        ...


class AnswerStore(Protocol):
    """Each method is one transaction. What is kept outlives any end of the process, but maybe not a loss of power."""

    async def keep(self, answer: SignedAnswer, *, expiry: int, now: int) -> None:
        """Keep a signature under its keys, until ``expiry``; times are in seconds since 1970."""
        ...

    async def find(self, key: str, *, now: int) -> SignedAnswer | None:
        """Return what is kept under a key; None: nothing, or its time is over."""
        ...
