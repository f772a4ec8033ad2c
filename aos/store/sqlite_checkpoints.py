"""Moving what was committed from SQLite's log into its file, on a thread of its own.

SQLite does it in every hundredth commit or so, and that one then waits for the disk twice: it would be the slowest hundredth of all
that is asked of the file.
"""

from __future__ import annotations

import logging
import sqlite3
from threading import Event, Thread
from typing import Final

EVERY: Final = 100
"""Commits from one checkpoint to the next."""
RESTART_PAGES: Final = 4_096
"""A log of so many pages, 16 MiB, is begun anew as soon as nobody uses it."""
MOST_PAGES: Final = 16_384
"""A log of so many, 64 MiB, is moved by whoever commits: then the disk is too slow for this thread to keep up."""

log = logging.getLogger(__name__)


class Checkpoints:
    """Checkpoints of one file in WAL mode. All but ``close`` is called on the thread that writes."""

    def __init__(self, path: str) -> None:
        self._path, self._commits = path, 0
        self._wanted, self._closed = Event(), False
        self._thread = Thread(target=self._run, name="aos-sqlite-checkpoints", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def committed(self) -> None:
        """Count a commit."""
        self._commits += 1
        if self._commits >= EVERY:
            self._commits = 0
            self._wanted.set()

    def close(self) -> None:
        """End the thread. What is in the log stays there: the last connection that is closed moves it."""
        self._closed = True
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        # waits for nobody: who holds the file is about to commit, and then it is asked again
        connection = sqlite3.connect(self._path, timeout=0.0, isolation_level=None)
        try:
            while self._wanted.wait() and not self._closed:
                self._wanted.clear()
                try:
                    _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                    if pages >= RESTART_PAGES:
                        # all but what came since is moved by now, so that writers are kept waiting for little
                        connection.execute("PRAGMA wal_checkpoint(RESTART)")
                except sqlite3.OperationalError as error:
                    log.debug("a checkpoint comes later: %s", error)
        finally:
            connection.close()
