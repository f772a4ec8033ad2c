"""The tables of jobs in SQLite. PostgreSQL's are in ``sql/postgres/jobs/``."""

# ruff: noqa: S608  # the pieces of the statements are constants

from __future__ import annotations

from typing import Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from aos.dispatcher.jobs import Money, State
from aos.store.checks import READY

MIGRATIONS: Final = Migrations("jobs")
_UNENDED: Final = f"state < {int(State.COMPLETED)}"
_ENDED: Final = f"state >= {int(State.COMPLETED)}"
_PENDING: Final = f"money = {int(Money.PENDING)}"
_SETTLED: Final = f"money = {int(Money.SETTLED)}"
_UNSETTLED: Final = f"money = {int(Money.HELD)} AND state >= {int(State.COMPLETED)}"
_LESS: Final = """
    UPDATE project_load SET jobs = jobs - 1, tokens = tokens - OLD.prompt_bound - OLD.completion_bound
        WHERE project IN (OLD.project, '');
    DELETE FROM project_load WHERE project = OLD.project AND jobs = 0;
"""


@MIGRATIONS(name="0001_jobs")
def _create_jobs(db: Database) -> None:
    # what moves (jobs), what never does (job_requests), and what comes once (job_outcomes) are apart, because SQLite writes a
    # whole row anew and a prompt may have 1 MiB. Times are microseconds since 1970-01-01 UTC; amounts outgrow 64 bits: text.
    for sql in (
        """CREATE TABLE jobs (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            project TEXT NOT NULL,
            request_id TEXT,
            model TEXT NOT NULL,
            model_digest TEXT NOT NULL,
            request_digest BLOB NOT NULL,
            parameters TEXT NOT NULL,
            seed INTEGER NOT NULL,
            prompt_bound INTEGER NOT NULL,
            completion_bound INTEGER NOT NULL,
            amount TEXT NOT NULL,
            created INTEGER NOT NULL,
            deadline INTEGER NOT NULL,
            money INTEGER NOT NULL,
            state INTEGER NOT NULL,
            operator TEXT NOT NULL,
            lease TEXT NOT NULL,
            price BLOB,
            attempts INTEGER NOT NULL,
            failures INTEGER NOT NULL,
            clock TEXT NOT NULL,
            ended INTEGER
        ) STRICT""",
        "CREATE UNIQUE INDEX jobs_request ON jobs (project, request_id)",
        "CREATE INDEX jobs_project ON jobs (project, number)",
        f"CREATE INDEX jobs_load ON jobs (project) WHERE {_UNENDED}",
        f"CREATE INDEX jobs_deadline ON jobs (deadline) WHERE {_UNENDED}",
        f"CREATE INDEX jobs_state ON jobs (state, number) WHERE {_UNENDED}",
        f"CREATE INDEX jobs_pending ON jobs (number) WHERE {_PENDING}",
        f"CREATE INDEX jobs_unsettled ON jobs (number) WHERE {_UNSETTLED}",
        """CREATE TABLE job_requests (
            number INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
            ordered BLOB NOT NULL,
            user TEXT NOT NULL,
            annotation TEXT NOT NULL,
            contents BLOB NOT NULL
        ) STRICT""",
        "CREATE TABLE job_outcomes (number INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE, outcome BLOB NOT NULL) STRICT",
        # state for a move, chunk for output, neither for the outcome, which has a table
        """CREATE TABLE job_events (
            number INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
            sequence INTEGER NOT NULL,
            state INTEGER,
            chunk BLOB,
            PRIMARY KEY (number, sequence)
        ) STRICT, WITHOUT ROWID""",
        "CREATE TABLE node_counts (node TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    ):
        db.execute(sql)


@MIGRATIONS(name="0002_priority")
def _add_priority(db: Database) -> None:
    db.execute("ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE jobs ADD COLUMN traceparent TEXT NOT NULL DEFAULT ''")


@MIGRATIONS(name="0003_job_keeping")
def _add_keeping(db: Database) -> None:
    for sql in (
        """CREATE TABLE project_usage (
            project TEXT NOT NULL, day INTEGER NOT NULL, tokens INTEGER NOT NULL, PRIMARY KEY (project, day)
        ) STRICT, WITHOUT ROWID""",
        # kept by the database as jobs come and end: counting them for each that comes takes longer the more there are. The row of
        # no project is that of all
        """CREATE TABLE project_load (
            project TEXT PRIMARY KEY, jobs INTEGER NOT NULL, tokens INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID""",
        f"""INSERT INTO project_load SELECT project, count(*), sum(prompt_bound + completion_bound) FROM jobs
            WHERE {_UNENDED} GROUP BY project""",
        "INSERT INTO project_load SELECT '', coalesce(sum(jobs), 0), coalesce(sum(tokens), 0) FROM project_load",
        f"""CREATE TRIGGER jobs_come AFTER INSERT ON jobs WHEN NEW.{_UNENDED} BEGIN
            INSERT INTO project_load SELECT one, 1, NEW.prompt_bound + NEW.completion_bound FROM
                (SELECT NEW.project AS one UNION ALL SELECT '') WHERE true
                ON CONFLICT DO UPDATE SET jobs = jobs + 1, tokens = tokens + excluded.tokens;
        END""",
        f"CREATE TRIGGER jobs_end AFTER UPDATE OF state ON jobs WHEN OLD.{_UNENDED} AND NEW.{_ENDED} BEGIN {_LESS} END",
        f"CREATE TRIGGER jobs_go AFTER DELETE ON jobs WHEN OLD.{_UNENDED} BEGIN {_LESS} END",
        # the rows of running jobs are written often: these are touched at a job's end only
        f"CREATE INDEX jobs_by_state ON jobs (project, state, number) WHERE {_ENDED}",
        f"CREATE INDEX jobs_settled ON jobs (ended) WHERE {_SETTLED}",
        f"CREATE INDEX jobs_kept ON jobs (project, number) WHERE {_SETTLED}",
        "CREATE INDEX job_requests_user ON job_requests (user)",
    ):
        db.execute(sql)


@MIGRATIONS(name="job_traces")
def _add_traces(db: Database) -> None:
    db.execute("CREATE TABLE job_traces (number INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE, trace BLOB NOT NULL) STRICT")


@MIGRATIONS(name="0004_checks")
def _add_checks(db: Database) -> None:
    # names that no table of jobs has, because the two are joined
    for sql in (
        """CREATE TABLE job_risk (
            number INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
            owner TEXT NOT NULL,
            enduser TEXT NOT NULL,
            own_tag INTEGER NOT NULL,
            redundancy INTEGER NOT NULL,
            exact INTEGER NOT NULL,
            risk_tag INTEGER NOT NULL DEFAULT 0,
            risk_position TEXT NOT NULL DEFAULT '',
            risk_width INTEGER NOT NULL DEFAULT 0,
            reviewed INTEGER NOT NULL DEFAULT 0,
            verdict INTEGER NOT NULL DEFAULT 0,
            verdict_reason TEXT NOT NULL DEFAULT ''
        ) STRICT""",
        "CREATE INDEX job_risk_user ON job_risk (owner, enduser, number)",
        # is ready once the job is COMPLETED, and gone once it is concluded; one that waits is of a job to be run again
        """CREATE TABLE job_checks (
            number INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
            position TEXT NOT NULL,
            tag INTEGER NOT NULL,
            width INTEGER NOT NULL,
            ready INTEGER NOT NULL,
            PRIMARY KEY (number, position, tag)
        ) STRICT, WITHOUT ROWID""",
        f"CREATE INDEX job_checks_ready ON job_checks (number) WHERE ready = {READY}",
        """CREATE TABLE job_results (
            number INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
            place INTEGER NOT NULL,
            result BLOB NOT NULL,
            PRIMARY KEY (number, place)
        ) STRICT""",
        # no reference: what is on record against an operator outlives the job
        """CREATE TABLE evidence (
            entry INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL UNIQUE,
            owner TEXT NOT NULL,
            job TEXT NOT NULL,
            evidence BLOB NOT NULL
        ) STRICT""",
        "CREATE INDEX evidence_job ON evidence (job, entry)",
        """CREATE TABLE user_standings (
            owner TEXT NOT NULL,
            enduser TEXT NOT NULL,
            tag INTEGER NOT NULL,
            remaining INTEGER NOT NULL,
            clean INTEGER NOT NULL,
            PRIMARY KEY (owner, enduser)
        ) STRICT, WITHOUT ROWID""",
        # all that a dispatcher has heard of, as JSON
        "CREATE TABLE node_clocks (node TEXT PRIMARY KEY, clock TEXT NOT NULL) STRICT, WITHOUT ROWID",
    ):
        db.execute(sql)


@MIGRATIONS(name="job_attestations")
def _add_attestations(db: Database) -> None:
    # those from before are of the one kind that there was
    db.execute("ALTER TABLE jobs ADD COLUMN job_type TEXT NOT NULL DEFAULT 'opml'")
    sql = "CREATE TABLE job_attestations (number INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE, attestation BLOB NOT NULL)"
    db.execute(f"{sql} STRICT")


@MIGRATIONS(name="0005_waits")
def _add_waits(db: Database) -> None:
    # jobs from before had the deadline of the settings, or their callers' own, and nobody knows which: they wait for it
    db.execute("ALTER TABLE jobs ADD COLUMN waits INTEGER NOT NULL DEFAULT 1")


@MIGRATIONS(name="controlled_jobs")
def _add_controlled(db: Database) -> None:
    db.execute("ALTER TABLE jobs ADD COLUMN controlled INTEGER NOT NULL DEFAULT 0")


@MIGRATIONS(name="job_providers")
def _providers(db: Database) -> None:
    # those from before are paid from available money, and go to any operator
    db.execute("ALTER TABLE jobs ADD COLUMN provider TEXT NOT NULL DEFAULT ''")


@MIGRATIONS(name="job_nodes")
def _nodes(db: Database) -> None:
    db.execute("ALTER TABLE jobs ADD COLUMN node TEXT NOT NULL DEFAULT ''")


@MIGRATIONS(name="job_kept")
def _add_kept(db: Database) -> None:
    for sql in (
        "CREATE TABLE project_kept (project TEXT PRIMARY KEY, jobs INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        "CREATE INDEX project_kept_jobs ON project_kept (jobs)",
        f"INSERT INTO project_kept SELECT project, count(*) FROM jobs WHERE {_SETTLED} GROUP BY project",
    ):
        db.execute(sql)


@MIGRATIONS(name="job_pages")
def _add_pages(db: Database) -> None:
    for sql in (
        "CREATE INDEX jobs_model ON jobs (project, model, number)",
        "CREATE INDEX jobs_created ON jobs (created)",
        f"CREATE INDEX jobs_ended ON jobs (state, number) WHERE {_ENDED}",
        # by these rows users' jobs are found: of jobs from before there were any, too
        """INSERT INTO job_risk (number, owner, enduser, own_tag, redundancy, exact)
            SELECT number, project, user, 0, 0, 0 FROM jobs JOIN job_requests USING (number)
            WHERE number NOT IN (SELECT number FROM job_risk)""",
    ):
        db.execute(sql)
