"""Taking jobs in where they are kept together with their money: those that come at the same time are one write."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from aos.dispatcher.jobs import Job
from aos.dispatcher.store import Asking, PaidJobStore, Row
from aos.errors import AosError

BATCH: Final = 64
"""Most jobs that one transaction takes in."""

_Waiting = tuple[Asking, asyncio.Future[Row | Job]]


class Till:
    """Takes jobs in, in the order in which it is asked. One dispatcher has one."""

    def __init__(self, store: PaidJobStore) -> None:
        self._store = store
        self._waiting: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None

    async def take(self, asked: Asking) -> Row | Job:
        """Return the new job, accepted, once it and its hold are durable; or the one that the request_id made, accepted or not.

        Raises what refuses it; nothing of it is kept then. What was asked for happens, though its caller leaves.
        """
        answer: asyncio.Future[Row | Job] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answer))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        return await answer

    async def _write(self) -> None:
        try:
            while batch := self._waiting[:BATCH]:
                del self._waiting[:BATCH]
                await self._take(batch)
        finally:
            self._writer = None

    async def _take(self, batch: Sequence[_Waiting]) -> None:
        try:
            taken = await self._store.take([asked for asked, _ in batch])
        except Exception as error:
            if len(batch) > 1:  # what spoils one spoils no other
                for one in batch:
                    await self._take([one])
            elif not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        for (_, answer), found in zip(batch, taken, strict=True):
            if answer.done():  # its caller was cancelled
                continue
            if isinstance(found, AosError):
                answer.set_exception(found)
            else:
                answer.set_result(found)
