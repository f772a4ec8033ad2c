"""The registry's audit log: whoever changes something writes its entries in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from aos.registry.replicas import Entry
from aos.registry.store import Logged
from aos.store.sql import Transaction

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def write_entries(tx: Transaction, entries: Sequence[Entry], now: datetime) -> None:
    """Append the entries. The last thing that a transaction waits for: from here on all others wait for its end."""
    for one in entries:
        sql = "INSERT INTO registry_audit (time, actor, action, subject, detail) VALUES (?, ?, ?, ?, ?)"
        tx.execute(sql, [(now - _EPOCH) // _MICROSECOND, one.actor, one.action, one.subject, one.detail])


def read_entries(tx: Transaction, *, after: int, limit: int) -> list[Logged]:
    """Return entries behind the one with this number, oldest first."""
    rows = tx.query("SELECT * FROM registry_audit WHERE sequence > ? ORDER BY sequence LIMIT ?", [after, limit])
    return [
        Logged(
            row["sequence"],
            _EPOCH + timedelta(microseconds=row["time"]),
            Entry(row["actor"], row["action"], row["subject"], row["detail"]),
        )
        for row in rows
    ]
