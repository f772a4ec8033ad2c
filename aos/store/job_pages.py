"""Which jobs a page of a list shows: for each filter a statement that reads about as many rows as it shows."""

# ruff: noqa: S608  # the pieces of the statements are constants; values are always bound

from __future__ import annotations

from datetime import timedelta
from typing import Final

from aos.dispatcher.jobs import Money, State
from aos.dispatcher.listing import JobFilter
from aos.store.job_rows import micros

SKEW: Final = timedelta(minutes=1)
"""By so much at most a job may have been created later than one that has a higher number: clocks differ, and writes take time."""
_LAST: Final = (1 << 63) - 1
_ACCEPTED: Final = f"money > {int(Money.PENDING)}"
_UNENDED: Final = f"state < {int(State.COMPLETED)}"
_ENDED: Final = f"state >= {int(State.COMPLETED)}"


def numbers(only: JobFilter, *, before: int | None, limit: int) -> tuple[str, list[object]]:
    """Return the statement that finds the numbers of the jobs that fit, newest first and at most ``limit``, and its values.

    What finds the fewest leads: a user, then a model, then a state. An administrator's list of one model, over all projects, has
    no index and looks at jobs, newest first, until it has enough.
    """
    if only.user:
        return _of_user(only, before, limit)
    if not only.states or (only.model and only.project):
        where, values = _conditions(only, before, "number")
        return _newest("jobs", "number", [*where, *_states(only)]), [*values, limit]
    where, values = _conditions(only, before, "number")
    each = [
        _newest("jobs", "number", [*where, f"state = {int(state)}", _ENDED if state.final else _UNENDED])
        for state in sorted(only.states)
    ]
    if len(each) == 1:
        return each[0], [*values, limit]
    parts = " UNION ALL ".join(f"SELECT number FROM ({one}) AS part{index}" for index, one in enumerate(each))
    return f"SELECT number FROM ({parts}) AS parts ORDER BY number DESC LIMIT ?", [*([*values, limit] * len(each)), limit]


def _of_user(only: JobFilter, before: int | None, limit: int) -> tuple[str, list[object]]:
    # CROSS JOIN: SQLite reads them in this order then
    if only.project is not None:
        tables, key, who, values = "job_risk CROSS JOIN jobs", "job_risk.number", ["owner = ?", "enduser = ?"], [only.project]
    else:
        tables, key, who, values = "job_requests CROSS JOIN jobs", "job_requests.number", ['job_requests."user" = ?'], []
    where, more = _conditions(only, before, key)
    where = [f"jobs.number = {key}", *who, *(one for one in where if one != "project = ?"), *_states(only)]
    return _newest(tables, key, where), [*values, only.user, *more[only.project is not None :], limit]


def _newest(tables: str, key: str, where: list[str]) -> str:
    return f"SELECT {key} FROM {tables} WHERE {' AND '.join(where)} ORDER BY {key} DESC LIMIT ?"


def _states(only: JobFilter) -> list[str]:
    return [f"state IN ({', '.join(str(int(state)) for state in sorted(only.states))})"] if only.states else []


def _conditions(only: JobFilter, before: int | None, key: str) -> tuple[list[str], list[object]]:
    """Return the conditions besides user and states, the project's first, and their values."""
    earlier, later = only.created_from, only.created_before
    found: tuple[tuple[str, list[object] | None], ...] = (
        ("project = ?", None if only.project is None else [only.project]),
        (_ACCEPTED, []),
        ("model = ?", [only.model] if only.model else None),
        (f"{key} < ?", [_LAST if before is None else before]),  # always there: SQLite finds the order by it
        # the numbers between which the times are, so that nothing else is looked at
        (
            f"created >= ? AND {key} >= coalesce((SELECT number FROM jobs WHERE created < ? ORDER BY created DESC LIMIT 1), 0)",
            None if earlier is None else [micros(earlier), micros(earlier - SKEW)],
        ),
        (
            f"created < ? AND {key} <= coalesce((SELECT number FROM jobs WHERE created >= ? ORDER BY created LIMIT 1), {_LAST})",
            None if later is None else [micros(later), micros(later + SKEW)],
        ),
    )
    kept = [(condition, values) for condition, values in found if values is not None]
    return [condition for condition, _ in kept], [value for _, values in kept for value in values]
