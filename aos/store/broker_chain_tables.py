"""The tables of batches on a chain, in SQLite."""

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
            UNIQUE (batch, line, leaf),
            FOREIGN KEY (batch, line) REFERENCES chain_lines
        ) STRICT, WITHOUT ROWID""",
        # paid receipts that are in no batch, so that finding them takes no longer as history grows
        """CREATE TABLE chain_waiting (
            operator TEXT NOT NULL,
            payer TEXT NOT NULL,
            sequence INTEGER NOT NULL REFERENCES broker_receipts,
            PRIMARY KEY (operator, payer, sequence)
        ) STRICT, WITHOUT ROWID""",
        """INSERT INTO chain_waiting (operator, payer, sequence)
            SELECT operator, payer, sequence FROM broker_receipts WHERE standing = 'paid'""",
        """CREATE TRIGGER chain_waiting_paid AFTER INSERT ON broker_receipts WHEN NEW.standing = 'paid'
        BEGIN INSERT INTO chain_waiting VALUES (NEW.operator, NEW.payer, NEW.sequence); END""",
        """CREATE TRIGGER chain_waiting_ripe AFTER UPDATE ON broker_receipts WHEN NEW.standing = 'paid' AND OLD.standing <> 'paid'
        BEGIN INSERT INTO chain_waiting VALUES (NEW.operator, NEW.payer, NEW.sequence); END""",
        """CREATE TABLE chain_disputes (
            sequence INTEGER PRIMARY KEY,
            identity TEXT NOT NULL,
            line INTEGER NOT NULL,
            leaf INTEGER NOT NULL,
            fate TEXT NOT NULL CHECK (fate IN ('disputed', 'answered', 'returned')),
            block INTEGER NOT NULL
        ) STRICT""",
        "CREATE INDEX chain_disputes_leaf ON chain_disputes (identity, line, leaf)",
        "CREATE INDEX chain_disputes_block ON chain_disputes (block)",
        "CREATE TABLE chain_cursor (one INTEGER PRIMARY KEY CHECK (one = 1), block INTEGER NOT NULL, hash TEXT NOT NULL) STRICT",
    ):
        db.execute(sql)


@MIGRATIONS(name="0002_turn")
def _turn(db: Database) -> None:
    # who settles, and until when nobody else does, in microseconds since 1970-01-01 UTC by the database's clock
    db.execute(
        "CREATE TABLE chain_turn (one INTEGER PRIMARY KEY CHECK (one = 1), holder TEXT NOT NULL, until INTEGER NOT NULL) STRICT"
    )


@MIGRATIONS(name="0003_payers")
def _payers(db: Database) -> None:
    db.execute("CREATE TABLE chain_payers (account TEXT PRIMARY KEY, wallet TEXT NOT NULL) STRICT, WITHOUT ROWID")
