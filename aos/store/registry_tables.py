"""The tables of registrations, in SQLite."""

from __future__ import annotations

from typing import Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

MIGRATIONS: Final = Migrations("registry")


@MIGRATIONS(name="0001_operators")
def _operators(db: Database) -> None:
    # times are microseconds since 1970-01-01 UTC; prices outgrow 64 bits, so they are decimal text
    for sql in (
        """CREATE TABLE registry_operators (
            operator TEXT PRIMARY KEY,
            registered INTEGER NOT NULL,
            expires INTEGER NOT NULL,
            departed INTEGER,
            ends INTEGER NOT NULL,
            issued_at INTEGER NOT NULL,
            used TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX registry_operators_ends ON registry_operators (ends)",
        """CREATE TABLE registry_offers (
            operator TEXT NOT NULL REFERENCES registry_operators ON DELETE CASCADE,
            position INTEGER NOT NULL,
            model TEXT NOT NULL,
            digest TEXT NOT NULL,
            context_length INTEGER NOT NULL,
            chat INTEGER NOT NULL,
            prompt_price TEXT NOT NULL,
            completion_price TEXT NOT NULL,
            slots INTEGER NOT NULL,
            since INTEGER NOT NULL,
            PRIMARY KEY (operator, position)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX registry_offers_model ON registry_offers (model, operator)",
    ):
        db.execute(sql)


@MIGRATIONS(name="0002_exact_and_embeddings")
def _exact_and_embeddings(db: Database) -> None:
    for column in ("exact", "embeddings"):
        db.execute(f"ALTER TABLE registry_offers ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")


@MIGRATIONS(name="0003_vrf_keys")
def _vrf_keys(db: Database) -> None:
    db.execute("ALTER TABLE registry_operators ADD COLUMN vrf_key BLOB NOT NULL DEFAULT x''")
    db.execute("ALTER TABLE registry_operators ADD COLUMN vrf_key_since INTEGER")


@MIGRATIONS(name="0004_attested")
def _attested(db: Database) -> None:
    # an Attested message; empty for operators that have shown no evidence
    db.execute("ALTER TABLE registry_operators ADD COLUMN attested BLOB NOT NULL DEFAULT x''")


@MIGRATIONS(name="0005_images_and_replicas")
def _images_and_replicas(db: Database) -> None:
    for column in ("images", "image_edits"):
        db.execute(f"ALTER TABLE registry_offers ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE registry_offers ADD COLUMN replicas TEXT NOT NULL DEFAULT ''")


@MIGRATIONS(name="0006_lapses_noted")
def _lapses_noted(db: Database) -> None:
    db.execute("ALTER TABLE registry_operators ADD COLUMN noted INTEGER NOT NULL DEFAULT 0")
    db.execute("CREATE INDEX registry_operators_lapses ON registry_operators (expires) WHERE departed IS NULL AND noted = 0")


@MIGRATIONS(name="0006_controllers")
def _controllers(db: Database) -> None:
    db.execute("ALTER TABLE registry_offers ADD COLUMN controllers INTEGER NOT NULL DEFAULT 0")


@MIGRATIONS(name="0007_several")
def _several(db: Database) -> None:
    # of all registries of the database; `made` is in seconds since 1970-01-01 UTC
    # `version` counts what was told to those who watch
    db.execute("CREATE TABLE registry_news (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL) STRICT")
    db.execute("INSERT INTO registry_news VALUES (1, 0)")
    db.execute("CREATE TABLE registry_secrets (made INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (made, value)) STRICT")
