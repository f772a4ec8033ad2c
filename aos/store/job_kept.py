"""How many ended jobs are kept of each project, counted as they come and go: counting them anew takes longer the more there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from sqlite_utils import Database

from aos.dispatcher.jobs import Job, Money

_SETTLED: Final = f"money = {int(Money.SETTLED)}"


def create(db: Database) -> None:
    """Make the table, and count what there is."""
    db.execute("CREATE TABLE project_kept (project TEXT PRIMARY KEY, jobs INTEGER NOT NULL) STRICT, WITHOUT ROWID")
    db.execute("CREATE INDEX project_kept_jobs ON project_kept (jobs)")
    count(db)


def count(db: Database) -> None:
    """Count anew."""
    db.execute("DELETE FROM project_kept")
    db.execute(f"INSERT INTO project_kept SELECT project, count(*) FROM jobs WHERE {_SETTLED} GROUP BY project")  # noqa: S608


def moved(db: Database, before: Job, after: Job) -> None:
    """Follow a job's move: one whose money is settled is kept from then on."""
    if after.money is Money.SETTLED and before.money is not Money.SETTLED:
        sql = "INSERT INTO project_kept VALUES (?, 1) ON CONFLICT (project) DO UPDATE SET jobs = project_kept.jobs + 1"
        db.execute(sql, [after.project])


def gone(db: Database, projects: Iterable[str]) -> None:
    """Note that a kept job of each of these was deleted."""
    for project, jobs in sorted(Counter(projects).items()):
        db.execute("UPDATE project_kept SET jobs = jobs - ? WHERE project = ?", [jobs, project])


def most(db: Database, least: int) -> list[tuple[str, int]]:
    """Return the projects of which more than ``least`` are kept, and how many."""
    return db.execute("SELECT project, jobs FROM project_kept WHERE jobs > ? ORDER BY jobs DESC", [least]).fetchall()
