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
_PURGE: Final = "jobs purge"
"""One at a time: it takes long, and so shares its transaction with nobody."""
_SETTLED: Final = f"money = {int(Money.SETTLED)}"


_LOAD: Final = """SELECT
    (SELECT CAST(sum(jobs) AS BIGINT) FROM project_load WHERE project = :project),
    (SELECT CAST(sum(tokens) AS BIGINT) FROM project_load WHERE project = :project),
    (SELECT CAST(sum(jobs) AS BIGINT) FROM project_load WHERE project = ''),
    (SELECT CAST(sum(tokens) AS BIGINT) FROM project_usage WHERE project = :project AND day = :day)"""


def take_turn(tx: Transaction, project: str) -> None:
    """Let ``load`` be right for a job that this transaction keeps: no other of the project is kept until it ends."""
    if tx.dialect is Dialect.POSTGRES:  # on SQLite there is one transaction at a time
        tx.advisory(f"jobs of {project}", alone=False)


def load(tx: Transaction, project: str, now: datetime) -> Load:
    """Return how many jobs have not ended, and what the project uses today.

    On PostgreSQL jobs of other projects that come at the same moment are not seen, so that the jobs of all may become more than a
    limit by as many as come with the last one.
    """
    row = tx.execute(_LOAD, {"project": project, "day": day(now)}).fetchone()
    own, promised, everywhere, used = (value or 0 for value in row)
    return Load(own, everywhere, Tokens(used, promised))


_USED: Final = """INSERT INTO project_usage (project, day, tokens) VALUES (?, ?, ?)
    ON CONFLICT ({}) DO UPDATE SET tokens = project_usage.tokens + excluded.tokens"""
_FORGOTTEN: Final = "DELETE FROM project_usage WHERE project = ? AND day < ?"
# as one, because an answer to the first would be one that all of a group wait for
_USED_AND_FORGOTTEN: Final = f"""WITH used AS ({_USED.format("project, day, slot")} RETURNING tokens)
    {_FORGOTTEN} AND EXISTS (SELECT 1 FROM used WHERE tokens = ?)"""


def note_usage(tx: Transaction, job: Job, outcome: Outcome) -> None:
    """Count the tokens of a job that has just ended; with the first of a day, forget the days that are too long ago."""
    spent, today = outcome.usage.prompt_tokens + outcome.usage.completion_tokens, day(job.ended or job.created)
    if not spent:
        return
    old = [job.project, today - USAGE_DAYS]
    if tx.dialect is Dialect.POSTGRES:
        tx.execute(_USED_AND_FORGOTTEN, [job.project, today, spent, *old, spent])
    elif tx.execute(f"{_USED.format('project, day')} RETURNING tokens", [job.project, today, spent]).fetchone()[0] == spent:
        tx.execute(_FORGOTTEN, old)


def purge(tx: Transaction, *, ended_before: datetime, project: str | None, limit: int) -> int:
    """Delete settled jobs that ended before, oldest first; return how many."""
    tx.advisory(_PURGE)
    own = "" if project is None else "AND project = ?"
    sql = f"SELECT number, project FROM jobs WHERE {_SETTLED} AND ended < ? {own} ORDER BY ended LIMIT ?{tx.skip}"
    values: list[object] = [micros(ended_before), *([] if project is None else [project]), limit]
    return _delete(tx, tx.execute(sql, values).fetchall())


def purge_beyond(tx: Transaction, keep: int, *, own: Mapping[str, int], limit: int) -> int:
    """Delete the oldest settled jobs of a project that has more than it may, ``keep`` or its ``own``; return how many."""
    tx.advisory(_PURGE)
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
