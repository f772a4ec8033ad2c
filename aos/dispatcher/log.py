"""The job's log as it grows: durable first, then to whoever watches. What other dispatchers add is read from the store."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from aos.dispatcher.jobs import Job
from aos.dispatcher.store import Change, Decide, JobStore, Leased, More, Row
from aos.errors import ServiceUnavailable
from aos.v1.dispatcher_pb2 import JobEvent, Outcome

READ: Final = 256
"""Most events that are read from the store at once."""
UNREAD: Final = 256
"""Most events that are kept in memory for a slow watcher; it reads the rest from the store."""
CROWD: Final = 16
"""From so many jobs that grow at once, output is gathered for a moment before it is written."""
EVENT_SECONDS: Final = 0.0002
"""About what it costs to write one event and to send it on. After each write there is a pause of as long as it will take: what
comes meanwhile is one event for each job, however many tokens that are, so that the streams of thousands of jobs keep up."""


class _Watcher:
    """What one watcher has not read yet. Whoever publishes never waits for it."""

    def __init__(self, last: int) -> None:
        self.last = last
        """The sequence of what it showed last."""
        self.gone = False
        """Whether nothing more is heard here."""
        self.news = asyncio.Event()
        self._behind = False
        self._unread = deque[JobEvent](maxlen=UNREAD)  # the oldest fall out; the gap sends the watcher to the store

    def hear(self, events: Sequence[JobEvent]) -> None:
        self._unread.extend(events)
        self.news.set()

    def look(self) -> None:
        """Learn that the store has more, or may have."""
        self._behind = True
        self.news.set()

    def take(self) -> tuple[list[JobEvent], bool]:
        """Return what is unread, and whether the store has more."""
        self.news.clear()
        taken, behind = list(self._unread), self._behind
        self._unread.clear()
        self._behind = False
        return taken, behind


class EventLog:
    """Changes jobs in the store and tells those who watch. Every change of a job goes through here."""

    def __init__(self, store: JobStore, *, ended: Callable[[Job, Outcome], None]) -> None:
        """``ended`` is called once for each job that has reached a final state, and how, after that is durable."""
        self.store = store
        self._ended = ended
        self._watchers: dict[str, set[_Watcher]] = {}
        self._growing: list[tuple[More, asyncio.Future[int]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._writing = 0
        """Changes that are being written."""
        self._written = asyncio.Event()
        """Set when one of them is."""
        self._closed = False
        self.unsure = False
        """Whether the store failed, so that what it kept is not known, nor was it told."""

    async def change(self, job_id: str, decide: Decide, *, durable: bool = True) -> Change | None:
        """Return the change once it is kept; None if ``decide`` made no move. Raises JobNotFound and what it raises."""
        with self._doubting(), self._counting():
            change = await self.store.change(job_id, decide, durable=durable)
        self._tell(job_id, change)
        return change

    async def accept(self, job_id: str, decide: Decide) -> Row:
        """Do as ``change`` does, and return all that is known of the job, which is an accepted one then."""
        with self._doubting():
            change, row = await self.store.accept(job_id, decide)
        self._tell(job_id, change)
        return row

    async def lease(self, job_id: str, decide: Decide) -> Leased | None:
        """Do as ``change`` does, and return the order and the answer so far with it."""
        with self._doubting():
            leased = await self.store.lease(job_id, decide)
        self._tell(job_id, leased and leased.change)
        return leased

    async def extend(self, more: More) -> int:
        """Add output to the log of a RUNNING job, and return its sequence; 0 if the lease is not that job's.

        Those who ask together share a write.
        """
        kept: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._growing.append((more, kept))
        if self._writer is None:
            self._writer = asyncio.create_task(self._grow())
        return await kept

    async def _grow(self) -> None:
        """Write what there is to add, and what comes while that is written, until nothing is left."""
        while growing := self._growing:
            self._growing = []
            try:
                events = await self.store.extend([more for more, _ in growing])
            except Exception as error:
                self.unsure = True
                for _, kept in growing:
                    if not kept.done():
                        kept.set_exception(error)
                continue
            for (more, kept), event in zip(growing, events, strict=True):
                if event is not None:
                    for watcher in self._watchers.get(more.job_id, ()):
                        watcher.hear([event])
                if not kept.done():
                    kept.set_result(0 if event is None else event.sequence)
            if len(growing) >= CROWD:
                await asyncio.sleep(len(growing) * EVENT_SECONDS)
        self._writer = None

    async def turn(self) -> None:
        """Wait, if a crowd of changes is being written, until one of them is.

        Who has output would wait for them anyway; what comes meanwhile is one change with it.
        """
        if self._writing >= CROWD:
            await self._written.wait()

    @contextmanager
    def _counting(self) -> Generator[None]:
        self._writing += 1
        try:
            yield
        finally:
            self._writing -= 1
            written, self._written = self._written, asyncio.Event()
            written.set()

    @contextmanager
    def _doubting(self) -> Generator[None]:
        try:
            yield
        except ServiceUnavailable:
            self.unsure = True
            raise

    def _tell(self, job_id: str, change: Change | None) -> None:
        if change is None or not change.events:
            return
        for watcher in self._watchers.get(job_id, ()):
            watcher.hear(change.events)
        if change.job.state.final:
            self._ended(change.job, change.events[-1].outcome)

    async def watch(self, job_id: str, after: int, *, project: str | None = None) -> AsyncGenerator[JobEvent]:
        """Yield the events behind ``after``, each once and in order, until the outcome.

        Raises JobNotFound unless it is a job of the project (None: of any), and ServiceUnavailable if the dispatcher stops before;
        the next one goes on from the last sequence seen.
        """
        with self._listening(job_id, after) as watcher:
            behind = True
            while True:
                if behind:
                    watcher.take()  # the store has these, too
                    state, events = await self.store.behind(job_id, project=project, after=watcher.last, limit=READ)
                    if state.final and not events:
                        return
                    behind = len(events) == READ
                else:
                    events, behind = watcher.take()
                    if not events and not behind:
                        if self._closed or watcher.gone:
                            raise ServiceUnavailable("dispatcher")
                        await watcher.news.wait()
                        continue
                    # two changes may be told in another order than they were kept in, and a slow reader may have missed some
                    behind = behind or not _follows(events, watcher.last)
                    if behind:
                        continue
                for event in events:
                    if event.sequence > watcher.last:
                        watcher.last = event.sequence
                        yield event
                    if event.HasField("outcome"):
                        return

    @contextmanager
    def _listening(self, job_id: str, after: int) -> Generator[_Watcher]:
        watcher = _Watcher(after)
        self._watchers.setdefault(job_id, set()).add(watcher)
        try:
            yield watcher
        finally:
            watchers = self._watchers[job_id]
            watchers.remove(watcher)
            if not watchers:
                del self._watchers[job_id]

    @property
    def watched(self) -> Mapping[str, int]:
        """The jobs that are watched here, and what the watcher that is furthest behind showed last."""
        return {job_id: min(one.last for one in watchers) for job_id, watchers in self._watchers.items()}

    def look(self, job_ids: Iterable[str]) -> None:
        """Let those who watch these jobs read them from the store: another dispatcher added to them."""
        for job_id in job_ids:
            for watcher in self._watchers.get(job_id, ()):
                watcher.look()

    def interrupt(self) -> None:
        """End the watches that there are, as ``close`` does: what happens is not heard here any more. Later ones begin anew."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.gone = True
                watcher.news.set()

    def close(self) -> None:
        """End every watch, now and from now on, once it has shown what there is."""
        self._closed = True
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.news.set()


def _follows(events: Sequence[JobEvent], last: int) -> bool:
    """Say whether the events that are new to a reader of ``last`` come right behind it, without a gap."""
    new = [event.sequence for event in events if event.sequence > last]
    return new == list(range(last + 1, last + 1 + len(new)))
