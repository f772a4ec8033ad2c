"""The marks for values in a statement, as PostgreSQL wants them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

from aos.store.sql import Parameters

STATEMENTS: Final = 1024
"""Most statements whose translation is remembered; the stores have some hundred."""

_TOKEN: Final = re.compile(
    r"""
    ('(?:[^']|'')*' | "(?:[^"]|"")*" | ::)  # quoted text, a quoted name, a cast
    | (\?)
    | :([A-Za-z_][A-Za-z_0-9]*)
    """,
    re.VERBOSE,
)
_LOCKS: Final = re.compile(r"\bFOR (NO KEY )?(UPDATE|SHARE)\b")


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with `$1` and so on for its values."""

    sql: str
    names: tuple[str, ...] | None
    """Of the values, in their order; None where they have none."""
    reads: bool
    """Whether it is a query that locks nothing, or no query at all: what must come before writing need not come before it."""
    alone: bool = False
    """Whether it says how its transaction is run."""

    def values(self, parameters: Parameters) -> list[Any]:
        """Return the values in their order."""
        if self.names is None:
            return list(parameters)
        given = cast("dict[str, Any]", parameters)
        return [given[name] for name in self.names]


@lru_cache(maxsize=STATEMENTS)
def with_numbers(sql: str) -> Statement:
    """Return the statement with numbers for `?`, of which each is another value, and for `:name`, of which each name is one."""
    names = list[str]()
    marks = 0

    def mark(found: re.Match[str]) -> str:
        nonlocal marks
        kept, question, name = found.groups()
        if kept:
            return kept
        if question:
            marks += 1
            return f"${marks}"
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    numbered = _TOKEN.sub(mark, sql)
    alone = sql.startswith("SET TRANSACTION")
    reads = alone or (sql.startswith("SELECT") and not _LOCKS.search(sql))
    return Statement(numbered, tuple(names) if names else None, reads, alone)
