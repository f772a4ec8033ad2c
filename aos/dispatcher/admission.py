"""What may become a job: the limits of a request, its identity, and the most it can cost. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, NoReturn

from aos.control_order import bounds
from aos.dispatcher.jobs import OPML, Job, Submission
from aos.dispatcher.quotas import Limits, Tokens, check_tokens
from aos.dispatcher.risk import Tag
from aos.dispatcher.settings import DispatcherSettings
from aos.dispatcher.taking_in import take_over
from aos.errors import FeeTooLow, InvalidField, ModelUnavailable, ModelUnsuitable, OtherProvider, QueueFull, RequestIdReused
from aos.nesting import DEPTH, too_deep
from aos.order import canonical_sampling, check_order, cost, digest_order, draws, with_defaults
from aos.picture_order import picture_tokens, several
from aos.v1.dispatcher_pb2 import CreateJobRequest, RiskTag
from aos.v1.registry_pb2 import Model
from aos.v1.types_pb2 import Chat, Determinism, Order
from aos.verification.upstream import name_digest

REQUEST_ID: Final = 128
"""Most characters of a request_id."""
USER_BYTES: Final = 256
ANNOTATION_BYTES: Final = 64 << 10
TEMPLATE_TOKENS: Final = 256
"""What a chat template may add to a conversation: a system turn of its own, dates, marks."""
MESSAGE_TOKENS: Final = 16
"""What a chat template may add to each message."""
CALL_TOKENS: Final = 128
"""What a chat template may add to each tool, and to each call of one."""
TOOLS_TOKENS: Final = 2048
"""What a chat template may say of how tools are called."""
EDGE_TOKENS: Final = 8
"""What a model may want around each text that it turns into a vector."""
TOKEN_BYTES: Final = 512
"""Longest text of one token, generously; bounds what an operator may write into a log."""
NONCE_BYTES: Final = 16
NANOS: Final = 1_000_000_000
JOB_TYPE: Final = 32
"""Most characters of a kind of job that an error repeats."""
REDUNDANCY: Final = 16
"""Most operators that a caller may want to run one job."""
FEE_DIGITS: Final = 38
"""Most digits of what a job may cost."""
_ADDRESS: Final = re.compile(r"0[xX][0-9A-Fa-f]{40}")
_FEE: Final = re.compile(rf"[0-9]{{1,{FEE_DIGITS}}}")
ALL_JOBS: Final = "unfinished jobs"
"""What errors call the queue of all projects' jobs."""
FIRST_PLACES: Final = 1000
"""So many more places than there are for all are for projects that have no other: whoever floods the queue keeps nobody out."""
PRIORITY_LIMIT: Final = 9
"""Priorities go from minus this to this, as an operator's do."""


@dataclass(frozen=True, slots=True)
class Record:
    """A job with what was handed in for it."""

    job: Job
    submission: Submission


NO_TOKENS: Final = Tokens(0, 0)


@dataclass(frozen=True, slots=True)
class Load:
    """How many jobs have not ended, and what the project has used."""

    project: int
    everywhere: int
    tokens: Tokens = NO_TOKENS
    """Of the project's day."""


def check_request(request: CreateJobRequest) -> None:
    """Raise InvalidField for the first field that cannot be accepted."""
    check_order(request.order)
    if len(request.request_id) > REQUEST_ID or not all(" " <= char <= "~" for char in request.request_id):
        raise InvalidField(
            "request_id", f"must have at most {REQUEST_ID} printable ASCII characters", value=request.request_id, limit=REQUEST_ID
        )
    if abs(request.priority) > PRIORITY_LIMIT:
        problem = f"must be from -{PRIORITY_LIMIT} to {PRIORITY_LIMIT}"
        raise InvalidField("priority", problem, value=request.priority, limit=PRIORITY_LIMIT)
    if request.tag not in RiskTag.values():
        raise InvalidField("tag", "must be a risk tag", value=request.tag, limit=", ".join(RiskTag.keys()))
    if request.redundancy > REDUNDANCY:
        problem = f"must be at most {REDUNDANCY}"
        raise InvalidField("redundancy", problem, value=request.redundancy, limit=REDUNDANCY)
    _check_payment(request)
    size = len(request.user.encode())
    if size > USER_BYTES:
        raise InvalidField("user", f"has {size} bytes; at most {USER_BYTES} are accepted", value=size, limit=USER_BYTES)
    size = len(request.annotation.encode())
    if size > ANNOTATION_BYTES:
        raise InvalidField(
            "annotation", f"has {size} bytes; at most {ANNOTATION_BYTES} are accepted", value=size, limit=ANNOTATION_BYTES
        )
    if request.annotation:
        if too_deep(request.annotation):
            raise InvalidField("annotation", f"is nested more than {DEPTH} levels deep", limit=DEPTH)
        try:
            json.loads(request.annotation, parse_constant=_no_constant)
        except ValueError as error:
            raise InvalidField("annotation", "must be JSON text", value=request.annotation) from error


def _check_payment(request: CreateJobRequest) -> None:
    payment = request.payment
    if not request.HasField("payment"):
        return
    if not _ADDRESS.fullmatch(payment.provider):
        problem = "must be 0x and 40 hex digits"
        raise InvalidField("payment.provider", problem, value=payment.provider, limit="0x + 40 hex digits")
    if not _FEE.fullmatch(payment.max_fee):
        problem = f"must be neurons, as at most {FEE_DIGITS} decimal digits"
        raise InvalidField("payment.max_fee", problem, value=payment.max_fee, limit=FEE_DIGITS)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def digest_contents(request: CreateJobRequest, order_digest: bytes) -> bytes:
    """Return the digest by which a retry is known; it leaves the request_id out. ``order_digest`` is of what was sent."""
    parts = [request.user.encode(), request.annotation.encode()]
    # jobs from before there were priorities keep their digests
    parts += [str(request.priority).encode()] if request.priority else []
    parts += [f"risk {request.tag} {request.redundancy}".encode()] if request.tag or request.redundancy else []
    parts += [f"type {request.job_type}".encode()] if request.job_type not in ("", OPML) else []
    parts += (
        [f"payment {request.payment.provider.lower()} {request.payment.max_fee}".encode()] if request.HasField("payment") else []
    )
    parts += [b"timeout" + request.timeout.SerializeToString(deterministic=True)] if request.HasField("timeout") else []
    digests = [order_digest, *(hashlib.sha256(part).digest() for part in parts)]
    return hashlib.sha256(b"aos.contents.v1" + b"".join(digests)).digest()


def job_id(*, project: str, request_digest: bytes, created: datetime, nonce: bytes) -> str:
    """Return the 64 hex digits that commit to whose job it is, what was asked and when."""
    said = hashlib.sha256(b"aos.job.v1")
    for part in (project.encode(), request_digest, created.isoformat().encode(), nonce):
        said.update(len(part).to_bytes(4, "big") + part)
    return said.hexdigest()


def check_model(order: Order, model: Model, job_type: str = "") -> None:
    """Raise ModelUnavailable, ModelUnsuitable or InvalidField if the model cannot take the order, as a job of the kind, now."""
    if not model.routable:
        raise ModelUnavailable(order.model, model.reason or "no operator that offers it can be used")
    if order.WhichOneof("input") == "chat" and not model.chat:
        raise ModelUnsuitable(order.model, "chat template")
    if order.HasField("embedding") and not model.embeddings:
        raise ModelUnsuitable(order.model, "embeddings")
    if order.HasField("picture") and not (model.image_edits if order.picture.sources else model.images):
        raise ModelUnsuitable(order.model, "edits of pictures" if order.picture.sources else "pictures")
    if len(order.picture.sources) > 1 and model.digest.lower() != name_digest(model.name).hex():
        raise several(order)  # only servers that operators ask for others take more
    if order.HasField("control") and not model.controllers:
        raise ModelUnsuitable(order.model, "controllers")
    if draws(order) and (model.images or model.image_edits):
        raise ModelUnsuitable(order.model, "text: it makes pictures")
    if order.determinism == Determinism.DETERMINISM_EXACT and not model.exact:
        raise ModelUnsuitable(order.model, "weights that give the same bits whatever the load")
    kinds = sorted(model.job_types)
    if job_type not in ("", OPML, *kinds):
        problem = f"no operator takes {job_type[:JOB_TYPE]!r} jobs for {order.model!r} now; there are: {', '.join(kinds)}"
        raise InvalidField("job_type", problem, value=job_type, limit=", ".join(kinds))


def check_provider(request: CreateJobRequest, model: Model) -> None:
    """Raise OtherProvider if the provider that is to be paid does not offer the model."""
    wanted = request.payment.provider.lower()
    if wanted and wanted not in (one.removeprefix("operators/").lower() for one in model.operators):
        raise OtherProvider(wanted, request.order.model)


def prompt_bound(order: Order, context_length: int) -> int:
    """Return the most tokens that the input can have; for pictures, as many as it has.

    Every token stands for at least one byte, or is the template's.
    """
    if order.HasField("embedding"):
        return sum(min(len(text.encode()) + EDGE_TOKENS, context_length) for text in order.embedding.texts)
    if order.HasField("picture"):
        return picture_tokens(order.picture)[0]
    text = _chat_bound(order.chat) if order.HasField("chat") else len(order.prompt.encode())
    return min(text + TEMPLATE_TOKENS, context_length)


def _chat_bound(chat: Chat) -> int:
    bound = 0
    for message in chat.messages:
        # templates show results as JSON strings, which are longer than what they say, and calls and tools indented
        bound += len((_indented(message.content) if message.role == "tool" else message.content).encode()) + MESSAGE_TOKENS
        for call in message.tool_calls:
            bound += len(f"{call.name}{_indented(json.loads(call.arguments))}".encode()) + CALL_TOKENS
    for tool in chat.tools:
        shown = [[tool.name, tool.description, json.loads(tool.parameters or "{}")]]
        bound += len(_indented(shown).encode()) + CALL_TOKENS
    return bound + (TOOLS_TOKENS if chat.tools else 0)


def _indented(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=4)


def job_time(request: CreateJobRequest, settings: DispatcherSettings) -> timedelta:
    """Return how long the job may take. Raises InvalidField."""
    if not request.HasField("timeout"):
        return timedelta(seconds=settings.job_seconds)
    seconds, most = request.timeout.seconds + request.timeout.nanos / NANOS, settings.longest_job_seconds
    if not 0 < seconds <= most:
        raise InvalidField("timeout", f"must be above 0 and at most {most:g} s", value=f"{seconds:g}", limit=f"{most:g}")
    return timedelta(seconds=seconds)


def draft(
    request: CreateJobRequest, model: Model, *, project: str, now: datetime, nonce: bytes, time: timedelta, node: str = ""
) -> Record:
    """Return the job that a good request makes, its hold still to be asked for by ``node``. It may take ``time``.

    Raises FeeTooLow if it may cost more than its payment allows.
    """
    asked = digest_order(request.order)
    identity = job_id(project=project, request_digest=asked, created=now, nonce=nonce)
    order = with_defaults(request.order, job=bytes.fromhex(identity))
    prompt = prompt_bound(order, model.context_length)
    completion = min(order.sampling.max_tokens, model.context_length)
    if order.HasField("picture"):
        completion = picture_tokens(order.picture)[1]
    if order.HasField("control"):
        prompt, completion = bounds(order, model.context_length)
    amount = cost(model.price, prompt_tokens=prompt, completion_tokens=completion)
    if request.HasField("payment") and amount > int(request.payment.max_fee):
        raise FeeTooLow(int(request.payment.max_fee), amount)
    job = Job(
        id=identity,
        project=project,
        model=order.model,
        model_digest=model.digest.lower(),
        request_digest=digest_order(order),
        parameters=canonical_sampling(order.sampling),
        seed=order.sampling.seed,
        prompt_bound=prompt,
        completion_bound=completion,
        amount=amount,
        created=now,
        deadline=now + time,
        priority=request.priority,
        job_type=request.job_type or OPML,
        waits=request.HasField("timeout"),
        controlled=order.HasField("control"),
        provider=request.payment.provider.lower(),
        node=node,
    )
    submission = Submission(
        request.request_id,
        order,
        request.user,
        request.annotation,
        digest_contents(request, asked),
        tag=Tag(request.tag),
        redundancy=request.redundancy,
        # who leaves it open gets the same answer from each operator, where all of them can
        # by the model; but pictures of two kinds of processors differ in a bit somewhere, and then are files of other names
        exact=model.exact and not order.HasField("picture") and order.determinism != Determinism.DETERMINISM_BEST_EFFORT,
    )
    return Record(job, submission)


def same(existing: Record, contents: bytes) -> Record:
    """Return the job that the request_id made before. Raises RequestIdReused if something else was asked then."""
    if existing.submission.contents != contents:
        raise RequestIdReused(existing.submission.request_id, existing.job.name)
    return existing


def own_jobs(project: str) -> str:
    """Return what errors call the queue of the project's own jobs."""
    return f"unfinished jobs of {project}"


def admit(new: Record, existing: Record | None, load: Load, limits: Limits, *, queue_jobs: int, node: str) -> Record:
    """Return the record to keep: the first with its request_id. Raises RequestIdReused, QueueFull or QuotaExceeded.

    ``limits`` are the project's, ``queue_jobs`` is how many jobs of all projects may be unfinished, but for projects' only ones.
    ``node`` is the dispatcher that takes it in, from another one if need be; raises ServiceUnavailable while that one releases its
    hold.
    """
    if existing is not None:
        kept = same(existing, new.submission.contents)
        job = take_over(kept.job, node)
        return kept if job is kept.job else replace(kept, job=job)
    job = new.job
    wanted = job.prompt_bound + job.completion_bound
    if load.project >= limits.unfinished_jobs:
        raise QueueFull(own_jobs(job.project), limits.unfinished_jobs)
    if load.everywhere >= (queue_jobs if load.project else queue_jobs + FIRST_PLACES):
        raise QueueFull(ALL_JOBS, queue_jobs)
    check_tokens(job.project, wanted, load.tokens, per_day=limits.tokens_per_day, now=job.created)
    return new
