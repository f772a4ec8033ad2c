"""Work beside the loop, of which all that gathers meanwhile is done in one change of threads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

TOGETHER: Final = 16
"""Most pieces of work that are done in one go: the first of them waits for the last."""

T = TypeVar("T")
Outcome = tuple[Any, BaseException | None]


class Beside:
    """Does what is handed in piece by piece, in the order in which it came, on a thread of the loop's. For one loop."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self._busy = False

    async def do(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns, or raise what it raises. It should take about a millisecond: others wait for it.

        Cancelling ends the waiting; what has not begun then is not done.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        if not self._busy:
            self._begin()
        return await done

    def _begin(self) -> None:
        """Hand over what waits. A change of threads costs more than most of what is done there."""
        taken: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        while self._waiting and len(taken) < TOGETHER:
            work, done = self._waiting.popleft()
            if not done.done():  # else whoever asked for it has gone
                taken.append((work, done))
        self._busy = bool(taken)
        if not taken:
            return
        waiting = [done for _, done in taken]
        try:
            going = asyncio.get_running_loop().run_in_executor(None, _all, [work for work, _ in taken])
        except RuntimeError as error:  # the loop's threads are being ended
            waiting += [done for _, done in self._waiting]
            self._waiting.clear()
            self._busy = False
            _tell(waiting, [(None, error)] * len(waiting))
            return
        going.add_done_callback(lambda found: self._done(waiting, found))

    def _done(self, waiting: Sequence[asyncio.Future[Any]], going: asyncio.Future[list[Outcome]]) -> None:
        try:
            outcomes = going.result()
        except BaseException as error:  # the thread was ended: nobody may wait for it
            outcomes: list[Outcome] = [(None, error)] * len(waiting)
        _tell(waiting, outcomes)
        self._begin()


def _tell(waiting: Sequence[asyncio.Future[Any]], outcomes: Sequence[Outcome]) -> None:
    for done, (found, error) in zip(waiting, outcomes, strict=True):
        if done.done():
            continue
        if error is None:
            done.set_result(found)
        else:
            done.set_exception(error)


def _all(work: Sequence[Callable[[], Any]]) -> list[Outcome]:
    return [_outcome(one) for one in work]


def _outcome(work: Callable[[], Any]) -> Outcome:
    try:
        return work(), None
    except Exception as error:  # it is raised where the work came from
        return None, error
