"""News of changes for those who watch the registry, and what time changes by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from aos.clock import Clock
from aos.errors import QueueFull, ServiceUnavailable
from aos.registry.operator_log import lapsed
from aos.registry.replicas import Entry, Project, Terms, passed, settle
from aos.registry.store import ProjectStore, RegistryStore

AGAIN: Final = timedelta(seconds=5)
"""Pause after a failure of the store."""
LOOK_SECONDS: Final = 5.0
"""How often the database is asked whether there are news of other registries: one may have died before it told."""

log = logging.getLogger(__name__)


class Changes:
    """Says that something has changed, to any number of tasks of one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # so that a registry that was started again does not count below what it said before
        self._version = _microseconds(clock.now())
        self._news, self._closed = asyncio.Event(), False
        self._written = 0
        self._watchers = 0

    @contextmanager
    def watched(self, most: int) -> Generator[None]:
        """Count somebody as watching for as long as the block runs. Raises QueueFull if ``most`` do already."""
        if self._watchers >= most:
            raise QueueFull("watchers of the registry", most)
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1

    @property
    def version(self) -> int:
        """What has been told so far; grows with each change."""
        return self._version

    @property
    def written(self) -> tuple[int, int]:
        """What changes with each change, those too that nobody is woken for."""
        return self._version, self._written

    def note(self) -> None:
        """Know of a change that nobody is to be woken for: what was kept of a list is out of date."""
        self._written += 1

    def tell(self) -> None:
        """Wake those who wait: what they read before is out of date."""
        self._version = max(self._version + 1, _microseconds(self._clock.now()))
        self._news.set()
        self._news = asyncio.Event()

    def close(self) -> None:
        """End all waiting, now and later."""
        self._closed = True
        self._news.set()

    async def since(self, version: int, until: datetime | None = None) -> bool:
        """Return once there is something newer than ``version``, or it is ``until``. False: nothing will come any more."""
        if self._version <= version and not self._closed:
            waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._news.wait())]
            if until is not None:
                left = (until - self._clock.now()).total_seconds()
                waits.append(asyncio.ensure_future(self._clock.sleep(left)))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in waits:
                    one.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.gather(*waits, return_exceptions=True)
        return not self._closed


def _microseconds(time: datetime) -> int:
    return int(time.timestamp() * 1_000_000)


async def ageing(projects: ProjectStore, operators: RegistryStore, changes: Changes, terms: Terms, clock: Clock) -> None:
    """Let AI projects age, and note which operators lapse, until ``changes`` is closed. Sleeps while nothing is due."""

    def decide(project: Project) -> tuple[Project | None, Sequence[Entry]]:
        after = settle(project, now=now, terms=terms)
        return after, passed(project, after)

    while True:
        version, now = changes.version, clock.now()
        try:
            lapse, aged = await operators.next_lapse(), await projects.next_due()
            due = min((time for time in (lapse, aged) if time is not None), default=None)
            if due is not None and due <= now:
                await operators.lapse(now, partial(lapsed, now=now))
                if await projects.settle(now, decide):
                    changes.tell()
                continue
        except Exception:  # a bug, or a full disk: reads see things as they are all the same
            log.exception("AI projects and operators cannot age; trying again")
            due = now + AGAIN
        if not await changes.since(version, due):
            return


async def hearing(
    news: AsyncIterator[str | None], origin: str, changes: Changes, operators: RegistryStore, *, every: float = LOOK_SECONDS
) -> None:
    """Pass on what other registries of the database tell; ``origin`` is this one, whose own watchers know already."""
    time = asyncio.get_running_loop().time
    known, due = -1, time() + every
    coming = asyncio.ensure_future(anext(news))
    try:
        while True:
            told, _ = await asyncio.wait([coming], timeout=max(0.0, due - time()))
            if told:
                if coming.result() != origin:
                    changes.tell()
                coming = asyncio.ensure_future(anext(news))
            if time() < due:
                continue
            before = known
            with suppress(ServiceUnavailable):
                known = await operators.version()
            if known != before:
                changes.tell()
            due = time() + every
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
