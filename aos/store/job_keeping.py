"""Which jobs the SQLite file lists, what their projects have used, and which it keeps no longer."""

# ruff: noqa: S608  # the pieces of the statements are constants; values are always bound

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from sqlite_utils import Database

from aos.dispatcher.admission import Load
from aos.dispatcher.jobs import Job, Money, State
from aos.dispatcher.listing import JobFilter
from aos.dispatcher.quotas import Tokens, day
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


def conditions(only: JobFilter) -> tuple[list[str], list[object]]:
    """Return the conditions of a WHERE for the filter, and their values."""
    where: list[str] = []
    values: list[object] = []
    for condition, value in (
        ("project = ?", only.project),
        ("user = ?", only.user or None),
        ("model = ?", only.model or None),
        ("created >= ?", None if only.created_from is None else micros(only.created_from)),
        ("created < ?", None if only.created_before is None else micros(only.created_before)),
    ):
        if value is not None:
            where, values = [*where, condition], [*values, value]
    if only.states:
        numbers = sorted(int(state) for state in only.states)
        where.append(f"state IN ({', '.join(map(str, numbers))})")
        if numbers[0] >= State.COMPLETED:
            where.append(_ENDED)  # says to SQLite which index fits
    return where, values


def load(db: Database, project: str, now: datetime) -> Load:
    """Return how many jobs have not ended, and what the project uses today."""
    sql = """SELECT coalesce(own.jobs, 0), coalesce(own.tokens, 0), everywhere.jobs, coalesce(used.tokens, 0)
        FROM project_load AS everywhere LEFT JOIN project_load AS own ON own.project = ?
        LEFT JOIN project_usage AS used ON used.project = ? AND used.day = ? WHERE everywhere.project = ''"""
    own, promised, everywhere, used = db.execute(sql, [project, project, day(now)]).fetchone()
    return Load(own, everywhere, Tokens(used, promised))


def note_usage(db: Database, job: Job, outcome: Outcome) -> None:
    """Count the tokens of a job that has just ended."""
    spent, today = outcome.usage.prompt_tokens + outcome.usage.completion_tokens, day(job.ended or job.created)
    if not spent:
        return
    sql = """INSERT INTO project_usage VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET tokens = tokens + excluded.tokens
        RETURNING tokens"""
    if db.execute(sql, [job.project, today, spent]).fetchone()[0] == spent:  # the first of the day
        db.execute("DELETE FROM project_usage WHERE project = ? AND day < ?", [job.project, today - USAGE_DAYS])


def purge(db: Database, *, ended_before: datetime, project: str | None, limit: int) -> int:
    """Delete settled jobs that ended before, oldest first; return how many."""
    own = "" if project is None else "AND project = ?"
    sql = f"SELECT number FROM jobs WHERE {_SETTLED} AND ended < ? {own} ORDER BY ended LIMIT ?"
    values: list[object] = [micros(ended_before), *([] if project is None else [project]), limit]
    return _delete(db, [number for (number,) in db.execute(sql, values)])


def purge_beyond(db: Database, keep: int, *, own: Mapping[str, int], limit: int) -> int:
    """Delete the oldest settled jobs of a project that has more than it may, ``keep`` or its ``own``; return how many."""
    crowded = f"SELECT project, count(*) FROM jobs WHERE {_SETTLED} GROUP BY project HAVING count(*) > ?"
    counts = db.execute(crowded, [min([keep, *own.values()])])
    beyond = ((project, count - own.get(project, keep)) for project, count in counts if count > own.get(project, keep))
    project, more = next(beyond, ("", 0))
    if not more:
        return 0
    sql = f"SELECT number FROM jobs WHERE project = ? AND {_SETTLED} ORDER BY number LIMIT ?"
    return _delete(db, [number for (number,) in db.execute(sql, [project, min(limit, more)])])


def _delete(db: Database, numbers: list[int]) -> int:
    # what belongs to a job goes with it: its tables refer to it with ON DELETE CASCADE
    if numbers:
        db.execute(f"DELETE FROM jobs WHERE number IN ({', '.join('?' * len(numbers))})", numbers)
    return len(numbers)
