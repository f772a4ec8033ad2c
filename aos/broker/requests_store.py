"""Where an account's wallets and the nonces that they used live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


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
