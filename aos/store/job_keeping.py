"""What the projects in the SQLite file have used, and which of their jobs it keeps no longer."""

# ruff: noqa: S608  # the pieces of the statements are constants; values are always bound

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from sqlite_utils import Database

from aos.dispatcher.admission import Load
from aos.dispatcher.jobs import Job, Money, State
from aos.dispatcher.quotas import Tokens, day
from aos.store import job_kept
from aos.store.job_rows import micros
from aos.v1.dispatcher_pb2 import Outcome

USAGE_DAYS: Final = 31
"""For so many days it is known what a project has used."""
_UNENDED: Final = f"state < {int(State.COMPLETED)}"
_ENDED: Final = f"state >= {int(State.COMPLETED)}"
_LESS: Final = """
    UPDATE project_load SET jobs = jobs - 1, tokens = tokens - OLD.prompt_bound - OLD.completion_bound
        WHERE project IN (OLD.project, '');
    DELETE FROM project_load WHERE project = OLD.project AND jobs = 0;
"""
_SETTLED: Final = f"money = {int(Money.SETTLED)}"


def create(db: Database) -> None:
    """Make the table and the indexes that this needs, beside those of jobs."""
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


def load(db: Database, project: str, now: datetime) -> Load:
    """Return how many jobs have not ended, and what the project uses today."""
    unended = "SELECT jobs, tokens FROM project_load WHERE project = ?"
    own, promised = db.execute(unended, [project]).fetchone() or (0, 0)
    everywhere, _ = db.execute(unended, [""]).fetchone()
    used = db.execute("SELECT tokens FROM project_usage WHERE project = ? AND day = ?", [project, day(now)]).fetchone()
    return Load(own, everywhere, Tokens(used[0] if used else 0, promised))


def note_usage(db: Database, job: Job, outcome: Outcome) -> None:
    """Count the tokens of a job that has just ended."""
    spent, today = outcome.usage.prompt_tokens + outcome.usage.completion_tokens, day(job.ended or job.created)
    if not spent:
        return
    db.execute(
        "INSERT INTO project_usage VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET tokens = tokens + excluded.tokens",
        [job.project, today, spent],
    )
    db.execute("DELETE FROM project_usage WHERE project = ? AND day < ?", [job.project, today - USAGE_DAYS])


def purge(db: Database, *, ended_before: datetime, project: str | None, limit: int) -> int:
    """Delete settled jobs that ended before, oldest first; return how many."""
    own = "" if project is None else "AND project = ?"
    sql = f"SELECT number, project FROM jobs WHERE {_SETTLED} AND ended < ? {own} ORDER BY ended LIMIT ?"
    values: list[object] = [micros(ended_before), *([] if project is None else [project]), limit]
    return _delete(db, db.execute(sql, values).fetchall())


def purge_beyond(db: Database, keep: int, *, own: Mapping[str, int], limit: int) -> int:
    """Delete the oldest settled jobs of a project that has more than it may, ``keep`` or its ``own``; return how many."""
    counts = job_kept.most(db, min([keep, *own.values()]))
    beyond = ((project, count - own.get(project, keep)) for project, count in counts if count > own.get(project, keep))
    project, more = next(beyond, ("", 0))
    if not more:
        return 0
    sql = f"SELECT number, project FROM jobs WHERE project = ? AND {_SETTLED} ORDER BY number LIMIT ?"
    return _delete(db, db.execute(sql, [project, min(limit, more)]).fetchall())


def _delete(db: Database, found: list[tuple[int, str]]) -> int:
    # what belongs to a job goes with it: its tables refer to it with ON DELETE CASCADE
    if found:
        db.execute(f"DELETE FROM jobs WHERE number IN ({', '.join('?' * len(found))})", [number for number, _ in found])
        job_kept.gone(db, (project for _, project in found))
    return len(found)
