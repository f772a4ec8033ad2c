"""How registries of one database tell each other that something changed."""

from __future__ import annotations

from typing import Final

from aos.store.sql import Transaction

NEWS: Final = "registry"
"""The channel; what is said on it is which registry it was."""


def tell_others(tx: Transaction, origin: str) -> None:
    """Tell all registries once this is kept, and count it for those who do not hear. To be called last but for the audit log."""
    tx.execute("UPDATE registry_news SET version = version + 1")
    tx.notify(NEWS, origin)


def news_version(tx: Transaction) -> int:
    """Return how much has been told."""
    return int(tx.execute("SELECT version FROM registry_news").fetchone()[0])
