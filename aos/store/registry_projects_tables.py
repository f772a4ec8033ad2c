"""The tables of AI projects and of the audit log, in SQLite."""

from __future__ import annotations

from typing import Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

MIGRATIONS: Final = Migrations("registry_projects")


@MIGRATIONS(name="0001_projects")
def _projects(db: Database) -> None:
    # times are microseconds since 1970-01-01 UTC; `due` is when time next changes something about the project
    for sql in (
        """CREATE TABLE registry_projects (
            name TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            lease_id TEXT NOT NULL,
            created INTEGER NOT NULL,
            version INTEGER NOT NULL,
            ended INTEGER,
            due INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX registry_projects_due ON registry_projects (due)",
        """CREATE TABLE registry_replicas (
            id TEXT PRIMARY KEY,
            project TEXT NOT NULL REFERENCES registry_projects ON DELETE CASCADE,
            position INTEGER NOT NULL,
            model TEXT NOT NULL,
            api TEXT NOT NULL,
            kind INTEGER NOT NULL,
            cid TEXT NOT NULL,
            address TEXT NOT NULL,
            asked TEXT NOT NULL,
            operator TEXT NOT NULL,
            created INTEGER NOT NULL,
            expires INTEGER NOT NULL,
            state TEXT NOT NULL,
            reason TEXT NOT NULL,
            capabilities TEXT NOT NULL,
            next_probe INTEGER,
            checked INTEGER,
            running INTEGER NOT NULL,
            reported INTEGER NOT NULL,
            ended INTEGER
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX registry_replicas_project ON registry_replicas (project, position)",
        "CREATE INDEX registry_replicas_operator ON registry_replicas (operator, project)",
        "CREATE INDEX registry_replicas_model ON registry_replicas (model, project)",
        "CREATE TABLE registry_signers (signer TEXT PRIMARY KEY, issued_at INTEGER NOT NULL, used TEXT NOT NULL) STRICT",
        """CREATE TABLE registry_audit (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            time INTEGER NOT NULL,
            actor TEXT NOT NULL,
            action TEXT NOT NULL,
            subject TEXT NOT NULL,
            detail TEXT NOT NULL
        ) STRICT""",
        # a log that could be rewritten would prove nothing
        """CREATE TRIGGER registry_audit_kept BEFORE DELETE ON registry_audit
            BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
        """CREATE TRIGGER registry_audit_fixed BEFORE UPDATE ON registry_audit
            BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    ):
        db.execute(sql)
