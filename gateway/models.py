"""The AI model interface's and OpenAI's REST dialect: answers, models; docs/reference/rest-models.md has the fields."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import grpc
from google.api.httpbody_pb2 import HttpBody

from aos.client import CALL_SECONDS, outcome_error, watch
from aos.clock import Clock
from aos.rpc.status import answered
from aos.v1 import dispatcher_pb2_grpc, registry_pb2_grpc
from aos.v1.dispatcher_pb2 import CancelJobRequest, CreateJobRequest, Job, JobEvent, Outcome
from aos.v1.operator_pb2 import Chunk, TokenLogprob
from aos.v1.registry_pb2 import GetModelRequest, ListModelsRequest, Model
from aos.v1.types_pb2 import Order
from aos.verification.receipts import address, digest
from gateway import chat, completions
from gateway.body import check
from gateway.chat import PING, ChatRequest, Facts, Request, broken_off, without_nulls
from gateway.completions import CompletionRequest
from gateway.feed import batches
from gateway.http import Context, Metadata, Reply, dump, known, passed_on, read, send
from gateway.model_errors import failure
from gateway.v1 import models_pb2, models_pb2_grpc

PING_SECONDS: Final = 10.0
"""A stream on which nothing came for so long gets a comment, so that nothing between takes it for dead."""
CANCEL_SECONDS: Final = 5.0
"""How long to try to end the job of a caller who has gone; then it runs to its own end."""
PROJECT: Final = "aos"
"""Who owns the models that this network's operators offer."""
TEXT_TO_TEXT: Final = 0
"""The model interface's type of a model that is given text and answers with text."""
SSE_HEADERS: Final = (("cache-control", "no-cache"), ("x-accel-buffering", "no"))


R = TypeVar("R", bound=Request)


class Chunks(Protocol):
    """The events of one streamed answer, each ready to be sent."""

    def opening(self) -> bytes: ...

    def text(self, chunk: Chunk) -> bytes: ...

    def end(self, outcome: Outcome, facts: Facts) -> bytes: ...


class _Chunked(Protocol):
    def __call__(self, job: Job, *, include_usage: bool) -> Chunks: ...


@dataclass(frozen=True, slots=True)
class _Form(Generic[R]):
    """One way to ask for text: what a body may say, and the shapes of the answer."""

    request: type[R]
    order_of: Callable[[R], Order]
    completion: Callable[[Job, Outcome, Facts], str]
    chunks: _Chunked
    input: str
    """The field that is at fault when the input is too long."""


_CHAT: Final = _Form(ChatRequest, chat.order_of, chat.completion, chat.Chunks, "messages")
_COMPLETION: Final = _Form(CompletionRequest, completions.order_of, completions.completion, completions.Chunks, "prompt")


@dataclass(slots=True)
class _Running:
    """A job while somebody waits for it."""

    job: Job
    ended: bool = False


class ModelsServicer(models_pb2_grpc.ModelsServicer):
    """Calls the Dispatcher and the Registry through ``face`` with the caller's own token, never one of its own."""

    def __init__(self, face: grpc.aio.Channel, clock: Clock, *, ping_seconds: float = PING_SECONDS) -> None:
        self._dispatcher = dispatcher_pb2_grpc.DispatcherStub(face)
        self._registry = registry_pb2_grpc.RegistryStub(face)
        self._clock, self._ping_seconds = clock, ping_seconds

    async def CreateChatCompletion(self, request: HttpBody, context: Context) -> AsyncGenerator[HttpBody]:
        async with aclosing(self._answer(_CHAT, request, context)) as parts:
            async for part in parts:
                yield part

    async def CreateCompletion(self, request: HttpBody, context: Context) -> AsyncGenerator[HttpBody]:
        async with aclosing(self._answer(_COMPLETION, request, context)) as parts:
            async for part in parts:
                yield part

    async def _answer(self, form: _Form[R], request: HttpBody, context: Context) -> AsyncGenerator[HttpBody]:
        begun = False
        try:
            asked = check(form.request, without_nulls((await read(request)).fields))
            if asked.stream:
                async with aclosing(self._stream(form, asked, passed_on(context))) as parts:
                    async for part in parts:
                        if not begun:
                            begun = True
                            await context.send_initial_metadata(SSE_HEADERS)
                        yield HttpBody(content_type="text/event-stream", data=part)
                return
            reply = await self._whole(form, asked, passed_on(context))
        except Exception as error:
            reply = failure(known(error), text=form.input)
            if begun:  # 200 has been said, so the stream itself is the only place left
                yield HttpBody(content_type="text/event-stream", data=broken_off(reply.data))
                return
        yield await send(context, reply)

    async def ListModels(self, request: models_pb2.ListModelsRequest, context: Context) -> HttpBody:
        try:
            found = [] if request.project not in {"", PROJECT} else await self._models(passed_on(context))
            listed = {"object": "list", "project": PROJECT, "data": [describe(model) for model in found]}
            reply = Reply(dump(listed).encode())
        except Exception as error:
            reply = failure(known(error))
        return await send(context, reply)

    async def GetModel(self, request: models_pb2.GetModelRequest, context: Context) -> HttpBody:
        try:
            wanted = GetModelRequest(name=request.model)
            model = await answered(self._registry.GetModel(wanted, metadata=passed_on(context), timeout=CALL_SECONDS))
            reply = Reply(dump(describe(model)).encode())
        except Exception as error:
            reply = failure(known(error))
        return await send(context, reply)

    async def _models(self, metadata: Metadata) -> list[Model]:
        found: list[Model] = []
        request = ListModelsRequest(page_size=1000)
        while True:
            page = await answered(self._registry.ListModels(request, metadata=metadata, timeout=CALL_SECONDS))
            found += page.models
            if not page.next_page_token:
                return found
            request = ListModelsRequest(page_size=1000, page_token=page.next_page_token)

    async def _whole(self, form: _Form[R], asked: R, metadata: Metadata) -> Reply:
        async with (
            self._running(form.order_of(asked), asked.user, metadata) as running,
            aclosing(self._events(running, metadata)) as events,
        ):
            outcome, logprobs = Outcome(), list[TokenLogprob]()
            async for event in events:
                outcome = event.outcome
                logprobs += event.chunk.logprobs
        return Reply(form.completion(running.job, outcome, _facts(running.job, outcome, logprobs)).encode())

    async def _stream(self, form: _Form[R], asked: R, metadata: Metadata) -> AsyncGenerator[bytes]:
        """Yield the answer's events. Until it has begun, a failure still has its HTTP status, so the first event waits for text."""
        include_usage = asked.stream_options is not None and asked.stream_options.include_usage
        async with self._running(form.order_of(asked), asked.user, metadata) as running:
            chunks = form.chunks(running.job, include_usage=include_usage)
            opening = chunks.opening()
            feed = batches(self._events(running, metadata), quiet=self._ping_seconds, clock=self._clock)
            async with aclosing(feed) as batched:
                async for events in batched:
                    if not events:
                        yield PING
                        continue
                    yield opening + b"".join(_part(chunks, running.job, event) for event in events)
                    opening = b""

    async def _events(self, running: _Running, metadata: Metadata) -> AsyncGenerator[JobEvent]:
        """Yield the answer's parts and its outcome. Raises why there is no answer."""
        async with aclosing(watch(self._dispatcher, running.job.name, clock=self._clock, metadata=metadata)) as events:
            async for event in events:
                match event.WhichOneof("event"):
                    case "chunk" if event.chunk.text or event.chunk.logprobs:
                        yield event
                    case "outcome":
                        running.ended = True
                        failed = outcome_error(running.job.name, event.outcome)
                        if failed is not None:
                            raise failed
                        yield event
                    case _:
                        pass

    @asynccontextmanager
    async def _running(self, order: Order, user: str, metadata: Metadata) -> AsyncGenerator[_Running]:
        """Give the request's job, and end it with the block unless it has ended: nobody else waits for it."""
        wanted = CreateJobRequest(order=order, user=user)
        creating = asyncio.ensure_future(answered(self._dispatcher.CreateJob(wanted, metadata=metadata, timeout=CALL_SECONDS)))
        running: _Running | None = None
        try:
            # shielded: a caller who goes while the job is made must leave no job behind
            running = _Running(await asyncio.shield(creating))
            yield running
        finally:
            if running is None or not running.ended:
                await asyncio.shield(asyncio.ensure_future(self._cancel(creating, metadata)))

    async def _cancel(self, creating: asyncio.Future[Job], metadata: Metadata) -> None:
        with suppress(Exception):  # it was not made, or cannot be reached: there is nobody to tell
            async with asyncio.timeout(CANCEL_SECONDS):
                job = await creating
                await self._dispatcher.CancelJob(CancelJobRequest(name=job.name), metadata=metadata)


def _part(chunks: Chunks, job: Job, event: JobEvent) -> bytes:
    if event.WhichOneof("event") == "outcome":
        return chunks.end(event.outcome, _facts(job, event.outcome))
    return chunks.text(event.chunk)


def _facts(job: Job, outcome: Outcome, logprobs: Sequence[TokenLogprob] = ()) -> Facts:
    receipt = outcome.receipt
    return Facts(job.name, f"0x{digest(receipt).hex()}", address(receipt), logprobs)


def describe(model: Model) -> dict[str, Any]:
    """Return a model in the shape that OpenAI's clients and readers of the model interface both accept."""
    return {
        "id": model.name,
        "object": "model",
        "created": model.created.seconds,
        "owned_by": PROJECT,
        "model": model.name,
        "url": "",
        "type": TEXT_TO_TEXT,
        "weight_hash": model.digest,
        "state": "ready" if model.routable else "unavailable",
        "reason": model.reason,
        "context_length": model.context_length,
        "chat": model.chat,
        "price": {"prompt_token": model.price.prompt_token, "completion_token": model.price.completion_token},
        "operators": list(model.operators),
    }
