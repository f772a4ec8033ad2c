"""A copy of a SQLite file as it is at one moment, while others write to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

MAGIC: Final = b"SQLite format 3\0"
"""How every such file begins."""
BUSY_SECONDS: Final = 30.0
"""How long to wait for who has the file to itself."""


def is_sqlite(path: Path) -> bool:
    """Say whether the file is a SQLite database; False if it is gone."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except FileNotFoundError:
        return False


def snapshot(source: Path, target: Path) -> None:
    """Write all that was committed to ``source`` when this begins to ``target``, a new file that needs no other.

    Writers go on meanwhile: the pages are read in one transaction, which in WAL mode keeps nobody waiting, and takes what lies in
    the log along. Raises OSError if either cannot be read or written.
    """
    try:
        with closing(_opened(source)) as live, closing(_opened(target)) as copy:
            live.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise OSError(f"{source} cannot be copied: {error}") from error


def check(path: Path) -> str:
    """Return what SQLite finds wrong with the file; empty if nothing."""
    try:
        with closing(_opened(path)) as db:
            found = [str(row[0]) for row in db.execute("PRAGMA quick_check(3)")]
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if found == ["ok"] else "; ".join(found)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
