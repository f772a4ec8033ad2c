"""What a broker can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from aos.broker.ledger import Rules

REFUNDS: Final = 100
"""Most open refunds that a sub-account can be let have."""
SUB_ACCOUNTS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """The broker's limits. Raises ValueError, naming the setting, for a value that cannot be."""

    largest: int = 10**38
    """Most neurons in one deposit or hold; a job that fills the longest context at the dearest price stays below it."""
    lock_seconds: float = 86_400.0
    """How long money that is asked back from a sub-account stays there, so that work already done can be paid from it."""
    sub_accounts: int = 50
    """Most sub-accounts of one ledger and service."""
    open_refunds: int = 5
    """Most refunds of one sub-account that are on their way back at once."""
    providers_per_call: int = 20
    """Most providers that one call names to retrieve from."""
    info_bytes: int = 4096
    """Longest additional information of a ledger, in bytes."""
    least_ledger: int = 0
    """Fewest neurons to add a ledger with; 0: any, or none."""
    least_transfer: int = 0
    """Fewest neurons to open a sub-account with; 0: any, or none."""
    dispute_seconds: float = 0.0
    """How long a receipt can be disputed after it was paid, its operator waiting for the money; 0: not at all."""
    settle_seconds: float = 0.0
    """How long from one settlement to the next; 0: only when somebody asks for one."""
    check_seconds: float = 0.0
    """How long from one comparison of the books with the journal to the next; 0: only when somebody asks for one."""

    def __post_init__(self) -> None:
        if self.largest < 1:
            raise ValueError(f"largest: must be above 0, not {self.largest}")
        for name in ("lock_seconds", "dispute_seconds", "settle_seconds", "check_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: must be at least 0, not {getattr(self, name)}")
        for name, most in (("sub_accounts", SUB_ACCOUNTS), ("open_refunds", REFUNDS), ("providers_per_call", SUB_ACCOUNTS)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name}: must be from 1 to {most}, not {getattr(self, name)}")
        for name in ("info_bytes", "least_ledger", "least_transfer"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must be at least 0, not {getattr(self, name)}")

    @property
    def rules(self) -> Rules:
        """The rules of ledgers."""
        return Rules(lock=timedelta(seconds=self.lock_seconds), sub_accounts=self.sub_accounts, refunds=self.open_refunds)

    @property
    def window(self) -> timedelta:
        """How long receipts can be disputed."""
        return timedelta(seconds=self.dispute_seconds)
