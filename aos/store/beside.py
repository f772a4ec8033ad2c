"""A broker and a dispatcher of one process on one SQLite file: what the first gives, and what the second makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aos.broker.store import HoldDecisions
from aos.dispatcher.risk import RiskSettings
from aos.store.jobs import SqlJobStore
from aos.store.jobs_paid import SqlPaidJobStore
from aos.store.sql import SqlDatabase
from aos.store.sqlite import SqliteFile


@dataclass(frozen=True, slots=True)
class Beside:
    """Where a broker keeps its money, and how it decides on holds there."""

    file: SqliteFile
    decisions: HoldDecisions


def job_store(
    database: SqlDatabase, beside: Beside | None, *, node: str, risk: RiskSettings, alone: Callable[[], bool]
) -> tuple[SqlJobStore, SqlPaidJobStore | None]:
    """Return the store of jobs, and the same once more if it has their money, too. Raises ValueError for money in another file."""
    if beside is None:
        return SqlJobStore(database, node=node, risk=risk, alone=alone), None
    if beside.file is not database:
        raise ValueError("the broker beside keeps its money in another file")
    paid = SqlPaidJobStore(beside.file, beside.decisions, node=node, risk=risk, alone=alone)
    return paid, paid
