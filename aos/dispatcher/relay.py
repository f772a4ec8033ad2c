"""Operators' streams and jobs' logs, joined: who is attached, who gets what, and what happens when one is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final

from aos.clock import Clock, within
from aos.dispatcher import jobs, outcomes
from aos.dispatcher.affinity import Recent
from aos.dispatcher.attached import Elsewhere
from aos.dispatcher.canaries import Canaries
from aos.dispatcher.catalogue import Catalogue
from aos.dispatcher.checks import clock_evidence
from aos.dispatcher.deadlines import expire
from aos.dispatcher.draws import draw_of
from aos.dispatcher.explain import Placement, Placements, consider
from aos.dispatcher.files import Files
from aos.dispatcher.handing import lease_of, wanted_of
from aos.dispatcher.handshake import NONCE_BYTES, answer, greet, reread
from aos.dispatcher.health import Board
from aos.dispatcher.heard import counts, read
from aos.dispatcher.jobs import At, State
from aos.dispatcher.leases import AGAIN_SECONDS, End, LeaseRun
from aos.dispatcher.log import EventLog
from aos.dispatcher.outcomes import Known
from aos.dispatcher.placement import Candidate, Wanted, explain
from aos.dispatcher.projects import new_token
from aos.dispatcher.queue import Queue
from aos.dispatcher.reviews import Reviews
from aos.dispatcher.runs import Runs
from aos.dispatcher.sessions import Session, each, opened
from aos.dispatcher.settings import DispatcherSettings
from aos.dispatcher.store import Change, CheckStore, Leased, Waiting
from aos.dispatcher.unroutable import Unroutable
from aos.errors import AosError, InvalidField, JobNotFound, ServiceUnavailable
from aos.v1 import registry_pb2_grpc
from aos.v1.dispatcher_pb2 import Challenge, DispatcherMessage, LeaseFailed, OffersChanged, OperatorMessage
from aos.v1.errors_pb2 import ErrorReason

CLOSING_SECONDS: Final = 5.0
"""How long giving jobs back may take at the end; what is not given back by then is found at the next start."""

log = logging.getLogger(__name__)


class Relay:
    """The attached operators and the jobs they have. Holds nothing that the store does not know."""

    def __init__(
        self,
        log: EventLog,
        *,
        files: Files,
        sessions: dict[str, Session],
        cut_off: Callable[[], bool],
        elsewhere: Elsewhere,
        reviews: Reviews,
        canaries: Canaries,
        catalogue: Catalogue,
        board: Board,
        checks: CheckStore,
        registry: registry_pb2_grpc.RegistryAsyncStub,
        settings: DispatcherSettings,
        clock: Clock,
        randomness: Callable[[int], bytes],
        weight: Callable[[str], int],
    ) -> None:
        """``cut_off`` is whether other dispatchers may have taken what this one has. ``weight`` is a project's.

        ``sessions`` is filled here: the attached operators, by address. The ``board`` learns how their leases end.
        """
        self._log, self._registry, self._settings, self._clock, self._randomness = log, registry, settings, clock, randomness
        self._sessions, self._reviews, self._checks, self._files = sessions, reviews, checks, files
        self._elsewhere = elsewhere
        self._canaries, self._catalogue, self._board = canaries, catalogue, board
        self._queue, self._recent = Queue(weight), Recent()
        self._unroutable = Unroutable(log, self._queue, why=catalogue.unroutable, settings=settings, clock=clock)
        self._placements = Placements()
        self.runs = Runs()
        self._ended_early: set[str] = set()
        """Jobs that ended while they were about to be leased."""
        self._leasing: set[str] = set()
        self._returned: dict[str, Wanted] = {}
        """Jobs that wait again, as other dispatchers say, while a lease of theirs is not over here."""
        self._cut_off = cut_off
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        reviews.freed = canaries.changed = catalogue.changed = self._changed.set
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False

    @property
    def queued(self) -> int:
        """Jobs that wait for an operator."""
        return len(self._queue)

    @property
    def attached(self) -> int:
        """Operators with an open stream."""
        return len(self._sessions)

    def add(self, waiting: Waiting) -> None:
        """Let a job wait for an operator."""
        if waiting.job.id in self._leasing:
            self._returned[waiting.job.id] = wanted_of(waiting)
            return
        self._queue.add(wanted_of(waiting))
        self._changed.set()

    def forget(self, job_id: str, used: int | None = None) -> None:
        """Stop what is done for a job that has ended, with so many tokens used. None: nobody here knows how many."""
        self._queue.remove(job_id)
        self._queue.settle(job_id, used)
        if job_id in self._leasing:
            self._ended_early.add(job_id)
        self.runs.end(job_id, End.OVER)

    def moved(self, job_id: str, state: State, sequence: int) -> None:
        """Take another dispatcher's word that it moved a job, unless what is known here is newer."""
        if state.final:
            self.forget(job_id)
            return
        if state.leased:
            self._queue.remove(job_id)
        self.runs.end(job_id, End.OVER, before=sequence)

    def has(self, job_id: str) -> bool:
        """Say whether the job has a lease here, or is about to."""
        return job_id in self._leasing

    @property
    def queue(self) -> Queue:
        """The jobs that wait here."""
        return self._queue

    def attached_elsewhere(self, operator: str, version: int) -> None:
        """End the operator's stream here: it has a later one with another dispatcher."""
        if (session := self._sessions.get(operator)) and session.version < version:
            log.info("operator %s attached elsewhere; its stream here is ended", operator)
            self._leave(session)

    def send_away(self) -> None:
        """End all streams, and blame nobody: others may have taken what there is here."""
        self.runs.end_all(End.GIVEN_BACK)
        for session in list(self._sessions.values()):
            session.leaving = True
            self._leave(session)

    async def attach(self, messages: AsyncIterator[OperatorMessage]) -> AsyncGenerator[DispatcherMessage]:
        """Serve one operator's stream until either side ends it."""
        if self._closing or self._cut_off():
            raise ServiceUnavailable("dispatcher")
        nonce, stream, settings = self._randomness(NONCE_BYTES), aiter(messages), self._settings
        yield DispatcherMessage(challenge=Challenge(nonce=nonce, dispatcher=settings.identity))
        hello = await answer(stream, self._clock, settings.handshake_seconds)
        operator, known = await greet(hello, nonce, registry=self._registry, settings=settings, clock=self._clock)
        secret, now = new_token(self._randomness), self._clock.now()
        session = opened(operator, hello.offers, known, settings=settings, now=now, board=self._board, secret=secret)
        await self._elsewhere.attach(session)
        if self._closing:
            raise ServiceUnavailable("dispatcher")
        if replaced := self._sessions.get(operator):
            log.info("operator %s attached again; its earlier stream is ended", operator)
            self._leave(replaced)
        session.welcome(settings.heartbeat_seconds)
        self._sessions[operator] = session
        for key in session.keys.values():
            self._board.attached(key, self._clock.now())
        self._canaries.look()
        self._changed.set()
        reader = asyncio.create_task(self._read(session, stream))
        try:
            async for message in session.messages():
                yield message
            if reader.done():
                reader.result()
        finally:
            self._leave(session)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, session: Session, stream: AsyncIterator[OperatorMessage]) -> None:
        try:
            async for told in stream:
                for message in each(told):
                    if message.HasField("offers"):
                        await self._change(session, message.offers)
                    else:
                        self._hear(session, message)
        except AosError:
            raise
        except Exception as error:  # the connection broke
            log.info("the stream of operator %s broke: %s", session.operator, error)
        finally:
            self._leave(session)

    async def _change(self, session: Session, changed: OffersChanged) -> None:
        """Let the operator offer something else, as far as the registry knows it."""
        try:
            offers = await reread(session.operator, changed.offers, registry=self._registry, settings=self._settings)
        except ServiceUnavailable:
            log.warning(
                "operator %s offers something else, and the registry does not answer; its stream is ended", session.operator
            )
            session.end()  # it attaches again, and says it all anew
            return
        session.heard = self._clock.now()
        session.change(offers)
        self._changed.set()

    def _hear(self, session: Session, message: OperatorMessage) -> None:
        if message.WhichOneof("message") in (None, "hello", "several"):
            raise InvalidField("message", "is not one that comes after the hello", value=message.WhichOneof("message"))
        if went_back := session.went_back(message):
            evidence = clock_evidence(session.operator, job="", before=session.count, after=went_back[0])
            self._spawn(self._checks.accuse(evidence, now=self._clock.now()))
            problem = f"your own count went back from {session.count} to {went_back[0]}"
            raise InvalidField("clock", problem, value=went_back[0], limit=session.count)
        seen = session.hear(counts(message), self._clock.now())
        if message.HasField("claimed"):
            self._reviews.claimed(session, message.claimed)
        for lease, what in read(message):
            if isinstance(what, LeaseFailed) and what.retryable and what.error.reason == ErrorReason.ERROR_REASON_SHUTTING_DOWN:
                session.leaving = True
            if run := self.runs.heard(session, lease):
                run.hear(what, seen)
            elif not self._canaries.hear(session, lease, what, seen):
                self._reviews.hear(session, lease, what, seen)

    def _leave(self, session: Session) -> None:
        """End the stream and take its leases back. Idempotent."""
        session.end()
        if self._sessions.get(session.operator) is session:
            del self._sessions[session.operator]
            log.info("operator %s left", session.operator)
            self._spawn(self._detach(session))
        lost = self.runs.lose(session)
        if not (self._closing or session.leaving):
            outcomes.stream_lost(self._board, session.keys, lost, self._clock.now())
            self._canaries.look()
        self._reviews.left(session)
        self._canaries.left(session)

    async def _detach(self, session: Session) -> None:
        try:
            await self._elsewhere.detach(session)
        except AosError as error:
            # a later stream of it says so, or our going
            log.info("could not say that operator %s left: %s", session.operator, error)

    async def place_forever(self) -> None:
        """Lease waiting jobs as places become free."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while not self._closing and (
                taken := self._queue.take(candidates := self._candidates(), self._recent, self._clock.now())
            ):
                wanted, candidate, near = taken
                self._placements.note(wanted, candidate, candidates, near)
                session = self._sessions[candidate.operator]
                session.take_slot(candidate.model)
                self._leasing.add(wanted.job_id)
                self._idle.clear()
                self._spawn(self._lease(wanted, candidate, session))
                await asyncio.sleep(0)

    def _candidates(self) -> list[Candidate]:
        now, why_not = self._clock.now(), self._catalogue.why_not
        there = [session for session in self._sessions.values() if not session.ended]
        return [one for session in there for one in session.candidates(now, why_not(session.operator))]

    async def _lease(self, wanted: Wanted, candidate: Candidate, session: Session) -> None:
        """Give one job to one operator, write down what comes, and let the job wait again if need be."""
        job_id = wanted.job_id
        at = At(self._clock.now(), self._settings.node, session.seen)
        again: Wanted | None = None
        try:
            leased = await self._log.lease(
                job_id, lambda view: jobs.assign(view, at, operator=candidate.operator, price=candidate.price)
            )
            if leased is not None:
                run, change = await self._follow(leased, session)
                outcomes.lease_ended(self._board, session.keys[candidate.model], run, change, self._clock.now())
                if run.fault:
                    self._canaries.look()
                if change is not None and not change.job.state.final:
                    again = replace(wanted, avoid=wanted.avoid | {candidate.operator}) if run.blamed else wanted
        except JobNotFound:
            pass
        except Exception:
            log.exception("could not lease %s, will try again", job_id)
            await self._clock.sleep(AGAIN_SECONDS)
            again = wanted
        finally:
            self._leasing.discard(job_id)
            self.runs.drop(job_id)
            session.free_slot(candidate.model)
            again = again or self._returned.pop(job_id, None)
            if again is not None and job_id not in self._ended_early:
                self._queue.add(again)
            self._queue.settle(job_id, 0)  # not by its end, if nobody has said so by now
            self._ended_early.discard(job_id)
            self._returned.pop(job_id, None)
            if not self._leasing:
                self._idle.set()
            self._changed.set()

    async def _follow(self, leased: Leased, session: Session) -> tuple[LeaseRun, Change | None]:
        job = leased.change.job
        draw = await draw_of(leased, session, self._settings)
        order = await self._files.filled(leased.submission.order, job.project)
        run = LeaseRun(
            leased,
            session.operator,
            log=self._log,
            files=self._files,
            checks=self._checks,
            clock=self._clock,
            settings=self._settings,
            checkable=partial(self._reviews.possible, exact=leased.risk.exact),
            proves=draw and (draw, session.vrf_key),
        )
        self.runs.put(run, session)
        if job.id in self._ended_early:
            run.end(End.OVER)
        elif session.ended or self._closing:
            run.end(End.GIVEN_BACK)
        else:
            left = (job.deadline - self._clock.now()).total_seconds()
            session.give(lease_of(leased, order, left=left, draw=draw))
        change = await run.run()
        if not run.said_last:
            session.cancel(run.id)
        return run, change

    async def sweep_forever(self) -> None:
        """Look for silent operators and jobs out of time."""
        while True:
            await self._clock.sleep(self._settings.sweep_seconds)
            try:
                self._drop_silent()
                await expire(self._log, self._clock.now(), self._settings.node, self.why)
                await self._unroutable.end(self._candidates(), self._elsewhere.candidates())
            except Exception:
                log.exception("could not look for what is out of time")

    def _drop_silent(self) -> None:
        silent = timedelta(seconds=self._settings.heartbeat_seconds * self._settings.missed_heartbeats)
        for session in list(self._sessions.values()):
            if session.ended or self._clock.now() - session.heard > silent:
                log.warning("operator %s does not answer", session.operator)
                self._leave(session)

    def placement(self, job_id: str) -> Placement | None:
        """Return what is known of why the job is where it is."""
        wanted = self._queue.get(job_id)
        if wanted is None:
            return self._placements.get(job_id)
        seen = consider(wanted, self._candidates())
        return replace(seen, ahead=self._queue.ahead(job_id), waiting=len(self._queue))

    def health(self) -> list[Known]:
        """Return how well operators' models work: of those attached, and of those that are not and failed last."""
        return outcomes.health(self._board, self._candidates())

    def why(self, job_id: str) -> str:
        """Say why a job waits; empty if it does not."""
        wanted = self._queue.get(job_id)
        return explain(wanted, self._candidates()) if wanted else ""

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, seconds: float) -> None:
        """Lease nothing more; give running jobs so long to end, then give them back and end the streams. Idempotent."""
        self._closing = True
        if seconds > 0:
            try:
                await within(self._clock, seconds, self._idle.wait())
            except TimeoutError:
                log.info("%d jobs are given back", len(self._leasing))
        self.send_away()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSING_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
