"""How many ended jobs are kept of each project, counted as they come and go: counting them anew takes longer the more there are.

On PostgreSQL a project has a row for each slot of connections, so that transactions that run side by side do not wait for each
other; together they are its count, and one alone may be below 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from aos.store.sql import Dialect, Transaction


def came(tx: Transaction, projects: Iterable[str]) -> None:
    """Note that the money of a job of each of these was settled: it is kept from then on."""
    for project, jobs in sorted(Counter(projects).items()):
        _add(tx, project, jobs)


def gone(tx: Transaction, projects: Iterable[str]) -> None:
    """Note that a kept job of each of these was deleted."""
    for project, jobs in sorted(Counter(projects).items()):
        _add(tx, project, -jobs)


def most(tx: Transaction, least: int) -> list[tuple[str, int]]:
    """Return the projects of which more than ``least`` are kept, and how many, the most first."""
    if tx.dialect is Dialect.SQLITE:  # along an index
        sql = "SELECT project, jobs FROM project_kept WHERE jobs > ? ORDER BY jobs DESC"
    else:
        sql = """SELECT project, CAST(sum(jobs) AS BIGINT) FROM project_kept
            GROUP BY project HAVING sum(jobs) > ? ORDER BY sum(jobs) DESC"""
    return tx.execute(sql, [least]).fetchall()


def _add(tx: Transaction, project: str, jobs: int) -> None:
    key = "project, slot" if tx.dialect is Dialect.POSTGRES else "project"
    sql = f"""INSERT INTO project_kept (project, jobs) VALUES (?, ?)
        ON CONFLICT ({key}) DO UPDATE SET jobs = project_kept.jobs + excluded.jobs"""  # noqa: S608  # constants
    tx.execute(sql, [project, jobs])
