"""One lease: what its operator says about it becomes, in order, the job's log."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aos.clock import Clock
from aos.dispatcher import jobs
from aos.dispatcher.admission import TOKEN_BYTES
from aos.dispatcher.answers import check_embeddings, check_logprobs
from aos.dispatcher.jobs import At
from aos.dispatcher.log import EventLog
from aos.dispatcher.settings import DispatcherSettings
from aos.dispatcher.store import Change, Leased
from aos.errors import REASONS, AosError, BadReceipt, BadSignature, JobNotFound
from aos.v1.dispatcher_pb2 import JobError, LeaseFailed, OperatorMessage
from aos.v1.errors_pb2 import ErrorReason
from aos.v1.operator_pb2 import Chunk, Finish
from aos.verification.receipts import check_signature

HELD_BACK_TOKENS: Final = 16
"""Room for text that comes without tokens of its own, in tokens."""
MESSAGE_CHARS: Final = 1000
"""Most characters of an operator's error message that are kept."""
FACTS: Final = 16
"""Most entries of an operator's error metadata that are kept."""
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

    what: Chunk | Finish | LeaseFailed | AosError | None
    """None: it began. An AosError: what it said cannot be."""
    seen: Mapping[str, int]


def read(message: OperatorMessage) -> tuple[str, Chunk | Finish | LeaseFailed | None]:
    """Return which lease an operator speaks of, and what it says; an empty lease for a heartbeat."""
    match message.WhichOneof("message"):
        case "started":
            return message.started.lease, None
        case "chunk":
            return message.chunk.lease, message.chunk.chunk
        case "finished":
            return message.finished.lease, message.finished.finish
        case "failed":
            return message.failed.lease, message.failed
        case _:
            return "", None


def counts(message: OperatorMessage) -> Mapping[str, int]:
    """Return the clock that an operator's message carries."""
    match message.WhichOneof("message"):
        case "heartbeat":
            return message.heartbeat.clock.counts
        case "started":
            return message.started.clock.counts
        case "finished":
            return message.finished.finish.receipt.clock.counts
        case _:
            return {}


class LeaseRun:
    """Writes one lease into the log. Hearing never waits; what is unwritten is bounded by the job's longest answer."""

    def __init__(self, leased: Leased, operator: str, *, log: EventLog, clock: Clock, settings: DispatcherSettings) -> None:
        self.job = leased.change.job
        self.id = self.job.lease
        self.operator = operator
        self.said_last = False
        """Whether the operator ended it, so that it need not be told."""
        self.blamed = False
        """Whether the operator failed it, so that another is to be preferred."""
        self._order = leased.submission.order
        self._sampling = self._order.sampling
        self._log, self._clock, self._settings = log, clock, settings
        self._unwritten = deque[Said | End]()
        self._news = asyncio.Event()
        self._closed = False
        self._tokens_left = self.job.completion_bound - len(leased.output.tokens)
        most = (self.job.completion_bound + HELD_BACK_TOKENS) * TOKEN_BYTES
        self._bytes_left = most - len(leased.output.text.encode())
        vectors = leased.output.embeddings
        self._vectors_left = len(self._order.embedding.texts) - len(vectors)
        self._dimensions = len(vectors[0].values) if vectors else 0

    def hear(self, what: Chunk | Finish | LeaseFailed | None, seen: Mapping[str, int]) -> None:
        """Take what the operator says. What comes behind the end is ignored."""
        if self._closed:
            return
        said = Said(what, seen)
        if isinstance(what, Chunk):
            if not (what.text or what.tokens or what.embeddings):
                return
            try:
                self._check(what)
            except BadReceipt as error:
                said = Said(error, seen)
        self.said_last = isinstance(said.what, Finish | LeaseFailed)
        self._closed = not isinstance(said.what, Chunk | None)
        self._put(said)

    def _check(self, chunk: Chunk) -> None:
        self._tokens_left -= len(chunk.tokens)
        self._bytes_left -= len(chunk.text.encode())
        if min(self._tokens_left, self._bytes_left) < 0:
            raise BadReceipt(self.job.name, "usage.completion_tokens", "more came than was asked for")
        check_logprobs(chunk, self._sampling, job=self.job.name)
        self._vectors_left -= len(chunk.embeddings)
        if self._vectors_left < 0:
            raise BadReceipt(self.job.name, "embeddings", "more came than was asked for")
        self._dimensions = check_embeddings(chunk, self._dimensions, texts=len(self._order.embedding.texts), job=self.job.name)

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
                        await self._clock.sleep(AGAIN_SECONDS)
                if over:
                    return change

    def _next(self) -> Said | End:
        """Return what comes next, chunks that wait made one: one event and one write for all."""
        item = self._unwritten.popleft()
        if not isinstance(item, Said) or not isinstance(item.what, Chunk):
            return item
        whole = Chunk()
        whole.CopyFrom(item.what)
        while self._unwritten and isinstance(more := self._unwritten[0], Said) and isinstance(more.what, Chunk):
            if more.what.embeddings:  # each is as many as make a good message
                break
            whole.text += more.what.text
            whole.tokens.extend(more.what.tokens)
            whole.logprobs.extend(more.what.logprobs)
            self._unwritten.popleft()
        return Said(whole, item.seen)

    async def _write(self, item: Said | End) -> tuple[Change | None, bool]:
        """Return what was changed, and whether the lease is over."""
        if isinstance(item, End):
            return await self._end(item), True
        at = At(self._clock.now(), self._settings.node, item.seen)
        match item.what:
            case None:
                await self._log.change(self.job.id, lambda view: jobs.start(view, at, lease=self.id))
                return None, False
            case Chunk() as chunk:
                change = await self._log.change(self.job.id, lambda view: jobs.extend(view, at, lease=self.id, chunk=chunk))
                return change, change is None
            case Finish() as finish:
                return await self._finish(finish, at), True
            case LeaseFailed() as failed:
                return await self._fail(failed, at), True
            case AosError() as error:
                return await self._retry(error, at), True

    async def _finish(self, finish: Finish, at: At) -> Change | None:
        try:
            if finish.stop and finish.stop not in self._sampling.stop:
                raise BadReceipt(self.job.name, "stop", "is not a stop string of the order")  # noqa: TRY301  # one way out
            order = self._order
            # in a thread: recovering a key takes milliseconds
            await asyncio.to_thread(check_signature, finish.receipt)
            return await self._log.change(
                self.job.id, lambda view: jobs.complete(view, at, lease=self.id, finish=finish, order=order)
            )
        except BadSignature as error:
            return await self._retry(BadReceipt(self.job.name, "signature", error.message), at)
        except BadReceipt as error:
            return await self._retry(error, at)

    async def _fail(self, failed: LeaseFailed, at: At) -> Change | None:
        error = _clean(failed.error)
        if failed.retryable and error.reason == ErrorReason.ERROR_REASON_SHUTTING_DOWN:
            return await self._end(End.GIVEN_BACK)
        if failed.retryable:
            self.blamed = True
            most = self._settings.max_attempts
            return await self._log.change(self.job.id, lambda view: jobs.lose(view, at, lease=self.id, max_attempts=most))
        return await self._log.change(self.job.id, lambda view: jobs.fail(view, at, lease=self.id, error=error))

    async def _retry(self, error: AosError, at: At) -> Change | None:
        log.warning("operator %s failed lease %s: %s", self.operator, self.id, error)
        self.blamed = True
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


def _clean(error: JobError) -> JobError:
    """Return what may be kept of an operator's error: a reason that there is, and not too much text."""
    name = ErrorReason.Name(error.reason) if error.reason in ErrorReason.values() else ""
    known = name.removeprefix("ERROR_REASON_") in REASONS
    kept = sorted(error.metadata.items())[:FACTS]
    return JobError(
        reason=error.reason if known else ErrorReason.ERROR_REASON_ENGINE_FAILED,
        message=error.message[:MESSAGE_CHARS] or "The operator gave no reason.",
        metadata={key[:MESSAGE_CHARS]: value[:MESSAGE_CHARS] for key, value in kept},
    )
