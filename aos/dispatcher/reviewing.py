"""One operator's run of a job to check it: like a lease, but what it says goes to nobody before it is whole."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aos.dispatcher.checks import Risk, sent_tag
from aos.dispatcher.files import named_pictures
from aos.dispatcher.heard import Heard
from aos.dispatcher.meter import Meter
from aos.dispatcher.output import Output
from aos.dispatcher.store import Row
from aos.errors import AosError, BadReceipt, OperatorLost
from aos.v1.dispatcher_pb2 import Draw, Lease, LeaseFailed, LeaseFinished
from aos.v1.operator_pb2 import Chunk
from aos.v1.types_pb2 import RunStep, VectorClock

PRIORITY: Final = -9
"""Checks are nobody's hurry."""


@dataclass(frozen=True, slots=True)
class Case:
    """A job to be checked."""

    row: Row
    risk: Risk
    """With the tag and the position of this check."""
    draw: Draw

    def lease(self, name: str, *, seconds: float) -> Lease:
        """Return the lease of one operator."""
        job = self.row.job
        return Lease(
            id=name,
            job=bytes.fromhex(job.id),
            order=self.row.submission.order,
            clock=VectorClock(counts=job.clock),
            tenant=hashlib.sha256(job.project.encode()).hexdigest(),
            priority=PRIORITY,
            seconds=seconds,
            draw=self.draw,
            tag=sent_tag(self.risk.tag),
        )


class ReviewRun:
    """Gathers what one operator says. Hearing never waits; what is kept is bounded by the job's longest answer."""

    def __init__(self, case: Case, name: str, operator: str) -> None:
        self.name, self.operator = name, operator
        self._output, self._texts = Output("", []), list[str]()
        self._meter = Meter(case.row.job, case.row.submission.order, self._output)
        self._job = case.row.job.name
        self._done: asyncio.Future[LeaseFinished] = asyncio.get_running_loop().create_future()
        self._vectors = list(self._output.embeddings)
        self._order, self._pictures = case.row.submission.order, Chunk()
        self._run: list[RunStep] = []
        self._began = 0
        self.said_last = False
        """Whether the operator ended it, so that it need not be told."""
        self.failure: LeaseFailed | None = None
        """Why the operator gave it up, if it did and said so."""

    def hear(self, what: Heard, seen: Mapping[str, int]) -> None:
        """Take what the operator says. What comes behind the end is ignored."""
        if self._done.done():
            return
        match what:
            case None:
                self._began = max(self._began, seen.get(self.operator, 0))
            case Chunk():
                try:
                    self._meter.count(what)
                except BadReceipt as error:
                    self._fail(error)
                    return
                self._texts.append(what.text)
                self._output.tokens.extend(what.tokens)
                self._vectors.extend(what.embeddings)
                self._pictures.pictures.extend(what.pictures)
                if what.HasField("run"):
                    self._run.append(what.run)
            case LeaseFinished():
                self.said_last = True
                self._done.set_result(what)
            case LeaseFailed():
                self.said_last, self.failure = True, what
                self._fail(OperatorLost(self._job, 1))

    def end(self) -> None:
        """Let it end without an answer."""
        self._fail(OperatorLost(self._job, 1))

    def _fail(self, error: AosError) -> None:
        if not self._done.done():
            self._done.set_exception(error)
            self._done.exception()  # nobody may be there to hear it

    @property
    def began(self) -> int:
        """The operator's own count when it began."""
        return self._began

    async def answer(self) -> tuple[LeaseFinished, Output]:
        """Return what the operator signed, and the answer that it is for. Raises OperatorLost or BadReceipt."""
        finished = await self._done
        # in a thread: hashing files takes milliseconds
        named = await asyncio.to_thread(named_pictures, self._pictures, self._order, job=self._job)
        return finished, Output("".join(self._texts), self._output.tokens, self._vectors, named.pictures, self._run)
