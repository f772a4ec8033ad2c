"""The tables of what is still to be claimed and answered on a chain, in SQLite."""

from __future__ import annotations

from typing import Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

MIGRATIONS: Final = Migrations("broker duties")


@MIGRATIONS(name="0001_duties")
def _duties(db: Database) -> None:
    for sql in (
        # settled batches, until what answers their disputes is forgotten
        """CREATE TABLE chain_claims (
            batch INTEGER PRIMARY KEY REFERENCES chain_batches,
            look_at INTEGER NOT NULL,
            attempts INTEGER NOT NULL,
            done INTEGER NOT NULL
        ) STRICT""",
        "CREATE INDEX chain_claims_due ON chain_claims (done, look_at)",
        "INSERT INTO chain_claims SELECT number, closes_at, 0, 0 FROM chain_batches WHERE progress = 'settled'",
        """CREATE TABLE chain_answers (
            identity TEXT NOT NULL,
            line INTEGER NOT NULL,
            leaf INTEGER NOT NULL,
            look_at INTEGER NOT NULL,
            attempts INTEGER NOT NULL,
            given_up INTEGER NOT NULL,
            PRIMARY KEY (identity, line, leaf)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX chain_disputes_fate ON chain_disputes (fate, sequence)",
        """CREATE TABLE broker_bodies (
            receipt TEXT PRIMARY KEY,
            job TEXT NOT NULL,
            body BLOB NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX broker_bodies_job ON broker_bodies (job)",
    ):
        db.execute(sql)
