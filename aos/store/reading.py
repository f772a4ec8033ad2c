"""What both databases are asked and told, each in its words."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Any, Final

from aos.store.sql import Dialect, Transaction

ROWS: Final = 256
"""Most rows that one statement writes."""


def first(tx: Transaction, sql: str, *values: object) -> dict[str, Any] | None:
    """Return the first row; None if there is none."""
    return next(iter(tx.query(sql, values)), None)


def among(tx: Transaction, values: Iterable[str | int]) -> tuple[str, Any]:
    """Return what comes behind a column that is to have one of these values, however many, and the value of its `?`."""
    found = list(values)
    return ("IN (SELECT value FROM json_each(?))", json.dumps(found)) if tx.dialect is Dialect.SQLITE else ("= ANY(?)", found)


def each_of(tx: Transaction, values: Iterable[str]) -> tuple[str, Any]:
    """Return what stands for a table with one column ``value``, which holds these, and the value of its `?`. To be given a name."""
    found = list(values)
    # SQLite's has the column by itself; PostgreSQL's needs a query around it
    return (
        ("json_each(?)", json.dumps(found))
        if tx.dialect is Dialect.SQLITE
        else ("(SELECT unnest(CAST(? AS text[])) AS value)", found)
    )


def at_one_time(tx: Transaction) -> None:
    """Let all that this transaction reads be as it is at one time. To be called first, and only where nothing is written."""
    if tx.dialect is Dialect.POSTGRES:
        tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


def slots(rows: int, columns: int) -> str:
    """Return the marks of so many rows of values."""
    one = f"({', '.join('?' * columns)})"
    return ", ".join([one] * rows)


def kept(table: str, columns: Collection[str], key: str = "") -> str:
    """Return the statement that writes a row of these columns, by their names; one that has the key already is replaced."""
    others = ", ".join(f"{one} = excluded.{one}" for one in columns if one != key)
    marks = ", ".join(f":{one}" for one in columns)
    instead = f" ON CONFLICT ({key}) DO UPDATE SET {others}" if key else ""
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}){instead}"  # noqa: S608  # names of ours


def insert_all(tx: Transaction, into: str, rows: Sequence[Sequence[object]], behind: str = "") -> list[Any]:
    """Insert all rows, in their order, in few statements, as each may have to wait for Python's lock; return what they return.

    ``into`` is a table with its columns; ``behind`` comes behind the values. Both are words of ours. Statements have a power of two
    of rows, so that there are few of them, which stay prepared.
    """
    returned: list[Any] = []
    start = 0
    while left := len(rows) - start:
        part = rows[start : start + min(ROWS, 1 << left.bit_length() - 1)]
        cursor = tx.execute(_insert(into, len(part), len(part[0]), behind), [value for row in part for value in row])
        if "RETURNING" in behind:
            returned += cursor.fetchall()
        start += len(part)
    return returned


@cache
def _insert(into: str, rows: int, columns: int, behind: str) -> str:
    return f"INSERT INTO {into} VALUES {slots(rows, columns)}{behind}"  # noqa: S608  # words of ours and marks
