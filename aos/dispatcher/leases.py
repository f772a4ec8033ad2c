"""One lease: what its operator says about it becomes, in order, the job's log."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from aos.clock import Clock
from aos.dispatcher import jobs
from aos.dispatcher.answers import traced
from aos.dispatcher.attesting import verified
from aos.dispatcher.checks import alone, result_of
from aos.dispatcher.controlled import Shown
from aos.dispatcher.files import Files
from aos.dispatcher.heard import NOBODYS_FAULT, Heard, kept_error, reason_of
from aos.dispatcher.jobs import At, Job, Move, View
from aos.dispatcher.log import EventLog
from aos.dispatcher.meter import Meter
from aos.dispatcher.output import Output
from aos.dispatcher.proving import prove
from aos.dispatcher.settings import DispatcherSettings
from aos.dispatcher.store import Change, CheckStore, Leased, More
from aos.errors import AnswerBroken, AosError, BadReceipt, BadSignature, JobNotFound
from aos.order import draws
from aos.v1.attestation_pb2 import Attested
from aos.v1.dispatcher_pb2 import Draw, LeaseFailed, LeaseFinished, StateRoots
from aos.v1.errors_pb2 import ErrorReason
from aos.v1.operator_pb2 import Chunk, Finish
from aos.verification.receipts import check_signature

UNKNOWN: Final = 4
"""Most events of a lease that are kept and not known to be."""
SHORT_BYTES: Final = 4096
"""Traces up to this size, 30 steps or so, are hashed at once."""
START_SECONDS: Final = 0.05
"""Output that comes so soon behind the word that the operator began is one write with it."""
AGAIN_SECONDS: Final = 1.0
"""After a failure of the store, how long until the next try."""
log = logging.getLogger(__name__)


class End(enum.Enum):
    """What happened to a lease that the operator did not say."""

    LOST = "lost"
    """Its operator is gone."""
    GIVEN_BACK = "given back"
    """Nobody's fault: we or the operator shut down."""
    OVER = "over"
    """The job has ended otherwise."""


@dataclass(frozen=True, slots=True)
class Said:
    """Something the operator said, and its clock then."""

    what: Heard | AosError
    """None: it began. An AosError: what it said cannot be."""
    seen: Mapping[str, int]
    last: Chunk | None = None
    """Output that came right before the end, and is written with it."""


class LeaseRun:
    """Writes one lease into the log. Hearing never waits; what is unwritten is bounded by the job's longest answer."""

    def __init__(
        self,
        leased: Leased,
        operator: str,
        *,
        log: EventLog,
        files: Files,
        checks: CheckStore,
        clock: Clock,
        settings: DispatcherSettings,
        checkable: Callable[[Job], bool],
        proves: tuple[Draw, bytes] | None = None,
    ) -> None:
        """``proves`` is the draw that the operator proves with its result, and its VRF key; None if it has no key in force.

        ``checkable`` says whether anyone is there now who could check a job.
        """
        self.job = leased.change.job
        self.id = self.job.lease
        self.began_at = leased.change.events[-1].sequence
        """The sequence of the event that the lease began with."""
        self.operator = operator
        self.said_last = False
        """Whether the operator ended it, so that it need not be told."""
        self.blamed = False
        """Whether the operator failed it, so that another is to be preferred."""
        self.fault = ""
        """What the operator did wrong, if that says something of how well it works."""
        self.first: float | None = None
        """Seconds until the first output; None: there was none yet."""
        self._last = self.began_at
        """The sequence of the last output that is known to be kept."""
        self._before: Output | None = leased.output
        """The answer as the log has it; None once something was written behind it."""
        self._doubtful = False
        """Whether a write failed, so that it may have been kept or not."""
        self._given = clock.now()
        self._order = leased.submission.order
        self._risk, self._proves, self._checkable = leased.risk, proves, checkable
        self._log, self._files, self._checks, self._clock, self._settings = log, files, checks, clock, settings
        self._unwritten = deque[Said | End]()
        self._news = asyncio.Event()
        self._closed = False
        self._meter = Meter(self.job, self._order, leased.output)
        self._shown = Shown(self.job.model, leased.output) if self.job.controlled else None
        self._said_first = False
        """Whether the operator said anything: that it began says nothing new after that."""
        self._began = 0
        """The operator's own count when it began."""
        self._running = False
        """Whether it was written that it began."""
        self._attested: Attested | None = None
        """What the evidence of a `tee` job was verified to be."""
        self._held: list[Chunk] = []
        """The output of a `tee` job: it is nobody's before that, and no other operator goes on behind it."""

    def hear(self, what: Heard, seen: Mapping[str, int]) -> None:
        """Take what the operator says. What comes behind the end is ignored."""
        if self._closed:
            return
        said = Said(what, seen)
        if isinstance(what, Chunk):
            if not (what.text or what.tokens or what.embeddings or what.pictures or what.HasField("run")):
                return
            if self.first is None:
                self.first = (self._clock.now() - self._given).total_seconds()
            try:
                if self._shown is not None and not self._shown.new(what):
                    return
                self._meter.count(what)
            except (BadReceipt, AnswerBroken) as error:
                said = Said(error, seen)
        elif what is None:
            self._begin(said)
            return
        elif isinstance(what, LeaseFinished) and self._shown is not None:
            try:
                self._shown.check_end()
            except AnswerBroken as error:
                said = Said(error, seen)
        self._said_first = True
        self.said_last = isinstance(said.what, LeaseFinished | LeaseFailed)
        self._closed = not isinstance(said.what, Chunk | None)
        self._put(said)

    def _begin(self, said: Said) -> None:
        self._began = max(self._began, said.seen.get(self.operator, 0))
        if not self._said_first:
            self._said_first = True
            self._unwritten.append(said)
            # its first output says so, too
            asyncio.get_running_loop().call_later(START_SECONDS, self._news.set)

    def end(self, how: End) -> None:
        """Let the lease end, behind what was heard."""
        self._closed = True
        self._put(how)

    def _put(self, item: Said | End) -> None:
        self._unwritten.append(item)
        self._news.set()

    async def run(self) -> Change | None:
        """Write until the lease is over; return what ended it here, None if that was something else."""
        while True:
            await self._news.wait()
            if not self._closed:
                await self._log.turn()
            self._news.clear()
            while self._unwritten:
                item = self._next()
                while True:
                    try:
                        change, over = await self._write(item)
                        break
                    except JobNotFound:
                        return None
                    except Exception:
                        log.exception("could not write lease %s, will try again", self.id)
                        self._doubtful = True
                        await self._clock.sleep(AGAIN_SECONDS)
                if over:
                    return change

    def _next(self) -> Said | End:
        """Return what comes next, chunks that wait made one: one event and one write for all."""
        item = self._unwritten.popleft()
        if isinstance(item, Said) and item.what is None and self._more_waits():
            item = self._unwritten.popleft()  # output says that it began, too
        if not isinstance(item, Said) or not isinstance(item.what, Chunk) or item.what.HasField("run"):
            return item
        whole = Chunk()
        whole.CopyFrom(item.what)
        while self._unwritten and isinstance(more := self._unwritten[0], Said) and isinstance(more.what, Chunk):
            # each is as many as make a good message, or a step of its own
            if more.what.embeddings or more.what.pictures or more.what.HasField("run"):
                break
            whole.text += more.what.text
            whole.tokens.extend(more.what.tokens)
            whole.logprobs.extend(more.what.logprobs)
            self._unwritten.popleft()
        return self._with_end(Said(whole, item.seen))

    def _with_end(self, said: Said) -> Said:
        """Return the end, if it waits behind this output, and the output with it: one write for both.

        Only one that is looked at in no time: nobody is to wait for text while a long trace is hashed, or a proof is checked.
        """
        end = self._unwritten[0] if self._unwritten and self._proves is None and self.job.job_type != jobs.TEE else None
        if not (isinstance(end, Said) and isinstance(end.what, LeaseFinished) and isinstance(said.what, Chunk)):
            return said
        if end.what.finish.trace.ByteSize() > SHORT_BYTES or self._doubtful or said.what.pictures:
            return said
        self._unwritten.popleft()
        return Said(end.what, end.seen, said.what)

    def _more_waits(self) -> bool:
        """Say whether output waits that is written as soon as it can be."""
        following = self._unwritten[0] if self._unwritten and self.job.job_type != jobs.TEE else None
        return isinstance(following, Said) and isinstance(following.what, Chunk)

    async def _write(self, item: Said | End) -> tuple[Change | None, bool]:
        """Return what was changed, and whether the lease is over."""
        if isinstance(item, End):
            return await self._end(item), True
        at = At(self._clock.now(), self._settings.node, item.seen)
        match item.what:
            case None:
                self._running = True
                # nobody relies on it, and the first output need not wait for the disk twice
                await self._log.change(self.job.id, lambda view: jobs.start(view, at, lease=self.id), durable=False)
                return None, False
            case Chunk() as chunk:
                return await self._extend(chunk, at)
            case LeaseFinished() as finished:
                return await self._finish(finished, at, item.last), True
            case LeaseFailed() as failed:
                return await self._fail(failed, at), True
            case AosError() as error:
                return await self._retry(error, at), True

    async def _extend(self, chunk: Chunk, at: At) -> tuple[Change | None, bool]:
        try:
            kept = await self._files.keep(chunk, self._order, project=self.job.project, job=self.job.name)
        except BadReceipt as error:
            return await self._retry(error, at), True
        if self.job.job_type == jobs.TEE:  # nobody sees it before it is verified
            self._held.append(kept)
            return None, False
        self._before = None
        if self._doubtful and await self._was_kept(kept):
            return None, False
        if self._running and (sequence := await self._log.extend(More(self.job.id, self.id, kept))):
            self._last = sequence
            return None, False
        # an operator may say more before it says that it began, or with it
        self._running = True
        change = await self._log.change(self.job.id, lambda view: jobs.extend(view, at, lease=self.id, chunk=kept))
        if change is not None:
            self._last = change.events[-1].sequence
        return change, change is None

    async def _was_kept(self, chunk: Chunk) -> bool:
        """Say whether the try before was kept, though the store failed: its answer may have been lost on the way."""
        _, behind = await self._log.store.behind(self.job.id, project=None, after=self._last, limit=UNKNOWN)
        self._doubtful = False
        found = next((event.sequence for event in behind if event.chunk == chunk), 0)
        self._last = found or self._last
        self._log.look([self.job.id])
        return found > 0

    async def _finish(self, finished: LeaseFinished, at: At, last: Chunk | None) -> Change | None:
        try:
            return await self._finished(finished, at, last)
        except BadReceipt as error:
            if last is not None:  # whoever has the job next goes on behind it
                change, over = await self._extend(last, at)
                if over:
                    return change
            return await self._retry(error, at)

    async def _finished(self, finished: LeaseFinished, at: At, last: Chunk | None) -> Change | None:
        """Return what the answer's end changed. Raises BadReceipt for one that cannot be."""
        try:
            roots = await _looked_at(finished.finish, embeds=not draws(self._order))
            await prove(
                finished,
                self.job,
                self.operator,
                proves=self._proves,
                risk=self._risk,
                began=self._began,
                checks=self._checks,
                clock=self._clock,
            )
            tee = self._settings.tee
            self._attested = await verified(finished, self.job, policy=tee, checks=self._checks, clock=self._clock)
            nobody = not self._checkable(self.job)
            return await self._log.change(self.job.id, lambda view: self._completed(view, at, finished, roots, last, nobody=nobody))
        except BadSignature as error:
            raise BadReceipt(self.job.name, "signature", error.message) from error

    def _completed(
        self,
        view: View,
        at: At,
        finished: LeaseFinished,
        roots: StateRoots | BadReceipt | None,
        last: Chunk | None,
        *,
        nobody: bool,
    ) -> Move | None:
        finish, attested, held = finished.finish, self._attested, self._held
        move = jobs.complete(
            view, at, lease=self.id, finish=finish, order=self._order, attested=attested, held=held, last=last, before=self._before
        )
        if move is None or move.outcome is None:
            return move
        if isinstance(roots, BadReceipt):  # what contradicts the job was said first
            raise roots
        result = result_of(finished, move.outcome.text, risk=self._risk, now=at.now, roots=roots)
        unchecked = alone(self._risk) if nobody else ""
        trace = finished.finish.trace if finished.finish.HasField("trace") else None
        attestation = finished.attestation if finished.HasField("attestation") else None
        return replace(move, result=result, trace=trace, unchecked=unchecked, attestation=attestation)

    async def _fail(self, failed: LeaseFailed, at: At) -> Change | None:
        error = kept_error(failed.error)
        if failed.retryable and error.reason == ErrorReason.ERROR_REASON_SHUTTING_DOWN:
            return await self._end(End.GIVEN_BACK)
        if failed.retryable:
            self.blamed = True
            self.fault = "" if reason_of(error) in NOBODYS_FAULT else error.message
            most = self._settings.max_attempts
            return await self._log.change(self.job.id, lambda view: jobs.lose(view, at, lease=self.id, max_attempts=most))
        return await self._log.change(self.job.id, lambda view: jobs.fail(view, at, lease=self.id, error=error))

    async def _retry(self, error: AosError, at: At) -> Change | None:
        log.warning("operator %s failed lease %s: %s", self.operator, self.id, error)
        if isinstance(error, AnswerBroken):  # no operator can take back what was shown
            return await self._log.change(self.job.id, lambda view: jobs.fail(view, at, lease=self.id, error=jobs.job_error(error)))
        self.blamed, self.fault = True, error.message
        most = self._settings.max_attempts
        return await self._log.change(self.job.id, lambda view: jobs.retry(view, at, lease=self.id, max_attempts=most, error=error))

    async def _end(self, how: End) -> Change | None:
        at, most = At(self._clock.now(), self._settings.node), self._settings.max_attempts
        match how:
            case End.LOST:
                return await self._log.change(self.job.id, lambda view: jobs.lose(view, at, lease=self.id, max_attempts=most))
            case End.GIVEN_BACK:
                return await self._log.change(self.job.id, lambda view: jobs.give_back(view, at, lease=self.id))
            case End.OVER:
                return None


async def _looked_at(finish: Finish, *, embeds: bool) -> StateRoots | BadReceipt | None:
    check_signature(finish.receipt)
    # a thread takes longer than to hash a short trace; a long one takes milliseconds
    if finish.trace.ByteSize() <= SHORT_BYTES:
        return traced(finish, embeds=embeds)
    return await asyncio.to_thread(traced, finish, embeds=embeds)
