"""The Hetu AOS dispatcher's REST dialect for jobs; docs/reference/rest-jobs.md has the fields."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.duration_pb2 import Duration
from pydantic import BaseModel, ConfigDict, Field

from aos.client import CALL_SECONDS
from aos.errors import InvalidField, Unauthenticated
from aos.paging import page_length, page_start_number, page_token
from aos.rpc.status import answered
from aos.v1 import dispatcher_pb2_grpc, registry_pb2_grpc
from aos.v1.dispatcher_pb2 import (
    CreateJobRequest,
    GetJobRequest,
    GetProjectRequest,
    Job,
    JobResult,
    JobState,
    ListJobsRequest,
    ListResultsRequest,
    Verdict,
)
from aos.v1.registry_pb2 import GetModelRequest
from aos.v1.types_pb2 import Chat, ChatMessage, Order, Sampling
from gateway.body import Body, check, members
from gateway.drawing import DETERMINISM, Drawing, TopLogprobs
from gateway.http import Context, Metadata, dump, header, passed_on, read
from gateway.job_replies import page, reply, result
from gateway.job_rows import ANNOTATION, KIND, TAGS, bare, detail_of, results_of
from gateway.projects import project_id
from gateway.v1 import jobs_pb2_grpc

ANNOTATION_BYTES: Final = 64 << 10
"""Most bytes that are kept of a `job` besides its prompt."""
TIMEOUT: Final = 1e9
"""More seconds than any dispatcher's settings let a job take."""
AT_ONCE: Final = 16
"""Most jobs of a page whose results are asked for at the same time."""
ENDED: Final = (
    JobState.JOB_STATE_COMPLETED,
    JobState.JOB_STATE_FAILED,
    JobState.JOB_STATE_CANCELLED,
    JobState.JOB_STATE_EXPIRED,
)


class Params(Drawing):
    """How tokens are drawn. A parameter that is not here is refused: it would have no effect."""

    stop: list[str] | None = None
    logprobs: bool = False
    top_logprobs: TopLogprobs = 0


class JobFields(BaseModel):
    """What a job must have; whatever else it has is kept with it and not looked at."""

    model_config = ConfigDict(strict=True, extra="ignore")

    tag: Literal["opml", "tee", "zkml"] = KIND
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
    timeout: Annotated[float, Field(ge=0, le=TIMEOUT)] | None = None
    redundancy: Annotated[int, Field(ge=0, le=1000)] = 0
    job: JobFields


class Question(BaseModel):
    """The body of a question about a job."""

    model_config = ConfigDict(strict=True, extra="forbid")

    job_id: str
    verify: str = ""


class Paged(BaseModel):
    """What every body that asks for a list may have."""

    model_config = ConfigDict(strict=True, extra="forbid")

    page_size: Annotated[int, Field(ge=0, le=1000)] = 0
    page_token: str = ""


class ResultsQuestion(Question, Paged):
    """The body of a question for a job's results."""


class UserQuestion(Paged):
    """The body of a question for the results of a user's jobs."""

    user: Annotated[str, Field(min_length=1)]
    verify: str = ""


class JobsServicer(jobs_pb2_grpc.JobsServicer):
    """Calls the Dispatcher and the Registry through ``face`` with the caller's own token, never one of its own."""

    def __init__(self, face: grpc.aio.Channel) -> None:
        self._dispatcher = dispatcher_pb2_grpc.DispatcherStub(face)
        self._registry = registry_pb2_grpc.RegistryStub(face)

    async def SubmitJob(self, request: HttpBody, context: Context) -> HttpBody:
        return await reply(context, self._submit(request, context))

    async def GetJobResults(self, request: HttpBody, context: Context) -> HttpBody:
        return await reply(context, self._results(request, context))

    async def GetJobDetail(self, request: HttpBody, context: Context) -> HttpBody:
        return await reply(context, self._detail(request, context))

    async def GetUserResults(self, request: HttpBody, context: Context) -> HttpBody:
        return await reply(context, self._user_results(request, context))

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
            tag=TAGS[asked.tag],
            redundancy=asked.redundancy,
            timeout=None if asked.timeout is None else _duration(asked.timeout),
            job_type=asked.job.tag,
        )
        job = await answered(self._dispatcher.CreateJob(wanted, metadata=metadata, timeout=CALL_SECONDS))
        return result(dump(bare(job.name)))

    async def _results(self, request: HttpBody, context: Context) -> str:
        asked = check(ResultsQuestion, (await read(request)).fields)
        metadata = passed_on(context, asked.verify)
        job = await self._job(asked.job_id, metadata)
        length, start = page_length(asked.page_size), page_start_number("GetJobResults", asked.page_token)
        rows = results_of(job, await self._said(job, metadata))
        following = page_token("GetJobResults", str(start + length)) if start + length < len(rows) else ""
        return page(dump(rows[start : start + length]), following)

    async def _detail(self, request: HttpBody, context: Context) -> str:
        asked = check(Question, (await read(request)).fields)
        return result(detail_of(await self._job(asked.job_id, passed_on(context, asked.verify))))

    async def _user_results(self, request: HttpBody, context: Context) -> str:
        asked = check(UserQuestion, (await read(request)).fields)
        metadata = passed_on(context, asked.verify)
        wanted = ListJobsRequest(user=asked.user, states=ENDED, page_size=asked.page_size, page_token=asked.page_token)
        listed = await answered(self._dispatcher.ListJobs(wanted, metadata=metadata, timeout=CALL_SECONDS))
        turns = asyncio.Semaphore(AT_ONCE)

        async def said(job: Job) -> Sequence[JobResult]:
            async with turns:
                return await self._said(job, metadata)

        found = await asyncio.gather(*map(said, listed.jobs))
        rows = [row for job, results in zip(listed.jobs, found, strict=True) for row in results_of(job, results)]
        return page(dump(rows), listed.next_page_token)

    async def _job(self, job_id: str, metadata: Metadata) -> Job:
        wanted = GetJobRequest(name=f"jobs/{bare(job_id)}")
        return await answered(self._dispatcher.GetJob(wanted, metadata=metadata, timeout=CALL_SECONDS))

    async def _said(self, job: Job, metadata: Metadata) -> Sequence[JobResult]:
        """Return what operators said about the job; nothing for one without an answer."""
        if job.verdict == Verdict.VERDICT_UNSPECIFIED:
            return ()
        wanted = ListResultsRequest(name=job.name)
        return (await answered(self._dispatcher.ListResults(wanted, metadata=metadata, timeout=CALL_SECONDS))).results

    async def _check_project(self, claimed: str, metadata: Metadata) -> None:
        """Raise Unauthenticated unless the credentials are those of the project that the body names."""
        own = GetProjectRequest(name="projects/-")
        project = await answered(self._dispatcher.GetProject(own, metadata=metadata, timeout=CALL_SECONDS))
        if project.name.removeprefix("projects/") != project_id(claimed.removeprefix("projects/")):
            raise Unauthenticated("verify: is not the token of the project in 'from'.")


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


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
