"""A Dispatcher and a Registry that do what the model's name says, on real gRPC servers, for tests of what stands before them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aos.errors import (
    ContextOverflow,
    EngineFailed,
    InsufficientBalance,
    JobNotFound,
    ModelNotFound,
    ModelUnavailable,
    QueueFull,
    RequestIdReused,
)
from aos.order import check_order
from aos.rpc.auth import Caller, FixedTokens, Kind, own_project
from aos.v1 import dispatcher_pb2_grpc, registry_pb2_grpc
from aos.v1.dispatcher_pb2 import Job, JobEvent, JobState, Outcome, Project
from aos.v1.errors_pb2 import ErrorReason
from aos.v1.operator_pb2 import Chunk
from aos.v1.receipt_pb2 import Receipt
from aos.v1.registry_pb2 import ListAiProjectsResponse, ListModelsResponse, Model
from aos.v1.types_pb2 import FinishReason, Usage, VectorClock
from aos.verification.keys import OperatorKey
from aos.verification.receipts import sign

PROJECT, TOKEN = "demo", "demo-token"
OTHER, OTHER_TOKEN = "other", "other-token"
NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
KEY = OperatorKey.create()

CHAT_MODELS = ("echo", "silent", "breaks", "fails", "poor", "full", "away", "long", "org/echo")
MODELS = {name: name != "raw" for name in (*CHAT_MODELS, "raw")}


async def tokens(token: str) -> Caller | None:
    projects = {TOKEN: PROJECT, OTHER_TOKEN: OTHER}
    return Caller(Kind.PROJECT, f"projects/{projects[token]}") if token in projects else None


def authenticator(open_as: str = "") -> FixedTokens:
    return FixedTokens(admin="admin-token", service="service-token", otherwise=tokens, open_as=open_as)


def receipt_for(job: Job, text: str) -> Receipt:
    digest = hashlib.sha256(text.encode()).digest()
    return sign(
        Receipt(
            job=bytes.fromhex(job.name.removeprefix("jobs/")),
            request_digest=digest,
            model_digest=digest,
            profile="scripted",
            parameters="{}",
            prompt_digest=digest,
            output_digest=digest,
            output_tokens_digest=digest,
            state_root=digest,
            usage=Usage(prompt_tokens=3, completion_tokens=2),
            finish_reason=FinishReason.FINISH_REASON_STOP,
            price="7",
            clock=VectorClock(counts={"1": 1, KEY.address: 2}),
        ),
        KEY,
    )


@dataclass
class ScriptedDispatcher(dispatcher_pb2_grpc.DispatcherServicer):
    """Runs no model: `echo` says each word of the last message, the others fail in the way that their name says."""

    jobs: dict[str, Job] = field(default_factory=dict)
    events: dict[str, list[JobEvent]] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    cancelled: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    watched: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    metadata: list[dict[str, str]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def GetProject(self, request, context):
        return Project(name=own_project())

    async def CreateJob(self, request, context):
        self.metadata.append(dict(context.invocation_metadata()))
        project, order = own_project(), request.order
        check_order(order)
        match order.model:
            case "poor":
                raise InsufficientBalance(project, 1, 2)
            case "full":
                raise QueueFull("jobs", 8)
            case "away":
                raise ModelUnavailable(order.model, "no operator is attached")
            case "long":
                raise ContextOverflow(order.model, 9000, 4096)
            case known if known not in MODELS:
                raise ModelNotFound(known, "echo")
            case _:
                pass
        if request.request_id in self.requests:
            held = self.jobs[self.requests[request.request_id]]
            if held.annotation != request.annotation:
                raise RequestIdReused(request.request_id, held.name)
            return held
        name = f"jobs/{hashlib.sha256(str(len(self.jobs)).encode()).hexdigest()}"
        job = Job(
            name=name,
            project=project,
            request_id=request.request_id,
            order=order,
            user=request.user,
            annotation=request.annotation,
            state=JobState.JOB_STATE_QUEUED,
            clock=VectorClock(counts={"1": 1}),
        )
        job.created.FromDatetime(NOW)
        self.jobs[name], self.events[name] = job, []
        if request.request_id:
            self.requests[request.request_id] = name
        self._run(job)
        return job

    def _run(self, job: Job) -> None:
        text = job.order.chat.messages[-1].content if job.order.HasField("chat") else job.order.prompt
        words = text.split(" ")
        match job.order.model:
            case "echo" | "org/echo" | "raw":
                self.say(job.name, *(f" {word}" if index else word for index, word in enumerate(words)))
                self.finish(job.name)
            case "breaks":
                self.say(job.name, "so far")
                self.fail(job.name, EngineFailed("breaks", "the engine could not go on"))
            case "fails":
                self.fail(job.name, EngineFailed("fails", "the engine could not go on"))
            case _:
                pass

    def say(self, name: str, *texts: str) -> None:
        for text in texts:
            self._add(name, JobEvent(chunk=Chunk(text=text, tokens=[1])))

    def finish(self, name: str) -> None:
        job = self.jobs[name]
        text = "".join(event.chunk.text for event in self.events[name])
        receipt = receipt_for(job, text)
        self._end(
            job,
            Outcome(
                state=JobState.JOB_STATE_COMPLETED, text=text, finish_reason=receipt.finish_reason, usage=receipt.usage,
                receipt=receipt, stop=job.order.sampling.stop[0] if job.order.sampling.stop else "",
            ),
        )  # fmt: skip

    def fail(self, name: str, error: EngineFailed) -> None:
        outcome = Outcome(state=JobState.JOB_STATE_FAILED)
        outcome.error.reason = ErrorReason.Value(f"ERROR_REASON_{error.reason}")
        outcome.error.message = error.message
        outcome.error.metadata.update(error.facts)
        self._end(self.jobs[name], outcome)

    def _end(self, job: Job, outcome: Outcome) -> None:
        job.outcome.CopyFrom(outcome)
        job.state, job.operator = outcome.state, KEY.address
        job.ended.FromDatetime(NOW)
        self._add(job.name, JobEvent(outcome=outcome))

    def _add(self, name: str, event: JobEvent) -> None:
        event.sequence = len(self.events[name]) + 1
        self.events[name].append(event)
        news, self.news = self.news, asyncio.Event()
        news.set()

    def _find(self, name: str) -> Job:
        job = self.jobs.get(name)
        if job is None or job.project != own_project():
            raise JobNotFound(name)
        return job

    async def GetJob(self, request, context):
        return self._find(request.name)

    async def WatchJob(self, request, context) -> AsyncIterator[JobEvent]:
        self._find(request.name)
        self.watched.put_nowait(request.name)
        at = request.after_sequence
        while True:
            news = self.news
            for event in self.events[request.name][at:]:
                at = event.sequence
                yield event
                if event.HasField("outcome"):
                    return
            await news.wait()

    async def CancelJob(self, request, context):
        job = self._find(request.name)
        self.cancelled.put_nowait(request.name)
        if not job.HasField("outcome"):
            self._end(job, Outcome(state=JobState.JOB_STATE_CANCELLED))
        return job


class ScriptedRegistry(registry_pb2_grpc.RegistryServicer):
    """Knows ``MODELS``; all but `raw` have a chat template."""

    def _model(self, name: str) -> Model:
        model = Model(
            name=name, digest="ab" * 32, context_length=4096, chat=MODELS[name], routable=name != "away",
            reason="no operator is attached" if name == "away" else "", operators=[KEY.address],
        )  # fmt: skip
        model.price.prompt_token = model.price.completion_token = "1"
        model.created.FromDatetime(NOW)
        return model

    async def ListAiProjects(self, request, context):
        return ListAiProjectsResponse()

    async def GetModel(self, request, context):
        if request.name not in MODELS:
            raise ModelNotFound(request.name, "echo")
        return self._model(request.name)

    async def ListModels(self, request, context):
        names = sorted(MODELS)
        start = int(request.page_token or 0)
        # small pages, so that readers must follow them
        page = names[start : start + 4]
        more = start + 4 < len(names)
        return ListModelsResponse(models=[self._model(name) for name in page], next_page_token=str(start + 4) if more else "")
