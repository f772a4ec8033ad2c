"""Where `tee` jobs' evidence is kept: apart from outcomes, which are read far more often."""

from __future__ import annotations

from aos.store.sql import Transaction
from aos.v1.attestation_pb2 import Attestation


def keep(tx: Transaction, number: int, attestation: Attestation) -> None:
    """Keep a job's evidence, which comes once."""
    tx.execute("INSERT INTO job_attestations VALUES (?, ?)", [number, attestation.SerializeToString()])


def find(tx: Transaction, job_id: str) -> Attestation | None:
    """Return a job's evidence; None if it has none."""
    sql = "SELECT attestation FROM job_attestations JOIN jobs USING (number) WHERE id = ?"
    row = tx.execute(sql, [job_id]).fetchone()
    return None if row is None else Attestation.FromString(row[0])
