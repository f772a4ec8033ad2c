"""What an operator has to say on its stream, in the order in which it was said, until it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final

from aos.operator.bundles import bundles
from aos.v1.dispatcher_pb2 import OperatorMessage

OUTBOX: Final = 64
"""Messages that wait to be sent. When the network is slow, text gathers in the streams behind, in fewer and longer chunks."""


class Outbox:
    """Of one stream."""

    def __init__(self) -> None:
        self.several = False
        """Whether the dispatcher takes several messages in one."""
        self._waiting: asyncio.Queue[OperatorMessage | None] = asyncio.Queue(OUTBOX)
        self._turn, self._held_up = asyncio.Lock(), 0

    async def put(self, message: OperatorMessage) -> None:
        """Take a message, once there is room: in the order of the calls, as a clock that comes late would seem to go back."""
        if not (self._held_up or self._waiting.full()):
            self._waiting.put_nowait(message)
            return
        self._held_up += 1
        try:
            async with self._turn:
                await self._waiting.put(message)
        finally:
            self._held_up -= 1

    async def end(self) -> None:
        """Let nothing come behind what was put by now, once there is room to say so."""
        await self._waiting.put(None)

    def close(self) -> None:
        """End what reads the messages, if there is room: if not, it has something to read, and nobody to send it to."""
        with suppress(asyncio.QueueFull):
            self._waiting.put_nowait(None)

    async def messages(self) -> AsyncGenerator[OperatorMessage]:
        """Yield what is to be sent, in as few messages as it takes, until the end."""
        while True:
            # all leases of a step put their chunks before this runs again
            taken = [await self._waiting.get(), *(self._waiting.get_nowait() for _ in range(self._waiting.qsize()))]
            said = [one for one in taken if one is not None]  # nothing comes behind a None
            for message in bundles(said, several=self.several):
                yield message
            if len(said) < len(taken):
                return
