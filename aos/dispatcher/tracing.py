"""The spans of the jobs that this dispatcher took in: each from its acceptance to its end."""

from __future__ import annotations

from typing import Final

from aos.dispatcher.jobs import Job, State
from aos.telemetry import Span, Telemetry
from aos.v1.dispatcher_pb2 import Outcome
from aos.v1.errors_pb2 import ErrorReason
from aos.v1.types_pb2 import Order

SPANS: Final = 16_384
"""Most jobs with an open span, more than a dispatcher takes in at once; beyond, the oldest span is never recorded."""


class JobSpans:
    """Spans by their jobs' ids. A job that outlives its dispatcher keeps its trace, but has no span of the dispatcher's."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._spans: dict[str, Span] = {}

    def begin(self, job_id: str, order: Order, parent: str) -> Span:
        """Begin a job's span. Unless it is kept, it is recorded nowhere."""
        return self._telemetry.begin(order, parent=parent, job=f"jobs/{job_id}", serving=False)

    def keep(self, job: Job, span: Span) -> None:
        """Hold the span of an accepted job until the job ends."""
        if job.state.final:  # it was quicker
            span.fail(job.state.name)
            return
        while len(self._spans) >= SPANS:
            del self._spans[next(iter(self._spans))]
        self._spans[job.id] = span

    def open(self, job_id: str) -> bool:
        """Say whether the job's span is held here."""
        return job_id in self._spans

    def end(self, job: Job, outcome: Outcome) -> None:
        """End the span of a job that has ended, if there is one."""
        span = self._spans.pop(job.id, None)
        if span is None:
            return
        if job.state is State.COMPLETED:
            span.complete(outcome.finish_reason, outcome.usage, aos_operator=job.operator)
        else:
            reason = ErrorReason.Name(outcome.error.reason).removeprefix("ERROR_REASON_")
            span.fail(reason, aos_operator=job.operator)
