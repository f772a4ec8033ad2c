"""The marks for values in a statement, as PostgreSQL's driver wants them. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

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


def _mark(found: re.Match[str]) -> str:
    kept, question, name = found.groups()
    if kept:
        return kept
    return "%s" if question else f"%({name})s"


@lru_cache(maxsize=STATEMENTS)
def with_percents(sql: str) -> str:
    """Return the statement with `%s` for `?`, `%(name)s` for `:name`, and `%%` for `%`."""
    return _TOKEN.sub(_mark, sql.replace("%", "%%"))
