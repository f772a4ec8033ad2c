"""Where traces are kept: apart from outcomes, which are read far more often than what `state_root` is of."""

from __future__ import annotations

from aos.store.sql import Transaction
from aos.v1.operator_pb2 import Trace


def keep(tx: Transaction, number: int, trace: Trace) -> None:
    """Keep a job's trace, which comes once."""
    tx.execute("INSERT INTO job_traces VALUES (?, ?)", [number, trace.SerializeToString()])


def find(tx: Transaction, job_id: str) -> Trace | None:
    """Return a job's trace; None if it has none."""
    sql = "SELECT trace FROM job_traces JOIN jobs USING (number) WHERE id = ?"
    row = tx.execute(sql, [job_id]).fetchone()
    return None if row is None else Trace.FromString(row[0])
