"""What projects have used, and which of their jobs are kept no longer."""

# ruff: noqa: S608  # the pieces of the statements are constants; values are always bound

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from aos.dispatcher.admission import Load
from aos.dispatcher.jobs import Job, Money
from aos.dispatcher.quotas import Tokens, day
from aos.store import job_kept
from aos.store.job_rows import micros
from aos.store.reading import among
from aos.store.sql import Dialect, Transaction
from aos.v1.dispatcher_pb2 import Outcome

USAGE_DAYS: Final = 31
"""For so many days it is known what a project has used."""
_SETTLED: Final = f"money = {int(Money.SETTLED)}"


_LOAD: Final = """SELECT
    (SELECT CAST(sum(jobs) AS BIGINT) FROM project_load WHERE project = :project),
    (SELECT CAST(sum(tokens) AS BIGINT) FROM project_load WHERE project = :project),
    (SELECT CAST(sum(jobs) AS BIGINT) FROM project_load WHERE project = ''),
    (SELECT CAST(sum(tokens) AS BIGINT) FROM project_usage WHERE project = :project AND day = :day)"""
_UNSEEN: Final = f"{_LOAD}, current_setting('max_connections')::BIGINT"
"""No more transactions than there may be connections run at once."""


def take_turn(tx: Transaction, project: str, *, alone: bool) -> None:
    """Let ``load`` be right for a job that this transaction keeps: ``alone``, no other of the project is kept until it ends."""
    if tx.dialect is Dialect.POSTGRES:  # on SQLite there is one transaction at a time
        tx.advisory(f"jobs of {project}", shared=not alone)


def load(tx: Transaction, project: str, now: datetime, *, alone: bool) -> Load:
    """Return how many jobs have not ended, and what the project uses today.

    On PostgreSQL jobs that come at the same moment do not see each other: those of other projects, and the project's own unless the
    transaction has its turn ``alone``. So the jobs of all may become more than a limit by as many as come with the last one.
    """
    unseen = tx.dialect is Dialect.POSTGRES and not alone
    row = tx.execute(_UNSEEN if unseen else _LOAD, {"project": project, "day": day(now)}).fetchone()
    own, promised, everywhere, used, *others = (value or 0 for value in row)
    return Load(own, everywhere, Tokens(used, promised), *others)


def note_usage(tx: Transaction, job: Job, outcome: Outcome) -> None:
    """Count the tokens of a job that has just ended."""
    spent, today = outcome.usage.prompt_tokens + outcome.usage.completion_tokens, day(job.ended or job.created)
    if not spent:
        return
    key = "project, day, slot" if tx.dialect is Dialect.POSTGRES else "project, day"
    sql = f"""INSERT INTO project_usage (project, day, tokens) VALUES (?, ?, ?)
        ON CONFLICT ({key}) DO UPDATE SET tokens = project_usage.tokens + excluded.tokens RETURNING tokens"""
    if tx.execute(sql, [job.project, today, spent]).fetchone()[0] == spent:  # the first of the day
        tx.execute("DELETE FROM project_usage WHERE project = ? AND day < ?", [job.project, today - USAGE_DAYS])


def purge(tx: Transaction, *, ended_before: datetime, project: str | None, limit: int) -> int:
    """Delete settled jobs that ended before, oldest first; return how many."""
    own = "" if project is None else "AND project = ?"
    sql = f"SELECT number, project FROM jobs WHERE {_SETTLED} AND ended < ? {own} ORDER BY ended LIMIT ?{tx.skip}"
    values: list[object] = [micros(ended_before), *([] if project is None else [project]), limit]
    return _delete(tx, tx.execute(sql, values).fetchall())


def purge_beyond(tx: Transaction, keep: int, *, own: Mapping[str, int], limit: int) -> int:
    """Delete the oldest settled jobs of a project that has more than it may, ``keep`` or its ``own``; return how many."""
    counts = job_kept.most(tx, min([keep, *own.values()]))
    beyond = ((project, count - own.get(project, keep)) for project, count in counts if count > own.get(project, keep))
    project, more = next(beyond, ("", 0))
    if not more:
        return 0
    sql = f"SELECT number, project FROM jobs WHERE project = ? AND {_SETTLED} ORDER BY number LIMIT ?{tx.skip}"
    return _delete(tx, tx.execute(sql, [project, min(limit, more)]).fetchall())


def _delete(tx: Transaction, found: list[tuple[int, str]]) -> int:
    # what belongs to a job goes with it: its tables refer to it with ON DELETE CASCADE
    if found:
        which, value = among(tx, [number for number, _ in found])
        tx.execute(f"DELETE FROM jobs WHERE number {which}", [value])
        job_kept.gone(tx, (project for _, project in found))
    return len(found)
