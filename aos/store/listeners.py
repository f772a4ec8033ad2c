"""Who listens to which channel, and what each has not read yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from threading import Lock
from typing import Final

UNREAD: Final = 1024
"""Most payloads that wait for one listener; one that has more unread is told to look again instead."""


class _Listener:
    """One reader of a channel, in its own event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._unread = deque[str | None]()
        self._news = asyncio.Event()

    def hear(self, payloads: Iterable[str | None]) -> None:
        """Called in the reader's loop."""
        for payload in payloads:
            if len(self._unread) >= UNREAD:
                self._unread.clear()
                self._unread.append(None)
            # to be told once to look again is enough
            if payload is not None or not self._unread or self._unread[-1] is not None:
                self._unread.append(payload)
        self._news.set()

    async def read(self) -> AsyncIterator[str | None]:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._unread:
                yield self._unread.popleft()


class Listeners:
    """Passes what is told on a channel to all who listen to it. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._of: dict[str, list[_Listener]] = {}
        self._lock = Lock()

    def tell(self, notes: Iterable[tuple[str, str | None]]) -> None:
        """Pass on (channel, payload) pairs, in order."""
        heard: dict[_Listener, list[str | None]] = {}
        with self._lock:
            for channel, payload in notes:
                for one in self._of.get(channel, ()):
                    heard.setdefault(one, []).append(payload)
        for one, payloads in heard.items():
            with suppress(RuntimeError):  # its loop is closed: nobody reads any more
                one.loop.call_soon_threadsafe(one.hear, payloads)

    def look_again(self) -> None:
        """Tell everybody that something may have been missed."""
        with self._lock:
            channels = list(self._of)
        self.tell((channel, None) for channel in channels)

    @asynccontextmanager
    async def listening(self, channel: str) -> AsyncGenerator[AsyncIterator[str | None]]:
        """Hear what is told on the channel until the block ends."""
        one = _Listener()
        with self._lock:
            self._of.setdefault(channel, []).append(one)
        try:
            yield one.read()
        finally:
            with self._lock:
                self._of[channel].remove(one)
                if not self._of[channel]:
                    del self._of[channel]
