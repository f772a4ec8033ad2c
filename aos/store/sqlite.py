"""One SQLite file, one thread that owns it, and writes that are committed together."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final, TypeVar

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

GROUP: Final = 256
"""Most transactions that share one commit."""
BUSY_SECONDS: Final = 10.0
"""How long to wait for another process (a backup, the sqlite-utils CLI) to let go of the file."""

ATTEMPT: Final = "attempt"
"""The savepoint of one transaction among others."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[Database], Any]
    done: Future[Any]


class SqliteFile:
    """Runs functions on the connection, one at a time, each in its own transaction.

    A call returns once its transaction is on disk. Transactions that wait at the same time share one commit (and so one fsync);
    one that raises is rolled back alone.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._inbox: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="aos-sqlite", daemon=True)
        self._opened: Future[None] = Future()

    async def transact(self, work: Callable[[Database], T]) -> T:
        """Return what ``work`` returns, once it is durable. What it raises is raised here, and nothing of it is kept."""
        job = _Job(work, Future())
        self._inbox.put(job)
        # shielded: a caller that is cancelled stops waiting, but what it asked for happens whole
        return await asyncio.shield(asyncio.wrap_future(job.done))

    async def start(self) -> None:
        """Open the file, in WAL mode. Raises sqlite3.Error if it cannot be opened or is not a database."""
        self._thread.start()
        await asyncio.wrap_future(self._opened)

    async def aclose(self) -> None:
        """Finish what was asked for, then close. Idempotent."""
        if self._thread.is_alive():
            self._inbox.put(None)
            await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
            db = Database(connection)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException as error:
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        try:
            while self._group(db):
                pass
        finally:
            connection.close()

    def _group(self, db: Database) -> bool:
        """Run all that waits as one commit; False once asked to stop."""
        jobs: list[_Job] = []
        stop = False
        job = self._inbox.get()
        try:
            while True:
                if job is None:
                    stop = True
                    break
                jobs.append(job)
                if len(jobs) == GROUP:
                    break
                job = self._inbox.get_nowait()
        except Empty:
            pass
        outcomes: list[tuple[_Job, Any, BaseException | None]] = []
        try:
            with db.atomic():
                if len(jobs) == 1:  # needs no savepoint: what it raises undoes the whole
                    outcomes.append((jobs[0], jobs[0].work(db), None))
                else:
                    outcomes.extend(_attempt(db, job) for job in jobs)
        except BaseException as error:  # the commit itself failed: nobody's work is kept
            outcomes = [(job, None, error) for job in jobs]
        for done, result, error in outcomes:
            if error is None:
                done.done.set_result(result)
            else:
                done.done.set_exception(error)
        return not stop


def _attempt(db: Database, job: _Job) -> tuple[_Job, Any, BaseException | None]:
    db.execute(f"SAVEPOINT {ATTEMPT}")  # what this one raises undoes only its own writes
    try:
        result = job.work(db)
    except Exception as error:
        db.execute(f"ROLLBACK TO {ATTEMPT}")
        db.execute(f"RELEASE {ATTEMPT}")
        return job, None, error
    db.execute(f"RELEASE {ATTEMPT}")
    return job, result, None


@asynccontextmanager
async def sqlite_file(path: str | Path, *migrations: Migrations) -> AsyncGenerator[SqliteFile]:
    """Open (or make) the file, bring its tables up to date, and close it with the block. ``:memory:`` is a real one, too."""
    file = SqliteFile(str(path))
    await file.start()
    try:
        for one in migrations:
            await file.transact(one.apply)
        yield file
    finally:
        await file.aclose()
