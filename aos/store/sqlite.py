"""One SQLite file, one thread that owns it, and writes that are committed together."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final, TypeAlias, TypeVar

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from aos.store.listeners import Listeners
from aos.store.schema import sqlite_migrations
from aos.store.sql import Dialect, Parameters
from aos.store.sqlite_checkpoints import MOST_PAGES, Checkpoints
from aos.store.waiting import Asked, Outcome, deliver

GROUP: Final = 256
"""Most transactions that share one commit."""
BUSY_SECONDS: Final = 10.0
"""How long to wait for another process (a backup, the sqlite-utils CLI) to let go of the file."""

STATEMENTS: Final = 512
"""Most statements that are kept prepared: more than there are."""
IN_MEMORY: Final = ":memory:"
"""The path of a database that is no file, and has no log."""
ATTEMPT: Final = "attempt"
"""The savepoint of one transaction among others."""

T = TypeVar("T")


class SqliteTransaction(Database):
    """The connection as one transaction sees it. Satisfies Transaction.

    Runs statements as they are: all of ours run in a transaction, so that sqlite-utils' own precautions, two more statements for a
    query, guard against nothing; and each statement may have to wait for Python's lock.
    """

    dialect = Dialect.SQLITE
    lock = skip = ""  # there is one transaction at a time

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.notes: list[tuple[str, str]] = []
        """What to tell once the commit is made."""
        self.remembered: dict[object, Any] = {}
        """What a transaction leaves for later ones, until another connection has written to the file. It is there though the
        transaction may be undone: only for what may run ahead of the file."""
        self.last: dict[object, Callable[[], object]] = {}
        """What is still to be written before the commit, by what it is of: once, for all that share the commit. It is written
        though the transaction that asked may be undone."""
        self._version = 0

    def look(self) -> None:
        """Forget what is remembered if another connection has written to the file. To be called when a transaction has begun."""
        version = self.conn.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:
            self._version = version
            self.remembered.clear()

    def write_last(self) -> None:
        """Write what is still to be written."""
        last, self.last = self.last, {}
        for write in last.values():
            write()

    def execute(self, sql: str, parameters: Parameters | None = None) -> sqlite3.Cursor:
        return self.conn.execute(sql, () if parameters is None else parameters)  # pyright: ignore[reportArgumentType]  # a mapping does

    def query(self, sql: str, params: Parameters | None = None) -> Generator[dict[str, Any]]:
        cursor = self.execute(sql, params)
        names = [name for name, *_ in cursor.description]
        return (dict(zip(names, row, strict=True)) for row in cursor)

    def advisory(self, key: str, *, alone: bool = True) -> None:
        """Do nothing: there is one transaction at a time."""

    def notify(self, channel: str, payload: str) -> None:
        self.notes.append((channel, payload))


_Job: TypeAlias = Asked[SqliteTransaction]
_Outcome: TypeAlias = Outcome[SqliteTransaction]


class SqliteFile:
    """Runs functions on the connection, one at a time, each in its own transaction. Satisfies SqlDatabase.

    A call returns once its transaction is on disk. Transactions that wait at the same time share one commit (and so one fsync);
    one that raises is rolled back alone. Those that need not outlive a loss of power are given to the system, not waited for: each
    is on disk before any that comes behind it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._inbox: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="aos-sqlite", daemon=True)
        self._opened: Future[None] = Future()
        self._waits = True
        self._listeners = Listeners()

    async def transact(self, work: Callable[[SqliteTransaction], T], *, durable: bool = True) -> T:
        """Return what ``work`` returns, once it is kept. What it raises is raised here, and nothing of it is kept.

        Not ``durable``: it outlives any end of this process, but not a loss of power within the next moments.
        """
        loop = asyncio.get_running_loop()
        job = Asked(work, durable, loop.create_future(), loop)
        self._inbox.put(job)
        # a caller that is cancelled stops waiting, but what it asked for happens whole
        return await job.done

    async def migrate(self, *names: str) -> None:
        """Bring these tables up to date."""
        for name in names:
            await self.transact(sqlite_migrations(name).apply)

    def listen(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[str | None]]:
        """Hear what transactions of this object tell on the channel."""
        return self._listeners.listening(channel)

    def waiting(self) -> int:
        """Return about how many transactions have been asked for and not begun."""
        return self._inbox.qsize()

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
        checkpoints = Checkpoints(self._path)
        try:
            connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, cached_statements=STATEMENTS)
            db = SqliteTransaction(connection)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"wal_autocheckpoint={MOST_PAGES}"):
                connection.execute(f"PRAGMA {pragma}")
            if self._path != IN_MEMORY:
                checkpoints.start()
        except BaseException as error:
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        try:
            while self._group(db):
                checkpoints.committed()
        finally:
            checkpoints.close()
            connection.close()

    def _group(self, db: SqliteTransaction) -> bool:
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
        self._wait_for_disk(db, wait=any(one.durable for one in jobs))
        outcomes = _tried(db, jobs, _freely) or _tried(db, jobs, _apart) or []
        if db.notes:
            notes, db.notes = db.notes, []
            self._listeners.tell(notes)
        deliver(outcomes)
        return not stop

    def _wait_for_disk(self, db: SqliteTransaction, *, wait: bool) -> None:
        if wait is not self._waits:
            db.execute(f"PRAGMA synchronous={'FULL' if wait else 'NORMAL'}")
            self._waits = wait


@contextmanager
def _immediately(db: SqliteTransaction) -> Generator[None]:
    """Run the block as one transaction that waits for the lock here.

    One that begins by reading gets no time to wait when it comes to write: while a checkpoint or another process has the lock,
    SQLite refuses at once (https://sqlite.org/lang_transaction.html).
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        db.last.clear()  # of one that was undone
        db.look()
        yield
        db.write_last()
        db.execute("COMMIT")
    except BaseException:
        if db.conn.in_transaction:  # some errors have undone it already
            db.execute("ROLLBACK")
        raise


class _Spoilt(Exception):
    """A transaction wrote something before it failed, and the others of its group must not lose what they wrote."""


def _tried(
    db: SqliteTransaction, jobs: Sequence[_Job], run: Callable[[SqliteTransaction, _Job], _Outcome]
) -> list[_Outcome] | None:
    """Return what came of the jobs, all committed together; None if nothing is kept and they are to be run again, apart."""
    try:
        with _immediately(db):
            return [run(db, job) for job in jobs]
    except _Spoilt as spoilt:
        db.notes.clear()
        # alone, it spoils nothing but its own
        return [(jobs[0], None, spoilt.__cause__)] if len(jobs) == 1 else None
    except BaseException as error:  # the commit itself failed: nobody's work is kept
        db.notes.clear()
        return [(job, None, error) for job in jobs]


def _freely(db: SqliteTransaction, job: _Job) -> _Outcome:
    """Run a job without a savepoint. Hardly any fails after it wrote something: so all pay for those that do, and seldom."""
    changes, told = db.conn.total_changes, len(db.notes)
    try:
        return job, job.work(db), None
    except Exception as error:
        if db.conn.total_changes != changes:
            raise _Spoilt from error
        del db.notes[told:]
        return job, None, error


def _apart(db: SqliteTransaction, job: _Job) -> _Outcome:
    db.execute(f"SAVEPOINT {ATTEMPT}")  # what this one raises undoes only its own writes
    told = len(db.notes)
    try:
        result = job.work(db)
    except Exception as error:
        db.execute(f"ROLLBACK TO {ATTEMPT}")
        db.execute(f"RELEASE {ATTEMPT}")
        del db.notes[told:]
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
