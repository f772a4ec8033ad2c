"""A pool of connections to PostgreSQL, and transactions on them, each on a thread of its own."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, LiteralString, TypeVar, cast

import psycopg
from psycopg import Connection, Pipeline
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from aos.errors import InvalidField, ServiceUnavailable
from aos.store.placeholders import with_percents
from aos.store.postgres_address import connection_string
from aos.store.postgres_migrations import bring_up
from aos.store.postgres_news import News
from aos.store.sql import Cursor, Dialect, Parameters

WAITING: Final = 8192
"""Most transactions that wait for a connection; more are refused at once."""
CONNECTION_SECONDS: Final = 5.0
"""How long a transaction waits for a connection that works."""
ATTEMPTS: Final = 8
"""How often a transaction is run that others get in the way of."""
AWAY_SECONDS: Final = 5.0
"""How long after its beginning a transaction is run again because the database was away. Each attempt may take as long as a
connection takes to be given up, and a pool has many that are as dead as the first."""
PAUSE_SECONDS: Final = 0.02
"""Longest pause between two attempts."""
OPENING_SECONDS: Final = 10.0
"""How long a database is waited for that is starting up."""
PREPARED: Final = 300
"""Most statements that one connection keeps prepared."""
PAYLOAD: Final = 7000
"""Most bytes of one note: PostgreSQL takes fewer than 8000 with the channel's name."""

_CONFLICTS: Final = frozenset({"40001", "40P01", "23505"})
"""Serialization, deadlock, and two that made the same row at once: the second to run sees the first's."""
_AWAY: Final = ("08", "53", "57", "55P03")
"""Connections, too few resources, cancelled or shutting down, a lock that nobody let go of."""

T = TypeVar("T")


class _Failed(Exception):
    """The database said no, or nothing: before the commit was sent, or after."""

    def __init__(self, error: psycopg.Error, *, committing: bool) -> None:
        super().__init__(str(error))
        self.error, self.committing = error, committing


class _PipelinedCursor:
    """A cursor that has been sent; its answer is read when asked for."""

    __slots__ = ("_cursor", "_pipeline")

    def __init__(self, cursor: psycopg.Cursor[Any], pipeline: Pipeline) -> None:
        self._cursor, self._pipeline = cursor, pipeline

    @property
    def rowcount(self) -> int:
        if self._cursor.pgresult is None:
            self._pipeline.sync()
        return self._cursor.rowcount

    @property
    def names(self) -> list[str]:
        return [column.name for column in self._cursor.description or ()]

    def fetchone(self) -> Any:
        return self._cursor.fetchone()

    def fetchall(self) -> list[Any]:
        return self._cursor.fetchall()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor.fetchall())


def _named(cursor: _PipelinedCursor) -> Iterator[dict[str, Any]]:
    rows = cursor.fetchall()
    names = cursor.names
    yield from (dict(zip(names, row, strict=True)) for row in rows)


class PostgresTransaction:
    """One transaction on one connection. Satisfies Transaction."""

    dialect = Dialect.POSTGRES
    # rows that refer to a locked one may still be added: what they refer to, its key, does not change
    lock = " FOR NO KEY UPDATE"
    skip = " FOR NO KEY UPDATE SKIP LOCKED"

    def __init__(self, connection: Connection[Any], pipeline: Pipeline) -> None:
        self._connection, self._pipeline = connection, pipeline
        self.notes: list[tuple[str, str]] = []
        """What to tell once the commit is made."""

    def execute(self, sql: str, parameters: Parameters = ()) -> Cursor:
        return self._execute(sql, parameters)

    def query(self, sql: str, parameters: Parameters = ()) -> Iterator[dict[str, Any]]:
        return _named(self._execute(sql, parameters))

    def _execute(self, sql: str, parameters: Parameters) -> _PipelinedCursor:
        cursor = self._connection.cursor(binary=True)
        # our own statements, whose values are always bound
        cursor.execute(cast("LiteralString", with_percents(sql)), parameters)
        return _PipelinedCursor(cursor, self._pipeline)

    def advisory(self, key: str, *, shared: bool = False) -> None:
        self._execute(f"SELECT pg_advisory_xact_lock{'_shared' if shared else ''}(hashtextextended(?, 0))", [key])

    def notify(self, channel: str, payload: str) -> None:
        if len(payload.encode()) > PAYLOAD:
            raise ValueError(f"payload: more than {PAYLOAD} bytes")
        self.notes.append((channel, payload))


class PostgresPool:
    """Runs functions in transactions, several at a time, each on a connection of its own. Satisfies SqlDatabase.

    READ COMMITTED; who decides upon rows locks them first. What is told goes out after the commit, many notes together: within a
    transaction each would hold a lock that all others' commits wait for.
    """

    def __init__(self, url: str, *, connections: int) -> None:
        """Raises InvalidField for a URL that none is."""
        self._conninfo = connection_string(url)
        self._pool = ConnectionPool(
            self._conninfo,
            min_size=1,
            max_size=connections,
            open=False,
            timeout=CONNECTION_SECONDS,
            reconnect_timeout=CONNECTION_SECONDS,
            configure=_configure,
            name="aos",
        )
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="aos-postgres")
        self._asked, self._connections = 0, connections
        self._news = News(self._conninfo, announce=self._announce)

    async def start(self) -> None:
        """Connect. Raises InvalidField with what the database says if it refuses, or is not there."""
        await asyncio.to_thread(self._open)
        try:
            await self._news.start()
        except TimeoutError as error:
            raise InvalidField("database", "PostgreSQL: no connection is left to listen on") from error

    def _open(self) -> None:
        until = time.monotonic() + OPENING_SECONDS
        while True:
            try:
                psycopg.connect(self._conninfo).close()
            except psycopg.Error as error:
                problem = str(error).strip()
                # one that is there and refuses will do so again
                if ("FATAL" in problem and "starting up" not in problem) or time.monotonic() > until:
                    raise InvalidField("database", f"PostgreSQL: {problem}") from error
                time.sleep(PAUSE_SECONDS)
            else:
                self._pool.open()
                return

    async def aclose(self) -> None:
        """Finish what was asked for, then close. Idempotent."""
        await self._news.aclose()
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._pool.close)

    async def migrate(self, *names: str) -> None:
        """Bring these tables up to date. Several processes may do so at once: each waits for the one before."""
        await asyncio.to_thread(bring_up, self._conninfo, names)

    def listen(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[str | None]]:
        """Hear what is told on the channel, by any process."""
        return self._news.listen(channel)

    def waiting(self) -> int:
        """Return about how many transactions have been asked for and not begun."""
        return max(0, self._asked - self._connections)

    async def transact(self, work: Callable[[PostgresTransaction], T], *, durable: bool = True) -> T:
        """Return what ``work`` returns, once it is kept; it is run again after a conflict.

        Raises ServiceUnavailable when the database is away, or too many wait.
        """
        if self.waiting() >= WAITING:
            raise ServiceUnavailable("database")
        self._asked += 1
        try:
            result, notes = await asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: self._run(work, durable=durable)
            )
        finally:
            self._asked -= 1
        if notes:
            self._news.tell(notes)
        return result

    async def _announce(self, notes: list[tuple[str, str]]) -> None:
        sql = "SELECT pg_notify(channel, payload) FROM unnest(?::text[], ?::text[]) AS notes (channel, payload)"
        channels, payloads = [list(column) for column in zip(*notes, strict=True)]
        await self.transact(lambda tx: tx.execute(sql, [channels, payloads]) and None, durable=False)

    def _run(self, work: Callable[[PostgresTransaction], T], *, durable: bool) -> tuple[T, list[tuple[str, str]]]:
        attempt, until = 0, time.monotonic() + AWAY_SECONDS
        while True:
            attempt += 1
            try:
                return self._attempt(work, durable=durable)
            except (PoolTimeout, PoolClosed) as error:
                raise ServiceUnavailable("database") from error
            except _Failed as failed:
                error = failed.error
                away = _away(error) and not failed.committing and time.monotonic() < until
                again = error.sqlstate in _CONFLICTS or away
                if not again or attempt == ATTEMPTS:
                    raise _told(error) from error
                time.sleep(random.uniform(0, PAUSE_SECONDS))  # noqa: S311  # so that two do not meet again

    def _attempt(self, work: Callable[[PostgresTransaction], T], *, durable: bool) -> tuple[T, list[tuple[str, str]]]:
        committing = False
        with self._pool.connection() as connection:
            try:
                with connection.pipeline() as pipeline:
                    if not durable:
                        connection.execute("SET LOCAL synchronous_commit TO OFF")
                    tx = PostgresTransaction(connection, pipeline)
                    result = work(tx)
                    committing = True
                    connection.commit()
            except BaseException as error:
                if not connection.closed:
                    connection.rollback()
                if isinstance(error, psycopg.Error):
                    raise _Failed(error, committing=committing) from error
                raise
            return result, tx.notes


def _configure(connection: Connection[Any]) -> None:
    connection.prepared_max = PREPARED
    # all of our integers have 64 bits: one statement is one plan, whatever their sizes
    for dumper in (Int8Dumper, Int8BinaryDumper):
        connection.adapters.register_dumper(int, dumper)


def _away(error: psycopg.Error) -> bool:
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(_AWAY)


def _told(error: psycopg.Error) -> Exception:
    """Return what the caller is told."""
    if _away(error):
        return ServiceUnavailable("database")
    if isinstance(error, psycopg.DataError) and "NUL" in str(error):
        return InvalidField("text", "has a NUL character, which the database cannot keep")
    return error


@asynccontextmanager
async def postgres_pool(url: str, *, connections: int) -> AsyncGenerator[PostgresPool]:
    """Connect to the database, and close all with the block. Raises InvalidField for what is none, or refuses."""
    pool = PostgresPool(url, connections=connections)
    try:
        await pool.start()
        yield pool
    finally:
        await pool.aclose()
