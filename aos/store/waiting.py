"""What was asked of a database and waits, and who takes it: few threads at a time, each all that waits."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Condition
from typing import Any, Final, Generic, TypeAlias, TypeVar

SLOW_SECONDS: Final = 0.05
"""A group that takes longer is likely to wait for a lock: another thread begins with the next."""

X = TypeVar("X")


@dataclass(frozen=True, slots=True)
class Asked(Generic[X]):
    """A function that is to run in a transaction, and who waits for what it returns."""

    work: Callable[[X], Any]
    durable: bool
    done: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    alone: bool = False
    """Whether it shares its transaction with nobody."""


Outcome: TypeAlias = tuple[Asked[X], Any, BaseException | None]
"""What was asked, and what came of it: what it returned, or what was raised."""


class Waiting(Generic[X]):
    """Hands what waits to threads, in its order.

    So many are given work at a time, since more only fight for Python's lock, and take it in smaller groups; those that have been
    at it for long are not counted, so that one that waits for a lock of somebody else's holds nobody up.
    """

    def __init__(self, *, at_once: int, most: int) -> None:
        """At most ``at_once`` groups of at most ``most``."""
        self._at_once, self._most = at_once, most
        self._queue = deque[Asked[X]]()
        self._busy: dict[int, float] = {}
        """When each thread that has work got it."""
        self._some = Condition()
        self._watched, self._closed = False, False

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, asked: Asked[X]) -> bool:
        """Let a thread have this; False once it is closed."""
        with self._some:
            if self._closed:
                return False
            self._queue.append(asked)
            # with as many at it as may be, one waits until they are done, or slow
            if len(self._busy) < self._at_once or not self._watched:
                self._some.notify()
        return True

    def put_back(self, apart: Sequence[Asked[X]]) -> None:
        """Let threads have these before all else, each alone."""
        with self._some:
            self._queue.extendleft(replace(asked, alone=True) for asked in reversed(apart))

    def close(self) -> None:
        """Let the threads end once nothing waits."""
        with self._some:
            self._closed = True
            self._some.notify_all()

    def take(self, thread: int) -> Sequence[Asked[X]]:
        """Wait for work, and return what may share a transaction; empty once it is closed. Whatever it had before is done."""
        with self._some:
            self._busy.pop(thread, None)
            while True:
                if not self._queue:
                    if self._closed:
                        return ()
                    self._some.wait()
                    continue
                now = time.monotonic()
                prompt = [begun for begun in self._busy.values() if now - begun < SLOW_SECONDS]
                if len(prompt) < self._at_once:
                    self._busy[thread] = now
                    group = self._group()
                    # whoever comes behind a slow one must not wait for it
                    if self._queue and not self._watched:
                        self._some.notify()
                    return group
                if self._watched:
                    self._some.wait()
                    continue
                self._watched = True
                self._some.wait(min(prompt) + SLOW_SECONDS - now)
                self._watched = False

    def _group(self) -> list[Asked[X]]:
        group = [self._queue.popleft()]
        while self._queue and len(group) < self._most and not group[0].alone and not self._queue[0].alone:
            group.append(self._queue.popleft())
        return group


def deliver(outcomes: Sequence[Outcome[Any]]) -> None:
    """Tell those who wait, all of a loop at once: each wake-up of a loop costs as much as a small transaction."""
    loops = dict.fromkeys(asked.loop for asked, _, _ in outcomes)
    for loop in loops:
        with suppress(RuntimeError):  # it is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, [one for one in outcomes if one[0].loop is loop])


def _settle(outcomes: Sequence[Outcome[Any]]) -> None:
    for asked, result, error in outcomes:
        if asked.done.done():  # its caller was cancelled
            continue
        if error is None:
            asked.done.set_result(result)
        else:
            asked.done.set_exception(error)
