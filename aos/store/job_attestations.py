"""Where `tee` jobs' evidence is kept: apart from outcomes, which are read far more often."""

from __future__ import annotations

from sqlite_utils import Database

from aos.v1.attestation_pb2 import Attestation


def create(db: Database) -> None:
    """Make the table, and the column that says of what kind a job is: those from before it are `opml`."""
    db.execute("ALTER TABLE jobs ADD COLUMN job_type TEXT NOT NULL DEFAULT 'opml'")
    sql = "CREATE TABLE job_attestations (number INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE, attestation BLOB NOT NULL)"
    db.execute(f"{sql} STRICT")


def keep(db: Database, number: int, attestation: Attestation) -> None:
    """Keep a job's evidence, which comes once."""
    db.execute("INSERT INTO job_attestations VALUES (?, ?)", [number, attestation.SerializeToString()])


def find(db: Database, job_id: str) -> Attestation | None:
    """Return a job's evidence; None if it has none."""
    sql = "SELECT attestation FROM job_attestations JOIN jobs USING (number) WHERE id = ?"
    row = db.execute(sql, [job_id]).fetchone()
    return None if row is None else Attestation.FromString(row[0])
