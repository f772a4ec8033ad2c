"""What a job is and how it may move. No clock, no I/O, no gRPC.

Each verb takes the job as a transaction shows it and returns the move to make, or None if there is nothing to do: a retry, or a
message that came too late.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, cast

from aos.dispatcher.answers import check_answer
from aos.dispatcher.controlled import check_run
from aos.dispatcher.output import Output, joined, longer
from aos.dispatcher.risk import Tag
from aos.errors import AosError, BadReceipt, Deadline, JobCancelled, OperatorLost
from aos.picture_order import digest_input, digest_pictures
from aos.toolcalls import add_calls
from aos.v1.attestation_pb2 import Attestation, Attested
from aos.v1.dispatcher_pb2 import JobError, JobEvent, JobResult, JobState, Outcome
from aos.v1.operator_pb2 import Chunk, Finish, Trace
from aos.v1.types_pb2 import Order, Price, Usage
from aos.verification.clock import merge
from aos.verification.receipts import embeddings_digest, text_digest
from aos.verification.upstream import name_digest

OPML: Final = "opml"
"""The kind of job that is signed for."""
TEE: Final = "tee"
"""The kind whose answer must come with evidence of trusted execution, too."""


class State(enum.IntEnum):
    """Where a job stands, numbered as on the wire."""

    QUEUED = JobState.JOB_STATE_QUEUED
    ASSIGNED = JobState.JOB_STATE_ASSIGNED
    RUNNING = JobState.JOB_STATE_RUNNING
    COMPLETED = JobState.JOB_STATE_COMPLETED
    FAILED = JobState.JOB_STATE_FAILED
    CANCELLED = JobState.JOB_STATE_CANCELLED
    EXPIRED = JobState.JOB_STATE_EXPIRED

    @property
    def final(self) -> bool:
        return self >= State.COMPLETED

    @property
    def leased(self) -> bool:
        return self in (State.ASSIGNED, State.RUNNING)

    @property
    def wire(self) -> JobState:
        """As messages carry it."""
        return cast("JobState", int(self))


class Money(enum.IntEnum):
    """What is known of the job's hold with the broker."""

    PENDING = 1
    """Asked for, or about to be. The job is not accepted: nobody sees it and nobody runs it."""
    HELD = 2
    """The broker confirmed it."""
    SETTLED = 3
    """The broker confirmed its end."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What a caller handed in. It never changes."""

    request_id: str
    order: Order
    """Every default filled in."""
    user: str
    annotation: str
    contents: bytes
    """Digest of what was sent: two submissions with equal contents are the same request."""
    tag: Tag = Tag.NONE
    redundancy: int = 0
    """How many operators are to run it, at least; 0: as the tag and the settings say."""
    exact: bool = False
    """Whether each operator's answer must be the same."""


@dataclass(frozen=True, slots=True)
class Job:
    """The part of a job that moves, and what its moves need to know."""

    id: str
    project: str
    model: str
    model_digest: str
    request_digest: bytes
    parameters: str
    seed: int
    prompt_bound: int
    """Most tokens that the input can have."""
    completion_bound: int
    """Most tokens that the answer can have."""
    amount: int
    """What is held for it, in neurons."""
    created: datetime
    deadline: datetime
    money: Money = Money.PENDING
    state: State = State.QUEUED
    operator: str = ""
    lease: str = ""
    """The lease that may write into the log; empty unless ASSIGNED or RUNNING."""
    price: Price | None = None
    """Of the operator that has or had it last."""
    attempts: int = 0
    failures: int = 0
    """Attempts that ended by the operator's fault."""
    clock: Mapping[str, int] = field(default_factory=dict[str, int])
    ended: datetime | None = None
    priority: int = 0
    """Its place among the project's own jobs: higher goes first."""
    traceparent: str = ""
    """Its place in a trace, as W3C Trace Context writes it; empty: it is in none."""
    job_type: str = OPML
    waits: bool = False
    """Whether its caller said how long it may take."""
    controlled: bool = False
    """Whether a controller steers its answer."""
    provider: str = ""
    """The only operator that it may go to, paid from the sub-account with it; empty: any, from available money."""
    node: str = ""
    """The dispatcher that is busy with it, because it takes it in or has given it to an operator; empty: none."""

    @property
    def name(self) -> str:
        return f"jobs/{self.id}"

    @property
    def embeds(self) -> bool:
        """Whether its answer is vectors: every other answer may have a token at least."""
        return self.completion_bound == 0


@dataclass(frozen=True, slots=True)
class View:
    """A job as a transaction shows it."""

    job: Job
    count: int
    """How many events the dispatcher has counted of itself, over all jobs and restarts."""
    output: Callable[[], Output]
    """Reads the answer so far."""
    known: Callable[[], Mapping[str, int]] = dict
    """Reads the dispatcher's whole clock: all that it has heard, over all jobs and restarts."""


@dataclass(frozen=True, slots=True)
class At:
    """When and where a move happens, and what its cause had seen."""

    now: datetime
    node: str
    seen: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Move:
    """What a transaction is to keep. ``events`` get their sequence numbers there; ``outcome`` comes with the last of them."""

    job: Job
    events: tuple[JobEvent, ...] = ()
    outcome: Outcome | None = None
    result: JobResult | None = None
    """What the operator said and signed, if it ended the job with an answer."""
    trace: Trace | None = None
    """What the `state_root` of the outcome's receipt is of."""
    attestation: Attestation | None = None
    """The evidence that came with the answer, if the job asks for any."""
    unchecked: str = ""
    """Why no check can follow, if none can: what the verdict on the job's only answer rests on."""


def accept(view: View, at: At) -> Move | None:
    """The money is there: the job is a job."""
    if view.job.money is not Money.PENDING:
        return None
    return _to(State.QUEUED, view, at, money=Money.HELD, node="")


def assign(view: View, at: At, *, operator: str, price: Price) -> Move | None:
    """Lease a waiting job to an operator, unless its time is over: it ends then, and nobody waits for what it would say."""
    job = view.job
    if job.state is not State.QUEUED or job.money is not Money.HELD or job.deadline <= at.now:
        return None
    attempts = job.attempts + 1
    lease = f"{job.id}/{attempts}"
    return _to(State.ASSIGNED, view, at, operator=operator, price=price, attempts=attempts, lease=lease, node=at.node)


def start(view: View, at: At, *, lease: str) -> Move | None:
    """The operator began."""
    if view.job.lease != lease or view.job.state is not State.ASSIGNED:
        return None
    return _to(State.RUNNING, view, at)


def extend(view: View, at: At, *, lease: str, chunk: Chunk) -> Move | None:
    """More output. A lease that is no longer current adds nothing."""
    if view.job.lease != lease:
        return None
    said = JobEvent(chunk=chunk)
    begun = start(view, at, lease=lease)
    return Move(view.job, (said,)) if begun is None else replace(begun, events=(*begun.events, said))


def complete(
    view: View,
    at: At,
    *,
    lease: str,
    finish: Finish,
    order: Order,
    attested: Attested | None = None,
    held: Sequence[Chunk] = (),
    last: Chunk | None = None,
    before: Output | None = None,
) -> Move | None:
    """The answer is whole; ``order`` is what was asked, ``last`` the output that came right before and is not in the log yet.

    ``before`` is what the log has, if that is known.

    ``attested`` is what its evidence was verified to be, ``held`` the output that waited for that: it goes into the log now.

    Raises BadReceipt if the receipt, whose signature is good, is not for what the log holds.
    """
    job = view.job
    if job.lease != lease:
        return None
    output = joined(held) if held else before or view.output()
    events = [JobEvent(chunk=chunk) for chunk in held]
    if last is not None:
        output = longer(output, last)
        if job.state is State.ASSIGNED:  # it said that it began, too
            events.append(JobEvent(state=State.RUNNING.wire))
        events.append(JobEvent(chunk=last))
    check_finish(job, finish, output, order, operator=job.operator, price=job.price or Price(), amount=job.amount)
    used = finish.receipt.usage
    usage = Usage(
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        cached_tokens=min(finish.cached_tokens, used.prompt_tokens),
    )
    outcome = Outcome(
        text=output.text,
        finish_reason=finish.reason,
        stop=finish.stop,
        usage=usage,
        receipt=finish.receipt,
        embeddings=output.embeddings,
        pictures=output.pictures,
        attested=attested,
    )
    add_calls(outcome, order, job.name)
    return _end(State.COMPLETED, outcome, view, at, before=events)


def check_finish(job: Job, finish: Finish, output: Output, order: Order, *, operator: str, price: Price, amount: int) -> None:
    """Raise BadReceipt if the receipt, whose signature is good, is not for this output, or asks more than ``amount`` neurons."""
    vectors, wanted = output.embeddings, len(order.embedding.texts)
    if len(vectors) != wanted:
        raise BadReceipt(job.name, "embeddings", f"has {len(vectors)} vectors of {wanted} texts")
    digest, completion = embeddings_digest(vectors) if wanted else text_digest(output.text), len(output.tokens)
    if len(output.pictures) != order.picture.count:
        raise BadReceipt(job.name, "pictures", f"are {len(output.pictures)} of {order.picture.count}")
    if order.HasField("picture"):
        digest, completion = digest_pictures(output.pictures), job.completion_bound
        if finish.receipt.prompt_digest != digest_input(order.picture):
            raise BadReceipt(job.name, "prompt_digest", "is not that of the job")
        if finish.receipt.usage.prompt_tokens != job.prompt_bound:
            raise BadReceipt(job.name, "usage.prompt_tokens", f"must be {job.prompt_bound}")
    if order.HasField("control"):
        completion = check_run(finish, output.run, order.control, job=job.name)
    elif output.run or finish.trace.run:
        raise BadReceipt(job.name, "run", "has steps, and no controller was asked for")
    check_answer(
        finish.receipt,
        job=job.name,
        operator=operator,
        request_digest=job.request_digest,
        parameters=job.parameters,
        seed=job.seed,
        model_digest=job.model_digest,
        price=price,
        prompt_bound=job.prompt_bound,
        completion_bound=job.completion_bound,
        amount=amount,
        reason=finish.reason,
        output_digest=digest,
        tokens=output.tokens,
        completion_tokens=completion,
        upstream=job.model_digest == name_digest(job.model).hex(),
    )
    if finish.stop and finish.stop not in order.sampling.stop:
        raise BadReceipt(job.name, "stop", "is not a stop string of the order")


def lose(view: View, at: At, *, lease: str, max_attempts: int) -> Move | None:
    """The operator is gone, or failed in a way that another may not: try again, unless that was the last attempt."""
    return retry(view, at, lease=lease, max_attempts=max_attempts, error=OperatorLost(view.job.name, view.job.failures + 1))


def retry(view: View, at: At, *, lease: str, max_attempts: int, error: AosError) -> Move | None:
    """The attempt failed: try again, unless it was the last; then the job ends with ``error``."""
    job = view.job
    if job.lease != lease:
        return None
    failures = job.failures + 1
    if failures >= max_attempts:
        failed = replace(job, failures=failures)
        return fail(replace(view, job=failed), at, lease=lease, error=job_error(error))
    return _to(State.QUEUED, view, at, failures=failures, lease="", node="")


def give_back(view: View, at: At, *, lease: str) -> Move | None:
    """Nobody's fault: the job waits again, and the attempt does not count against it."""
    if view.job.lease != lease or not view.job.state.leased:
        return None
    return _to(State.QUEUED, view, at, lease="", node="")


def fail(view: View, at: At, *, lease: str, error: JobError) -> Move | None:
    """It cannot be computed, by anyone."""
    if view.job.lease != lease:
        return None
    return _end(State.FAILED, Outcome(error=error), view, at)


def cancel(view: View, at: At) -> Move | None:
    """The caller ends it. Cancelling a job that has ended changes nothing: the caller lost a race, which is not an error."""
    if view.job.state.final:
        return None
    return _end(State.CANCELLED, Outcome(error=job_error(JobCancelled(view.job.name))), view, at)


def abandon(view: View, at: At, *, error: AosError) -> Move | None:
    """Nobody is there any more who could run the waiting job."""
    if view.job.state is not State.QUEUED or view.job.money is not Money.HELD:
        return None
    return _end(State.FAILED, Outcome(error=job_error(error)), view, at)


def expire(view: View, at: At, *, limit: float, why: str = "") -> Move | None:
    """Its time is over; ``why`` says what kept it, if that is known."""
    job = view.job
    if job.state.final or job.deadline > at.now:
        return None
    error = job_error(Deadline(job.name, limit))
    if why:
        error.message = f"{error.message} {why}"
    return _end(State.EXPIRED, Outcome(error=error), view, at)


def job_error(error: AosError) -> JobError:
    """Return the error as jobs carry it."""
    return JobError(reason=f"ERROR_REASON_{error.reason}", message=error.message, metadata=error.facts)


def _to(state: State, view: View, at: At, **changes: Any) -> Move:
    moved = replace(view.job, state=state, clock=_tick(view, at), **changes)
    return Move(moved, (JobEvent(state=state.wire),))


def _end(state: State, outcome: Outcome, view: View, at: At, before: Sequence[JobEvent] = ()) -> Move:
    outcome.state = state.wire
    if state is not State.COMPLETED:
        output = view.output()
        outcome.text = output.text
        outcome.usage.CopyFrom(Usage(completion_tokens=len(output.tokens)))
        if output.run:
            last = output.run[-1]
            outcome.usage.CopyFrom(Usage(prompt_tokens=last.ff_tokens, completion_tokens=last.sampled_tokens))
    job = replace(view.job, state=state, lease="", node="", ended=at.now, clock=_tick(view, at))
    return Move(job, (*before, JobEvent(outcome=outcome)), outcome)


def _tick(view: View, at: At) -> dict[str, int]:
    # the dispatcher counts its own events over all jobs, so that no two of them share a number
    return merge(view.known(), view.job.clock, at.seen, {at.node: view.count + 1})
