"""The registry's audit log in SQLite: whoever changes something writes its entries in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlite_utils import Database

from aos.registry.replicas import Entry
from aos.registry.store import Logged

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def write_entries(db: Database, entries: Sequence[Entry], now: datetime) -> None:
    """Append the entries."""
    for one in entries:
        row: dict[str, Any] = {
            "time": (now - _EPOCH) // _MICROSECOND,
            "actor": one.actor,
            "action": one.action,
            "subject": one.subject,
            "detail": one.detail,
        }
        db.table("registry_audit").insert(row)


def read_entries(db: Database, *, after: int, limit: int) -> list[Logged]:
    """Return entries behind the one with this number, oldest first."""
    rows = db.query("SELECT * FROM registry_audit WHERE sequence > ? ORDER BY sequence LIMIT ?", [after, limit])
    return [
        Logged(
            row["sequence"],
            _EPOCH + timedelta(microseconds=row["time"]),
            Entry(row["actor"], row["action"], row["subject"], row["detail"]),
        )
        for row in rows
    ]
