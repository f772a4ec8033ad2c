"""A database of PostgreSQL: threads with connections that run transactions, and news."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Final, TypeVar

import psycopg

from aos.errors import InvalidField, ServiceUnavailable
from aos.store.postgres_address import connection_string
from aos.store.postgres_groups import PAUSE_SECONDS, Lane, Note, PostgresTransaction
from aos.store.postgres_migrations import bring_up
from aos.store.postgres_news import News
from aos.store.waiting import Asked, Waiting

WAITING: Final = 8192
"""Most transactions that wait for a connection; more are refused at once."""
GROUP: Final = 64
"""Most transactions that share one of PostgreSQL's."""
AT_ONCE: Final = 1
"""Groups that run side by side, unless one takes long."""
OPENING_SECONDS: Final = 10.0
"""How long a database is waited for that is starting up."""

T = TypeVar("T")


class PostgresPool:
    """Runs functions in transactions; those that wait at the same time share one. Satisfies SqlDatabase.

    A group that fails is undone, and its transactions are run again, each alone: what one raises undoes only its own. READ
    COMMITTED; who decides upon rows locks them first. What is told goes out after the commit, many notes together: within a
    transaction each would hold a lock that all others' commits wait for.
    """

    def __init__(self, url: str, *, connections: int, turn: str = "") -> None:
        """``turn``: transactions that write come one after the other, also those of others with the same word.

        Raises InvalidField for a URL that none is.
        """
        self._conninfo = connection_string(url)
        self._waiting = Waiting[PostgresTransaction](at_once=min(AT_ONCE, connections), most=GROUP)
        self._lanes = [Lane(number, self._waiting, self._conninfo, turn, self._tell) for number in range(connections)]
        self._loop: asyncio.AbstractEventLoop
        self._news = News(self._conninfo, announce=self._announce)

    async def start(self) -> None:
        """Connect. Raises InvalidField with what the database says if it refuses, or is not there."""
        self._loop = asyncio.get_running_loop()
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
                for lane in self._lanes:
                    lane.start()
                return

    async def aclose(self) -> None:
        """Finish what was asked for, then close. Idempotent."""
        await self._news.aclose()
        self._waiting.close()
        for lane in self._lanes:
            if lane.is_alive():
                await asyncio.to_thread(lane.join)

    async def migrate(self, *names: str) -> None:
        """Bring these tables up to date. Several processes may do so at once: each waits for the one before."""
        await asyncio.to_thread(bring_up, self._conninfo, names)

    def listen(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[str | None]]:
        """Hear what is told on the channel, by any process."""
        return self._news.listen(channel)

    def waiting(self) -> int:
        """Return about how many transactions have been asked for and not begun."""
        return len(self._waiting)

    async def transact(self, work: Callable[[PostgresTransaction], T], *, durable: bool = True) -> T:
        """Return what ``work`` returns, once it is kept; it is run again after a conflict.

        Raises ServiceUnavailable when the database is away, or too many wait.
        """
        return await self._asked(work, durable=durable)

    async def _asked(self, work: Callable[[PostgresTransaction], T], *, durable: bool, alone: bool = False) -> T:
        loop = asyncio.get_running_loop()
        asked: Asked[PostgresTransaction] = Asked(work, durable, loop.create_future(), loop, alone)
        if self.waiting() >= WAITING or not self._waiting.put(asked):
            raise ServiceUnavailable("database")
        # a caller that is cancelled stops waiting, but what it asked for happens whole
        return await asked.done

    def _tell(self, notes: Sequence[Note]) -> None:
        with suppress(RuntimeError):  # its loop is closed: nobody is told any more
            self._loop.call_soon_threadsafe(self._news.tell, notes)

    async def _announce(self, notes: list[Note]) -> None:
        sql = "SELECT pg_notify(channel, payload) FROM unnest(?::text[], ?::text[]) AS notes (channel, payload)"
        channels, payloads = [list(column) for column in zip(*notes, strict=True)]
        # notes are a lock, too, that all others' commits wait for
        await self._asked(lambda tx: tx.execute(sql, [channels, payloads]) and None, durable=False, alone=True)


@asynccontextmanager
async def postgres_pool(url: str, *, connections: int, turn: str = "") -> AsyncGenerator[PostgresPool]:
    """Connect to the database, and close all with the block. Raises InvalidField for what is none, or refuses."""
    pool = PostgresPool(url, connections=connections, turn=turn)
    try:
        await pool.start()
        yield pool
    finally:
        await pool.aclose()
