"""Canaries: tiny leases that are nobody's job, to see whether an operator that is idle or gets no jobs works as it should."""

from __future__ import annotations

import asyncio
import enum
import hashlib
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from aos.clock import Clock, within
from aos.dispatcher import jobs
from aos.dispatcher.admission import prompt_bound
from aos.dispatcher.answers import traced
from aos.dispatcher.checks import NO_RISK
from aos.dispatcher.health import Answers, Board, Key, State
from aos.dispatcher.heard import MESSAGE_CHARS, NOBODYS_FAULT, Heard, reason_of
from aos.dispatcher.jobs import Job, Submission
from aos.dispatcher.output import Output
from aos.dispatcher.reviewing import PRIORITY, Case, ReviewRun
from aos.dispatcher.sessions import Session
from aos.dispatcher.settings import DispatcherSettings
from aos.dispatcher.store import Row
from aos.errors import AosError, BadReceipt, BadSignature, OperatorLost
from aos.order import canonical_sampling, cost, digest_order, with_defaults
from aos.v1.dispatcher_pb2 import Draw, Lease, LeaseFinished
from aos.v1.operator_pb2 import Chunk
from aos.v1.registry_pb2 import Offer
from aos.v1.types_pb2 import Determinism, Order, Sampling
from aos.verification.receipts import check_signature

PROMPT: Final = "The first ten numbers are one, two, three,"
"""What each is asked: always the same, so that answers can be compared."""
MAX_TOKENS: Final = 8
AT_ONCE: Final = 8
"""Most canaries that are under way and have begun in the last ``YOUNG_SECONDS``: one that is not answered blocks nobody else's."""
YOUNG_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 1.0
"""At least so long between looks for those that are due: they are looked for together."""
ID_BYTES: Final = 16
"""Random bytes in the id of a canary's lease: nobody's job has it."""
CALLERS_FAULT: Final = frozenset({"INVALID_FIELD", "CONTEXT_OVERFLOW", "MODEL_UNSUITABLE"})
"""Who says this has looked at the canary: it works, though it cannot take this one, as models that only make vectors."""

log = logging.getLogger(__name__)


class Ending(enum.StrEnum):
    """What a canary came to."""

    GOOD = "good"
    """Answered as it should be."""
    REFUSED = "refused"
    """The operator looked at it and cannot take it, as one whose model makes vectors: it works."""
    WRONG = "wrong"
    """Answered, and not with the known answer."""
    FAILED = "failed"
    """The operator said that it failed, or its answer cannot be."""
    SILENT = "silent"
    """Not answered in time."""
    VOID = "void"
    """Nothing can be said: the operator left, was full or shut down, or another canary was answered first."""


@dataclass(slots=True)
class Canary:
    """One that is under way."""

    run: ReviewRun
    session: Session
    began: datetime
    first: datetime | None = None
    """When the first text came."""


class Canaries:
    """Looks after operators' models that are idle or not HEALTHY, a few at a time."""

    def __init__(
        self,
        sessions: Mapping[str, Session],
        board: Board,
        *,
        settings: DispatcherSettings,
        clock: Clock,
        randomness: Callable[[int], bytes],
        counted: Callable[[Ending], None] = lambda _: None,
    ) -> None:
        """``sessions`` are the attached operators, by address, as they come and go; what is found goes to the ``board``.

        ``counted`` is told what each canary comes to.
        """
        self._counted = counted
        self._sessions, self._board, self._settings = sessions, board, settings
        self._clock, self._randomness = clock, randomness
        self.changed: Callable[[], None] = lambda: None
        """Called when a place is free again, or an operator works again."""
        self._answers = Answers()
        self._going: dict[Key, list[asyncio.Task[None]]] = {}
        """Of one operator's model, oldest first: the first has all the time, the last is the latest look."""
        self._began: dict[asyncio.Task[None], datetime] = {}
        """When each of them did, in that order."""
        self._runs: dict[str, Canary] = {}
        self._news = asyncio.Event()
        self._closed = False

    def look(self) -> None:
        """Note that one may be due earlier than it was."""
        self._news.set()

    def hear(self, session: Session, lease: str, what: Heard, seen: Mapping[str, int]) -> bool:
        """Take what an operator says about a canary; False if it is about something else."""
        canary = self._runs.get(lease)
        if canary is None or canary.session is not session:
            return False
        if canary.first is None and isinstance(what, Chunk):
            canary.first = self._clock.now()
        canary.run.hear(what, seen)
        return True

    def left(self, session: Session) -> None:
        """Expect nothing more of an operator."""
        for canary in list(self._runs.values()):
            if canary.session is session:
                canary.run.end()

    async def run_forever(self) -> None:
        """Send canaries as they become due. Sleeps while none is."""
        while True:
            self._news.clear()
            wait = self._begin()
            with suppress(TimeoutError):
                if wait is None:
                    await self._news.wait()
                else:
                    await within(self._clock, max(wait, PAUSE_SECONDS), self._news.wait())

    def _begin(self) -> float | None:
        """Begin those that are due; return in how many seconds the next is. None: none is planned, or the next end looks again."""
        now, soonest = self._clock.now(), None
        for session in list(self._sessions.values()):
            for model, key in session.keys.items():
                due = self._due(session, key, now)
                if due is None:
                    continue
                if self._closed:
                    return None
                at = due if due > now else self._free(now)
                if at <= now:
                    self._board.later(key, now)
                    self._send(session, session.offers[model], key, now)
                    at = self._due(session, key, now)  # the next, unless it is HEALTHY and this one's end looks again
                if at is not None:
                    soonest = at if soonest is None else min(soonest, at)
        return None if soonest is None else (soonest - now).total_seconds()

    def _free(self, now: datetime) -> datetime:
        """Return when one more may begin."""
        ends = [began + timedelta(seconds=YOUNG_SECONDS) for began in self._began.values()]
        young = [end for end in ends if end > now]
        return now if len(young) < AT_ONCE else young[0]

    def _send(self, session: Session, offer: Offer, key: Key, now: datetime) -> None:
        going = self._going.setdefault(key, [])
        # the first may be waiting for its model to be loaded; what was sent after it was swallowed
        if len(going) > 1 and going[-1].cancel():
            self._counted(Ending.SILENT)
        task = asyncio.create_task(self._probe(session, offer, key))
        going.append(task)
        task.add_done_callback(lambda task: self._over(key, task))
        self._began[task] = now

    def _due(self, session: Session, key: Key, now: datetime) -> datetime | None:
        health = self._board.get(key)
        if health is None or health.next_probe is None or session.ended or session.leaving:
            return None
        if key in self._going and health.state is State.HEALTHY:
            return None
        if health.next_probe <= now and health.state is State.HEALTHY and session.running(key.model):
            self._board.later(key, now)  # it is not idle
            health = self._board.get(key)
        return health and health.next_probe

    def _over(self, key: Key, task: asyncio.Task[None]) -> None:
        del self._began[task]
        self._going[key].remove(task)
        if not self._going[key]:
            del self._going[key]
        self._news.set()
        self.changed()

    async def _probe(self, session: Session, offer: Offer, key: Key) -> None:
        order, job = self._order(offer, key)
        name, most = f"canary/{job.id}", self._settings.canary_seconds
        run = ReviewRun(Case(Row(0, job, Submission("", order, "", "", b""), None), NO_RISK, Draw()), name, key.operator)
        canary = self._runs[name] = Canary(run, session, self._clock.now())
        session.take_slot(key.model)
        problem, ending = "", Ending.VOID
        try:
            session.give(Lease(id=name, job=bytes.fromhex(job.id), order=order, tenant=name, priority=PRIORITY, seconds=most))
            finished, output = await within(self._clock, most, run.answer())
            await self._check(finished, output, job, order, offer)
            now, used = self._clock.now(), finished.finish.receipt.usage.prompt_tokens
            if canary.first is not None:
                self._board.timed(key, now, seconds=(canary.first - canary.began).total_seconds(), prompt_tokens=used)
            said = output.tokens if offer.exact else []
            answer = hashlib.sha256(b"".join(token.to_bytes(4) for token in said)).digest()
            if other := offer.exact and self._answers.judge(key.digest, finished.finish.receipt.profile, key.operator, answer):
                log.warning("operator %s is not used for %s: %s", key.operator, key.model, other)
                self._board.wrong(key, now, why=other)
                ending = Ending.WRONG
            else:
                self._works(key, now)
                ending = Ending.GOOD
        except TimeoutError:
            problem, ending = f"it did not answer a canary within {most:g} s", Ending.SILENT
        except OperatorLost:
            problem, ending = self._refused(run, key)
        except (BadReceipt, BadSignature) as error:
            problem, ending = f"it answered a canary with what cannot be: {error.message[:MESSAGE_CHARS]}", Ending.FAILED
        except AosError as error:
            log.warning("a canary of operator %s says nothing: %s", key.operator, error)
        finally:
            del self._runs[name]
            session.free_slot(key.model)
            if not run.said_last:
                session.cancel(name)
        if problem:
            log.warning("operator %s, model %s: %s", key.operator, key.model, problem)
            self._board.failed(key, self._clock.now(), job=name, why=problem)
        self._counted(ending)

    def _works(self, key: Key, now: datetime) -> None:
        """Note that it works; what it has not answered yet is not waited for."""
        self._board.worked(key, now, probed=True)
        for task in self._going.get(key, ()):
            if task is not asyncio.current_task() and task.cancel():
                self._counted(Ending.VOID)

    def _order(self, offer: Offer, key: Key) -> tuple[Order, Job]:
        identity = hashlib.sha256(b"aos.canary.v1" + self._randomness(ID_BYTES)).hexdigest()
        exact = Determinism.DETERMINISM_EXACT if offer.exact else Determinism.DETERMINISM_UNSPECIFIED
        sampling = Sampling(temperature=0.0, max_tokens=MAX_TOKENS, seed=0)
        asked = Order(model=key.model, prompt=PROMPT, sampling=sampling, determinism=exact)
        order, now = with_defaults(asked, job=bytes.fromhex(identity)), self._clock.now()
        prompt = prompt_bound(order, offer.context_length)
        return order, Job(
            id=identity,
            project="",
            model=key.model,
            model_digest=key.digest,
            request_digest=digest_order(order),
            parameters=canonical_sampling(order.sampling),
            seed=order.sampling.seed,
            prompt_bound=prompt,
            completion_bound=MAX_TOKENS,
            amount=cost(offer.price, prompt_tokens=prompt, completion_tokens=MAX_TOKENS),
            created=now,
            deadline=now,
        )

    async def _check(self, finished: LeaseFinished, output: Output, job: Job, order: Order, offer: Offer) -> None:
        """Raise BadReceipt or BadSignature for an answer that a job would not be ended by."""
        # in threads: recovering a key and hashing a trace take milliseconds
        await asyncio.to_thread(check_signature, finished.finish.receipt)
        operator = self._runs[f"canary/{job.id}"].session.operator
        jobs.check_finish(job, finished.finish, output, order, operator=operator, price=offer.price, amount=job.amount)
        if isinstance(roots := await asyncio.to_thread(traced, finished.finish, embeds=False), BadReceipt):
            raise roots

    def _refused(self, run: ReviewRun, key: Key) -> tuple[str, Ending]:
        """Return what is wrong with an operator that gave the canary up, empty if nothing or unknown, and what that comes to."""
        if run.failure is None:  # it left
            return "", Ending.VOID
        reason = reason_of(run.failure.error)
        if reason in CALLERS_FAULT:
            self._works(key, self._clock.now())
            return "", Ending.REFUSED
        if reason in NOBODYS_FAULT:
            return "", Ending.VOID
        return f"it failed a canary: {run.failure.error.message[:MESSAGE_CHARS] or reason}", Ending.FAILED

    async def close(self) -> None:
        """End what is under way, and begin nothing more. Idempotent."""
        self._closed = True
        going = list(self._began)
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)
