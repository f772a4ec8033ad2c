"""Where traces are kept: apart from outcomes, which are read far more often than what `state_root` is of."""

from __future__ import annotations

from sqlite_utils import Database

from aos.v1.operator_pb2 import Trace


def create(db: Database) -> None:
    """Make the table."""
    db.execute("CREATE TABLE job_traces (number INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE, trace BLOB NOT NULL) STRICT")


def keep(db: Database, number: int, trace: Trace) -> None:
    """Keep a job's trace, which comes once."""
    db.execute("INSERT INTO job_traces VALUES (?, ?)", [number, trace.SerializeToString()])


def find(db: Database, job_id: str) -> Trace | None:
    """Return a job's trace; None if it has none."""
    sql = "SELECT trace FROM job_traces JOIN jobs USING (number) WHERE id = ?"
    row = db.execute(sql, [job_id]).fetchone()
    return None if row is None else Trace.FromString(row[0])
