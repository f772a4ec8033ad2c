"""Workers for callbacks of controllers: as few awake as get the work done, and nobody waits long behind one that is slow.

A callback mostly takes less time than to wake a thread for it, and threads that wake all want Python's lock. So a worker that is
awake goes on with what others handed in, and the next is woken only while there is more to do than are at it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

ABREAST: Final = os.cpu_count() or 1
"""Most workers that share what is quick; those that are found to be slow are not counted."""

log = logging.getLogger(__name__)

Work = Callable[[], None]


class Crew:
    """Threads that do what is handed in, in about that order. Any thread."""

    def __init__(self, name: str, *, most: int) -> None:
        """``most``: threads, at most."""
        self._threads = ThreadPoolExecutor(most, name)
        self._lock = threading.Lock()
        self._works: deque[Work] = deque()
        self._awake: set[object] = set()
        """Those that share the work, each by a token of its own."""
        self._coming = False
        """Whether one of them has not begun yet."""
        self._begun = self._seen = 0
        self._closed = False

    def submit(self, work: Work, *, apart: bool = False) -> bool:
        """Do this; ``apart``: on a thread for it alone, as it takes long. False: it is closed."""
        with self._lock:
            if self._closed:
                return False
            if not apart:
                self._works.append(work)
                self._wake()
                return True
            self._threads.submit(_done, work)
        return True

    def look(self) -> None:
        """To be called now and then while something is done: nobody waits any longer for those that did not get on since then."""
        with self._lock:
            if self._begun == self._seen:
                self._awake.clear()
                self._coming = False
                if self._works and not self._closed:
                    self._wake()
            self._seen = self._begun

    def close(self) -> None:
        """Take no more, and wait for what was handed in. Idempotent."""
        with self._lock:
            self._closed = True
        self._threads.shutdown()

    def _wake(self) -> None:
        """Wake one more, unless one comes already or there are enough. With the lock."""
        if self._coming or len(self._awake) >= ABREAST:
            return
        token = object()
        self._awake.add(token)
        self._coming = True
        self._threads.submit(self._share, token)

    def _share(self, token: object) -> None:
        first = True
        while True:
            with self._lock:
                if token not in self._awake and not first and not self._closed:  # it was slow: others do the rest
                    return
                if first and token in self._awake:
                    self._coming = False
                if not self._works:
                    self._awake.discard(token)
                    return
                work, first = self._works.popleft(), False
                self._begun += 1
                if self._works and not self._closed:
                    self._wake()
            _done(work)


def _done(work: Work) -> None:
    try:
        work()
    except Exception:
        log.exception("a worker failed")
