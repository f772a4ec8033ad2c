"""What both databases are asked and told, each in its words."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from aos.store.sql import Dialect, Transaction


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
