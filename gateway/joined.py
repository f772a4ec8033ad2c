"""Several streams as one, each item with the number of the stream that it is from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _End:
    error: Exception | None


def joined(sources: Sequence[AsyncGenerator[T]]) -> AsyncGenerator[tuple[int, T]]:
    """Yield the items of all sources as they come, those of each in their order; end when all have ended.

    What one of them raises is raised behind what came before it, and ends the others. All are closed when this is. They are never
    held up, so they must be bounded by themselves.
    """
    return _alone(sources[0]) if len(sources) == 1 else _several(sources)


async def _alone(source: AsyncGenerator[T]) -> AsyncGenerator[tuple[int, T]]:
    async with aclosing(source):
        async for item in source:
            yield 0, item


async def _several(sources: Sequence[AsyncGenerator[T]]) -> AsyncGenerator[tuple[int, T]]:
    items: asyncio.Queue[tuple[int, T] | _End] = asyncio.Queue()

    async def read(index: int, source: AsyncGenerator[T]) -> None:
        try:
            async with aclosing(source):
                async for item in source:
                    items.put_nowait((index, item))
        except Exception as error:  # raised again by whoever reads
            items.put_nowait(_End(error))
        else:
            items.put_nowait(_End(None))

    tasks = [asyncio.create_task(read(index, source)) for index, source in enumerate(sources)]
    try:
        left = len(tasks)
        while left:
            item = await items.get()
            if not isinstance(item, _End):
                yield item
                continue
            if item.error is not None:
                raise item.error
            left -= 1
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
