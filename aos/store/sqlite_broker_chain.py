"""Batches of receipts on a chain, in SQLite."""

from __future__ import annotations

from typing import Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

MIGRATIONS: Final = Migrations("broker chain")


@MIGRATIONS(name="0001_chain")
def _chain(db: Database) -> None:
    for sql in (
        """CREATE TABLE chain_batches (
            number INTEGER PRIMARY KEY,
            identity TEXT NOT NULL UNIQUE,
            provider TEXT NOT NULL,
            nonce TEXT NOT NULL,
            deadline INTEGER NOT NULL,
            since INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            progress TEXT NOT NULL CHECK (progress IN ('made', 'settled', 'released')),
            tx TEXT NOT NULL,
            block INTEGER NOT NULL,
            closes_at INTEGER NOT NULL,
            time INTEGER NOT NULL
        ) STRICT""",
        "CREATE INDEX chain_batches_progress ON chain_batches (progress, number)",
        """CREATE TABLE chain_lines (
            batch INTEGER NOT NULL REFERENCES chain_batches,
            line INTEGER NOT NULL,
            account TEXT NOT NULL,
            user TEXT NOT NULL,
            root TEXT NOT NULL,
            total TEXT NOT NULL,
            count INTEGER NOT NULL,
            refused TEXT NOT NULL,
            PRIMARY KEY (batch, line)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX chain_lines_account ON chain_lines (account, batch)",
        # the key keeps a receipt from being in two batches
        """CREATE TABLE chain_receipts (
            receipt TEXT PRIMARY KEY,
            batch INTEGER NOT NULL,
            line INTEGER NOT NULL,
            leaf INTEGER NOT NULL,
            fate TEXT NOT NULL CHECK (fate IN ('', 'disputed', 'answered', 'returned')),
            fate_block INTEGER NOT NULL,
            UNIQUE (batch, line, leaf),
            FOREIGN KEY (batch, line) REFERENCES chain_lines
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE chain_disputes (
            identity TEXT NOT NULL,
            line INTEGER NOT NULL,
            leaf INTEGER NOT NULL,
            fate TEXT NOT NULL,
            block INTEGER NOT NULL,
            PRIMARY KEY (identity, line, leaf, block, fate)
        ) STRICT, WITHOUT ROWID""",
        "CREATE TABLE chain_cursor (one INTEGER PRIMARY KEY CHECK (one = 1), block INTEGER NOT NULL, hash TEXT NOT NULL) STRICT",
    ):
        db.execute(sql)
