"""What the other dispatchers of the database do: heard as it happens, and looked for again and again in case it was not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

from aos.clock import Clock, within
from aos.dispatcher import jobs, news
from aos.dispatcher.attached import Elsewhere
from aos.dispatcher.jobs import At, Job, State
from aos.dispatcher.leases import End
from aos.dispatcher.limits import ProjectLimits
from aos.dispatcher.log import EventLog
from aos.dispatcher.node_store import NodeStore
from aos.dispatcher.nodes import Nodes
from aos.dispatcher.relay import Relay
from aos.dispatcher.reviews import Reviews
from aos.dispatcher.sessions import Session
from aos.dispatcher.settings import DispatcherSettings
from aos.dispatcher.tokens import ProjectAuthenticator
from aos.dispatcher.tracing import JobSpans
from aos.errors import JobNotFound

PAGE: Final = 512
"""Most jobs that one question to the database is about."""

log = logging.getLogger(__name__)


class Neighbours:
    """Follows them. Nothing depends on it but time: whatever it does not hear, it finds within ``look_seconds``."""

    def __init__(
        self,
        store: NodeStore,
        *,
        nodes: Nodes,
        sessions: Mapping[str, Session],
        elsewhere: Elsewhere,
        log: EventLog,
        relay: Relay,
        reviews: Reviews,
        tokens: ProjectAuthenticator,
        limits: ProjectLimits,
        spans: JobSpans,
        settings: DispatcherSettings,
        clock: Clock,
    ) -> None:
        self._store, self._nodes, self._elsewhere, self._log, self._relay = store, nodes, elsewhere, log, relay
        self._reviews, self._tokens, self._limits, self._spans, self._sessions = reviews, tokens, limits, spans, sessions
        self._settings, self._clock = settings, clock
        self._coming: dict[str, None] = {}
        """Jobs that wait now, as was heard; they are read together."""
        self._come, self._due = asyncio.Event(), asyncio.Event()
        self._missed = True
        """Whether something may have been missed."""
        self._due.set()
        nodes.changed = self.look_soon
        nodes.lost = self._lost

    def look_soon(self) -> None:
        """Look at once for what may have been missed."""
        self._missed = True
        self._due.set()

    def _lost(self) -> None:
        self._relay.send_away()
        self._log.interrupt()

    async def hear_forever(self, heard: AsyncIterator[str | None]) -> None:
        """Take in what is told."""
        async for text in heard:
            said = None if text is None else news.read(text)
            if text is None:
                self._tokens.forget_all()
                self._limits.forget_all()
                self.look_soon()
            elif said is not None and (said.node != self._nodes.node or isinstance(said, news.Nodes)):
                try:
                    await self._hear(said)
                except Exception:
                    log.exception("could not follow another dispatcher; looking again")
                    self.look_soon()

    async def _hear(self, said: news.News) -> None:
        match said:
            case news.Grew(job_ids=job_ids):
                self._log.look(job_ids)
            case news.Moved():
                await self._moved(said)
            case news.Attached(operator=operator, version=version):
                there = await self._elsewhere.look_at(operator)
                if there is not None and there.node != self._nodes.node:
                    self._relay.attached_elsewhere(operator, version)
            case news.Project(project=project):
                self._tokens.forget(project)
                await self._limits.learn(project)
            case news.Nodes():
                await self._nodes.refresh()
                self.look_soon()

    async def _moved(self, said: news.Moved) -> None:
        self._log.look([said.job_id])
        self._relay.moved(said.job_id, said.state, said.sequence)
        if said.state is State.QUEUED:
            self._coming[said.job_id] = None
            self._come.set()
        elif said.state.final:
            if self._spans.open(said.job_id):
                row = await self._log.store.get(said.job_id, project=None)
                if row.outcome is not None:
                    self._spans.end(row.job, row.outcome)
            if said.state is State.COMPLETED:
                self._reviews.look()

    async def begin(self) -> None:
        """Take over what waits, and what an earlier start of this dispatcher had. To be called once the others can be heard."""
        await self.give_back()
        for waiting in await self._log.store.waiting():
            self._relay.add(waiting)

    async def fetch_forever(self) -> None:
        """Let the jobs wait here, too, that wait elsewhere."""
        while True:
            await self._come.wait()
            self._come.clear()
            while job_ids := list(islice(self._coming, PAGE)):
                for job_id in job_ids:
                    del self._coming[job_id]
                try:
                    await self._fetch(job_ids)
                except Exception as error:
                    log.warning("could not read what other dispatchers let wait; looking again: %s", error)
                    self.look_soon()

    async def _fetch(self, job_ids: Sequence[str]) -> None:
        for waiting in await self._store.waiting(job_ids):
            self._relay.add(waiting)

    async def look_forever(self) -> None:
        """Look for what was not heard: soon if something may have been missed, and otherwise from time to time."""
        while True:
            with suppress(TimeoutError):
                await within(self._clock, self._settings.look_seconds, self._due.wait())
            self._due.clear()
            try:
                await self.look()
            except Exception as error:
                log.warning("could not look for what other dispatchers did, will try again: %s", error)
                self._missed = True
                await self._clock.sleep(self._settings.look_seconds)

    async def look(self) -> None:
        """Do so once. Raises ServiceUnavailable."""
        missed, self._missed = self._missed, False
        await self.give_back()
        # nobody else can have done anything
        if self._nodes.alone and not missed and not self._log.unsure:
            return
        self._log.unsure = False
        await self._elsewhere.look()
        await self._elsewhere.describe(list(self._sessions.values()))
        await self._look_at_queue()
        await self._look_at_watched()
        self._reviews.look()

    async def give_back(self) -> None:
        """Let the jobs wait again whose dispatcher is gone, or is this one and knows nothing of it.

        Safe to do by several at once: each gives back one lease, and a job that moved on since is left alone. No attempt failed.
        """
        mine = self._relay.runs.leases
        leased = await self._log.store.leased()
        # behind the jobs: who has one of them came before
        await self._nodes.refresh()
        current = {job.id: job.lease for job in leased if job.node == self._nodes.node and self._relay.has(job.id)}
        gone = [job for job in leased if job.id not in current and job.node not in self._nodes.others]
        for first in range(0, len(gone), PAGE):  # together: their writes share a commit
            await asyncio.gather(*(self._give_back(job) for job in gone[first : first + PAGE]))
        for job_id, lease in mine.items():
            if current.get(job_id) != lease:
                self._relay.runs.end(job_id, End.OVER, lease=lease)

    async def _give_back(self, job: Job) -> None:
        at = At(self._clock.now(), self._nodes.node)
        try:
            change = await self._log.change(job.id, lambda view: jobs.give_back(view, at, lease=job.lease))
        except JobNotFound:
            return
        if change is not None:
            log.info("%s waits again: its dispatcher %r is gone, or had lost it", job.name, job.node)
            self._coming[job.id] = None
            self._come.set()

    async def _look_at_queue(self) -> None:
        """Let wait here what waits elsewhere, and nothing else."""
        queue, has = self._relay.queue, self._relay.has
        before, seen, after = queue.jobs(), set[str](), 0
        while page := await self._store.queued(after=after, limit=PAGE):
            after = page[-1][0]
            seen.update(job_id for _, job_id in page)
            if new := [job_id for _, job_id in page if queue.get(job_id) is None and not has(job_id)]:
                await self._fetch(new)
        for first in range(0, len(before), PAGE):
            for job_id in before[first : first + PAGE]:
                if job_id not in seen:
                    queue.remove(job_id)
            await asyncio.sleep(0)

    async def _look_at_watched(self) -> None:
        watched = list(self._log.watched.items())
        for first in range(0, len(watched), PAGE):
            page = dict(watched[first : first + PAGE])
            last = await self._store.last(list(page))
            # one that was purged has nothing more to say, and its watcher finds that out
            self._log.look(job_id for job_id, shown in page.items() if last.get(job_id, shown + 1) > shown)
