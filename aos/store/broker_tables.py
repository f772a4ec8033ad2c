"""The broker's tables in SQLite: accounts, holds, the journal, ledgers, and what was settled."""

from __future__ import annotations

from collections import Counter
from typing import Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

MIGRATIONS: Final = Migrations("broker")
GUARDS: Final = (
    "CREATE INDEX broker_journal_account ON broker_journal (account, sequence)",
    """CREATE TRIGGER broker_journal_no_update BEFORE UPDATE ON broker_journal
    BEGIN SELECT RAISE(ABORT, 'the journal is only added to'); END""",
    """CREATE TRIGGER broker_journal_no_delete BEFORE DELETE ON broker_journal
    BEGIN SELECT RAISE(ABORT, 'the journal is only added to'); END""",
    # INSERT OR REPLACE deletes without firing a delete trigger
    """CREATE TRIGGER broker_journal_no_replace BEFORE INSERT ON broker_journal
    WHEN EXISTS (SELECT 1 FROM broker_journal WHERE sequence = NEW.sequence)
    BEGIN SELECT RAISE(ABORT, 'the journal is only added to'); END""",
    """CREATE TRIGGER broker_journal_no_gap AFTER INSERT ON broker_journal
    WHEN NEW.sequence <> 1 AND NOT EXISTS (SELECT 1 FROM broker_journal WHERE sequence = NEW.sequence - 1)
    BEGIN SELECT RAISE(ABORT, 'the journal has no gaps'); END""",
)
"""What keeps the journal a journal."""


@MIGRATIONS(name="0001_accounts")
def _accounts(db: Database) -> None:
    # the rules are accounts.py's; what stands here keeps any other writer from breaking them
    for sql in (
        """CREATE TABLE broker_accounts (
            name TEXT PRIMARY KEY,
            available TEXT NOT NULL CHECK (available NOT GLOB '*[^0-9]*' AND available <> ''),
            held TEXT NOT NULL CHECK (held NOT GLOB '*[^0-9]*' AND held <> '')
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE broker_deposits (
            request_id TEXT PRIMARY KEY,
            account TEXT NOT NULL REFERENCES broker_accounts,
            amount TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE broker_holds (
            name TEXT PRIMARY KEY,
            account TEXT NOT NULL REFERENCES broker_accounts,
            amount TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('held', 'committed', 'released')),
            paid TEXT NOT NULL,
            receipt TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
        """CREATE TRIGGER broker_holds_settle_once BEFORE UPDATE ON broker_holds WHEN OLD.state <> 'held'
        BEGIN SELECT RAISE(ABORT, 'a hold is settled once'); END""",
    ):
        db.execute(sql)


@MIGRATIONS(name="0002_journal")
def _journal(db: Database) -> None:
    for sql in (
        # time is in microseconds since 1970-01-01 UTC
        """CREATE TABLE broker_journal (
            sequence INTEGER PRIMARY KEY,
            transfer TEXT NOT NULL,
            time INTEGER NOT NULL,
            account TEXT NOT NULL,
            pot TEXT NOT NULL CHECK (pot IN ('available', 'held')),
            amount TEXT NOT NULL,
            reason TEXT NOT NULL CHECK (reason IN ('deposit', 'reserve', 'commit', 'release')),
            cause TEXT NOT NULL
        ) STRICT""",
        *GUARDS,
    ):
        db.execute(sql)


@MIGRATIONS(name="0003_ledgers")
def _ledgers(db: Database) -> None:
    for sql in (
        # sub-accounts are pots, and there are more reasons: the journal is copied, because SQLite changes no CHECK
        "DROP TRIGGER broker_journal_no_update",
        "DROP TRIGGER broker_journal_no_delete",
        "DROP TRIGGER broker_journal_no_replace",
        "DROP TRIGGER broker_journal_no_gap",
        "DROP INDEX broker_journal_account",
        "ALTER TABLE broker_journal RENAME TO broker_journal_before",
        """CREATE TABLE broker_journal (
            sequence INTEGER PRIMARY KEY,
            transfer TEXT NOT NULL,
            time INTEGER NOT NULL,
            account TEXT NOT NULL,
            pot TEXT NOT NULL CHECK (pot IN ('available', 'held') OR pot GLOB 'inference/0x*' OR pot GLOB 'fine-tuning/0x*'),
            amount TEXT NOT NULL,
            reason TEXT NOT NULL CHECK (reason IN (
                'deposit', 'refund', 'transfer', 'retrieve', 'reserve', 'commit', 'release', 'fee', 'settle', 'overturn'
            )),
            cause TEXT NOT NULL
        ) STRICT""",
        "INSERT INTO broker_journal SELECT * FROM broker_journal_before ORDER BY sequence",
        "DROP TABLE broker_journal_before",
        *GUARDS,
        # whose id is an address is an operator: its account is what it earns, and no ledger
        """CREATE TABLE broker_ledgers (
            account TEXT PRIMARY KEY,
            created INTEGER NOT NULL,
            info TEXT NOT NULL,
            signer TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
        """INSERT INTO broker_ledgers (account, created, info, signer) SELECT name,
            COALESCE((SELECT time FROM broker_journal WHERE account = name ORDER BY sequence LIMIT 1), 0), '', '0,0'
            FROM broker_accounts WHERE name NOT GLOB 'accounts/0[xX]*'""",
        """CREATE TABLE broker_sub_accounts (
            account TEXT NOT NULL REFERENCES broker_ledgers,
            service TEXT NOT NULL CHECK (service IN ('inference', 'fine-tuning')),
            provider TEXT NOT NULL,
            balance TEXT NOT NULL CHECK (balance NOT GLOB '*[^0-9]*' AND balance <> ''),
            signer TEXT NOT NULL,
            next_refund INTEGER NOT NULL,
            former TEXT NOT NULL,
            former_until INTEGER,
            PRIMARY KEY (account, service, provider)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE broker_refunds (
            account TEXT NOT NULL,
            service TEXT NOT NULL,
            provider TEXT NOT NULL,
            number INTEGER NOT NULL,
            amount TEXT NOT NULL CHECK (amount NOT GLOB '*[^0-9]*' AND amount <> '' AND amount <> '0'),
            created INTEGER NOT NULL,
            release INTEGER NOT NULL,
            PRIMARY KEY (account, service, provider, number),
            FOREIGN KEY (account, service, provider) REFERENCES broker_sub_accounts
        ) STRICT, WITHOUT ROWID""",
        # what a request_id did, so that a retry does nothing
        """CREATE TABLE broker_moves (
            account TEXT NOT NULL,
            request_id TEXT NOT NULL,
            contents TEXT NOT NULL,
            PRIMARY KEY (account, request_id)
        ) STRICT, WITHOUT ROWID""",
        "ALTER TABLE broker_holds ADD COLUMN pot TEXT NOT NULL DEFAULT 'available'",
    ):
        db.execute(sql)


@MIGRATIONS(name="0004_settlement")
def _settlement(db: Database) -> None:
    for sql in (
        """CREATE TABLE broker_batches (
            number INTEGER PRIMARY KEY,
            root TEXT NOT NULL,
            receipts INTEGER NOT NULL,
            amount TEXT NOT NULL,
            time INTEGER NOT NULL
        ) STRICT""",
        """CREATE TABLE broker_receipts (
            sequence INTEGER PRIMARY KEY,
            receipt TEXT NOT NULL UNIQUE,
            payer TEXT NOT NULL,
            pot TEXT NOT NULL,
            operator TEXT NOT NULL,
            price TEXT NOT NULL,
            time INTEGER NOT NULL,
            standing TEXT NOT NULL CHECK (standing IN ('open', 'frozen', 'overturned', 'paid')),
            batch INTEGER NOT NULL
        ) STRICT""",
        "CREATE INDEX broker_receipts_batch ON broker_receipts (batch, sequence)",
        """CREATE TRIGGER broker_receipts_settle_once BEFORE UPDATE ON broker_receipts
        WHEN OLD.batch <> 0 OR OLD.standing = 'overturned'
        BEGIN SELECT RAISE(ABORT, 'a receipt is settled once'); END""",
    ):
        db.execute(sql)


@MIGRATIONS(name="0005_totals")
def _totals(db: Database) -> None:
    db.execute("""CREATE TABLE broker_totals (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        accounts INTEGER NOT NULL,
        available TEXT NOT NULL,
        held TEXT NOT NULL,
        in_sub_accounts TEXT NOT NULL,
        deposited TEXT NOT NULL,
        paid_out TEXT NOT NULL
    ) STRICT""")
    # added up here, because sums outgrow SQLite's integers
    pots = [(int(available), int(held)) for available, held in db.execute("SELECT available, held FROM broker_accounts")]
    subs = sum(int(balance) for (balance,) in db.execute("SELECT balance FROM broker_sub_accounts"))
    outside: Counter[str] = Counter()
    for reason, amount in db.execute("SELECT reason, amount FROM broker_journal WHERE account = 'external'"):
        outside[reason] += int(amount)
    sums = (sum(one for one, _ in pots), sum(one for _, one in pots), subs, -outside["deposit"], outside["refund"])
    db.execute("INSERT INTO broker_totals VALUES (1, ?, ?, ?, ?, ?, ?)", [len(pots), *map(str, sums)])
