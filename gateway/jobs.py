"""The Hetu AOS dispatcher's REST dialect for jobs; docs/reference/rest-jobs.md has the fields."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, ConfigDict, Field

from aos.client import CALL_SECONDS, outcome_error
from aos.errors import AosError, InsufficientBalance, InvalidField, JobNotFound, ProjectNotFound, Unauthenticated
from aos.rpc.status import answered
from aos.v1 import dispatcher_pb2_grpc, registry_pb2_grpc
from aos.v1.dispatcher_pb2 import CreateJobRequest, GetJobRequest, GetProjectRequest, Job, JobState
from aos.v1.registry_pb2 import GetModelRequest
from aos.v1.types_pb2 import Chat, ChatMessage, Order, Sampling
from gateway.body import Body, TooLarge, check, members
from gateway.drawing import DETERMINISM, Drawing, TopLogprobs
from gateway.http import HTTP, Context, Metadata, Reply, dump, header, known, passed_on, read, retry_after, send
from gateway.v1 import jobs_pb2_grpc

ANNOTATION_BYTES: Final = 64 << 10
"""Most bytes that are kept of a `job` besides its prompt."""
KIND: Final = "opml"
"""The only kind of job that there is, and the default of `job.tag`."""
ANNOTATION: Final = "gateway.v1.Jobs"

STATUS: Final = {
    JobState.JOB_STATE_QUEUED: "created",
    JobState.JOB_STATE_ASSIGNED: "dispatched",
    JobState.JOB_STATE_RUNNING: "dispatched",
    JobState.JOB_STATE_COMPLETED: "completed",
    JobState.JOB_STATE_FAILED: "failed",
    JobState.JOB_STATE_CANCELLED: "cancelled",
    JobState.JOB_STATE_EXPIRED: "expired",
}
VRF: Final = {"selected": False, "vrf_prompt_hash": "", "vrf_random_value": "", "vrf_verify_pubkey": "", "vrf_proof": ""}
"""What a result says of its selection while no job is sampled for checking."""


class Params(Drawing):
    """How tokens are drawn. A parameter that is not here is refused: it would have no effect."""

    stop: list[str] | None = None
    logprobs: bool = False
    top_logprobs: TopLogprobs = 0


class JobFields(BaseModel):
    """What a job must have; whatever else it has is kept with it and not looked at."""

    model_config = ConfigDict(strict=True, extra="ignore")

    tag: Literal["opml"] = KIND
    prompt: Annotated[str, Field(min_length=1)]
    model: Annotated[str, Field(min_length=1)]
    params: Params = Params()


class Submission(BaseModel):
    """The body of a submit."""

    model_config = ConfigDict(strict=True, extra="forbid")

    project: Annotated[str, Field(alias="from", min_length=1)]
    verify: str = ""
    user: str = ""
    tag: Literal["", "suspicion", "malicious"] = ""
    job: JobFields


class Question(BaseModel):
    """The body of a question about a job."""

    model_config = ConfigDict(strict=True, extra="forbid")

    job_id: str
    verify: str = ""


class JobsServicer(jobs_pb2_grpc.JobsServicer):
    """Calls the Dispatcher and the Registry through ``face`` with the caller's own token, never one of its own."""

    def __init__(self, face: grpc.aio.Channel) -> None:
        self._dispatcher = dispatcher_pb2_grpc.DispatcherStub(face)
        self._registry = registry_pb2_grpc.RegistryStub(face)

    async def SubmitJob(self, request: HttpBody, context: Context) -> HttpBody:
        return await _reply(context, self._submit(request, context))

    async def GetJobResults(self, request: HttpBody, context: Context) -> HttpBody:
        return await _reply(context, self._results(request, context))

    async def GetJobDetail(self, request: HttpBody, context: Context) -> HttpBody:
        return await _reply(context, self._detail(request, context))

    async def _submit(self, request: HttpBody, context: Context) -> str:
        body = await read(request)
        asked = check(Submission, body.fields)
        annotation = annotate(body, asked.tag)
        metadata = passed_on(context, asked.verify)
        await self._check_project(asked.project, metadata)
        model = await answered(
            self._registry.GetModel(GetModelRequest(name=asked.job.model), metadata=metadata, timeout=CALL_SECONDS)
        )
        wanted = CreateJobRequest(
            request_id=header(context, "idempotency-key"),
            order=order_of(asked.job, chat=model.chat),
            user=asked.user,
            annotation=annotation,
        )
        job = await answered(self._dispatcher.CreateJob(wanted, metadata=metadata, timeout=CALL_SECONDS))
        return dump(_id(job.name))

    async def _results(self, request: HttpBody, context: Context) -> str:
        return dump(results_of(await self._job(request, context)))

    async def _detail(self, request: HttpBody, context: Context) -> str:
        return detail_of(await self._job(request, context))

    async def _job(self, request: HttpBody, context: Context) -> Job:
        asked = check(Question, (await read(request)).fields)
        metadata = passed_on(context, asked.verify)
        wanted = GetJobRequest(name=f"jobs/{asked.job_id.removeprefix('jobs/')}")
        return await answered(self._dispatcher.GetJob(wanted, metadata=metadata, timeout=CALL_SECONDS))

    async def _check_project(self, claimed: str, metadata: Metadata) -> None:
        """Raise Unauthenticated unless the credentials are those of the project that the body names."""
        own = GetProjectRequest(name="projects/-")
        project = await answered(self._dispatcher.GetProject(own, metadata=metadata, timeout=CALL_SECONDS))
        if project.name.removeprefix("projects/") != claimed.removeprefix("projects/"):
            raise Unauthenticated("verify: is not the token of the project in 'from'.")


async def _reply(context: Context, result: Awaitable[str]) -> HttpBody:
    try:
        reply = success(await result)
    except Exception as error:
        reply = failure(known(error))
    return await send(context, reply)


def _id(name: str) -> str:
    return name.removeprefix("jobs/")


def order_of(job: JobFields, *, chat: bool) -> Order:
    """Return the native order: the prompt as a user's turn where the model has a chat template, else as it is."""
    params = job.params
    how = DETERMINISM[params.determinism]
    sampling = Sampling(**params.parameters(), stop=params.stop, logprobs=params.logprobs, top_logprobs=params.top_logprobs)
    if chat:
        turns = Chat(messages=[ChatMessage(role="user", content=job.prompt)])
        return Order(model=job.model, chat=turns, sampling=sampling, determinism=how)
    return Order(model=job.model, prompt=job.prompt, sampling=sampling, determinism=how)


def annotate(body: Body, tag: str) -> str:
    """Return what is kept beside the job: the tag, and the text of `job` without its prompt, which the order has.

    Raises InvalidField if that is more than ``ANNOTATION_BYTES``.
    """
    begin, end = next((start, end) for key, start, end in members(body.text) if key == "job")
    first, last = next((start, end) for key, start, end in members(body.text, begin) if key == "prompt")
    kept = dump({ANNOTATION: {"tag": tag, "job": [body.text[begin:first], body.text[last:end]]}})
    size = len(kept.encode())
    if size > ANNOTATION_BYTES:
        raise InvalidField(
            "job",
            f"has {size} bytes besides its prompt; at most {ANNOTATION_BYTES} are kept",
            value=size,
            limit=ANNOTATION_BYTES,
        )
    return kept


def submitted(job: Job) -> tuple[str, str]:
    """Return the risk tag, and the text of `job` as it was submitted, or as it would have been for a job made otherwise."""
    try:
        kept: Any = json.loads(job.annotation)[ANNOTATION]
        head, tail = kept["job"]
    except (ValueError, KeyError, TypeError):  # made by another door, with an annotation of its own or none
        return "", dump(_as_job(job.order))
    return kept["tag"], f"{head}{dump(_prompt(job.order))}{tail}"


def _prompt(order: Order) -> str:
    return order.chat.messages[-1].content if order.HasField("chat") else order.prompt


def _as_job(order: Order) -> dict[str, Any]:
    params: dict[str, Any] = {field.name: value for field, value in order.sampling.ListFields() if field.name != "mirostat"}
    if order.sampling.HasField("mirostat"):
        params |= {"mirostat": 2, "mirostat_tau": order.sampling.mirostat.tau, "mirostat_eta": order.sampling.mirostat.eta}
    if order.determinism:
        params["determinism"] = next(name for name, value in DETERMINISM.items() if value == order.determinism)
    if "stop" in params:
        params["stop"] = list(order.sampling.stop)
    if "logit_bias" in params:
        params["logit_bias"] = {str(token): bias for token, bias in sorted(order.sampling.logit_bias.items())}
    job: dict[str, Any] = {"tag": KIND, "prompt": _prompt(order), "model": order.model, "params": params}
    if order.HasField("chat"):
        job["messages"] = [{"role": message.role, "content": message.content} for message in order.chat.messages]
    return job


def results_of(job: Job) -> list[dict[str, Any]]:
    """Return the dialect's results: one once the job has ended, for failures too; none before."""
    if not job.HasField("outcome"):
        return []
    tag, _ = submitted(job)
    outcome = job.outcome
    failed = outcome_error(job.name, outcome)
    receipt = None if failed else outcome.receipt
    clock = receipt.clock if receipt else job.clock
    return [
        {
            "id": f"{job.operator}_{_id(job.name)}_{tag}",
            "job_id": _id(job.name),
            "operator": job.operator,
            "result": "" if failed else outcome.text,
            "verify_id": _id(job.name),
            "vrf": VRF,
            "clock": _clock(clock.counts),
            "signature": f"0x{receipt.signature.hex()}" if receipt else "",
            "job_type": "",
            "tag": tag,
            "created_at": _time(job.ended),
            "reason": failed.message if failed else "",
        }
    ]


def detail_of(job: Job) -> str:
    """Return the dialect's job as JSON text, with the submitted `job` in its own words."""
    tag, text = submitted(job)
    rest = {
        "user": job.user,
        "job_type": "",
        "status": STATUS.get(job.state, ""),
        "tag": tag,
        "clock": _clock(job.clock.counts),
        "created_at": _time(job.created),
    }
    return f'{{"id":{dump(_id(job.name))},"job":{text},{dump(rest)[1:]}'


def _clock(counts: Any) -> dict[str, str]:
    return {node: str(count) for node, count in sorted(counts.items())}


def _time(stamp: Timestamp) -> str:
    time: datetime = stamp.ToDatetime()  # naive, in UTC
    return f"{time:%Y-%m-%d %H:%M:%S}"


def success(result: str) -> Reply:
    """Return the reply whose `result` is this JSON text."""
    return Reply(f'{{"code":200,"result":{result}}}'.encode())


def failure(error: AosError | None) -> Reply:
    """Return the reply for a failure; None is one that nobody foresaw."""
    match error:
        case None:
            status, message = 500, "Internal error."
        case TooLarge():
            status, message = 413, error.message
        case InsufficientBalance():
            status, message = 402, error.message
        case JobNotFound():
            status, message = 404, f"There is no job {_id(error.facts.get('job', ''))!r} of this project."
        case ProjectNotFound():
            status, message = 401, "verify: is not the token of the project in 'from'."
        case InvalidField():
            status, message = 400, _in_dialect(error)
        case _:
            status, message = HTTP.get(error.code, 500), error.message
    return Reply(dump({"code": status, "message": message, "result": None}).encode(), status, retry_after(error))


def _in_dialect(error: InvalidField) -> str:
    """Return the message with the field's name in this dialect."""
    for native, ours in NAMES.items():
        if error.message.startswith(native):
            return f"{ours}{error.message.removeprefix(native)}"
    return error.message


NAMES: Final = {
    "order.sampling.mirostat.": "job.params.mirostat_",
    "order.sampling.": "job.params.",
    "order.chat.messages:": "job.prompt:",
    "order.chat.messages[0].content": "job.prompt",
    "order.prompt": "job.prompt",
    "order.model": "job.model",
    "request_id": "idempotency-key",
    "name:": "job_id:",
}
"""Native fields' names and the dialect's."""
