"""News over PostgreSQL: one connection that listens, and notes that go out together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final

import psycopg
from psycopg import AsyncConnection, Notify

from aos.errors import ServiceUnavailable
from aos.store.listeners import Listeners

CHANNEL: Final = "aos"
"""Of the database's; ours are written in front of the payload, so that one connection hears all."""
UNTOLD: Final = 10_000
"""Most notes that wait for a database that is away; with more, all who listen are told to look again instead."""
PING_SECONDS: Final = 5.0
"""How long a silent connection is believed in; also how long its answer may take."""
PAUSE_SECONDS: Final = 0.2
"""Between two attempts to reach the database."""
_LOOK_AGAIN: Final = ""


class News:
    """Tells and hears. All of it happens in the event loop in which it was started."""

    def __init__(self, conninfo: str, *, announce: Callable[[list[tuple[str, str]]], Awaitable[None]]) -> None:
        """``announce`` sends (channel of the database, payload) pairs; it raises ServiceUnavailable if it cannot."""
        self._conninfo, self._announce = conninfo, announce
        self._listeners = Listeners()
        self._untold = deque[str]()
        self._some = asyncio.Event()
        self._there = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to tell and to listen; what is told from now on is heard. Raises TimeoutError if it cannot be."""
        self._tasks = [asyncio.create_task(self._hear()), asyncio.create_task(self._say())]
        async with asyncio.timeout(PING_SECONDS):
            await self._there.wait()

    async def aclose(self) -> None:
        """Say what is left to say, if that can be done at once, and stop. Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if tasks and self._untold:
            with suppress(ServiceUnavailable):
                await self._send()

    def listen(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[str | None]]:
        """Hear what is told on the channel, by any process."""
        return self._listeners.listening(channel)

    def tell(self, notes: Sequence[tuple[str, str]]) -> None:
        """Tell these soon, in this order."""
        if len(self._untold) + len(notes) > UNTOLD:
            self._untold.clear()
            self._untold.append(_LOOK_AGAIN)
        else:
            self._untold.extend(f"{channel} {payload}" for channel, payload in notes)
        self._some.set()

    async def _say(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            while self._untold:
                try:
                    await self._send()
                except ServiceUnavailable:
                    await asyncio.sleep(PAUSE_SECONDS)

    async def _send(self) -> None:
        notes = list(self._untold)
        await self._announce([(CHANNEL, note) for note in notes])
        for note in notes:  # those that came meanwhile stay; if all were dropped meanwhile, the one that stands for them stays
            if self._untold and self._untold[0] == note:
                self._untold.popleft()

    async def _hear(self) -> None:
        while True:
            with suppress(psycopg.Error, TimeoutError, OSError):
                async with asyncio.timeout(PING_SECONDS):
                    connection = await AsyncConnection.connect(self._conninfo, autocommit=True)
                try:
                    await self._follow(connection)
                finally:
                    await connection.close()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _follow(self, connection: AsyncConnection) -> None:
        async with asyncio.timeout(PING_SECONDS):
            await connection.execute(f'LISTEN "{CHANNEL}"')
        self._listeners.look_again()
        self._there.set()
        while True:
            async for note in connection.notifies(timeout=PING_SECONDS):
                self._pass_on(note)
            async with asyncio.timeout(PING_SECONDS):
                await connection.execute("SELECT 1")  # an end that is gone is not noticed by listening

    def _pass_on(self, note: Notify) -> None:
        channel, _, payload = note.payload.partition(" ")
        if channel:
            self._listeners.tell([(channel, payload)])
        else:
            self._listeners.look_again()
