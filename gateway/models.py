"""The AI model interface's and OpenAI's REST dialect: answers, models; docs/reference/rest-models.md has the fields."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import grpc
from google.api.httpbody_pb2 import HttpBody

from aos.client import CALL_SECONDS, all_models, outcome_error, watch
from aos.clock import Clock
from aos.errors import ModelNotFound
from aos.rpc.status import answered
from aos.v1 import dispatcher_pb2_grpc, registry_pb2_grpc
from aos.v1.dispatcher_pb2 import Job, JobEvent, Outcome, ProviderPayment
from aos.v1.operator_pb2 import TokenLogprob
from aos.v1.registry_pb2 import AiProject, GetModelRequest, ListAiProjectsRequest
from aos.v1.types_pb2 import Order
from gateway import chat, completions, embeddings
from gateway.answers import PING, Answered, Choice, Chunks, broken_off, completion
from gateway.awaited import cancel, created
from gateway.body import check
from gateway.chat import ChatChoice, ChatRequest, Request, without_nulls
from gateway.completions import CompletionChoice, CompletionRequest
from gateway.embeddings import EmbeddingRequest
from gateway.feed import batches
from gateway.http import Context, Metadata, Reply, dump, known, passed_on, read, send
from gateway.joined import joined
from gateway.model_errors import failure
from gateway.model_list import describe, listing, registered
from gateway.v1 import models_pb2, models_pb2_grpc

PING_SECONDS: Final = 10.0
"""A stream on which nothing came for so long gets a comment, so that nothing between takes it for dead."""
SSE_HEADERS: Final = (("cache-control", "no-cache"), ("x-accel-buffering", "no"))


R = TypeVar("R", bound=Request)


@dataclass(frozen=True, slots=True)
class _Form(Generic[R]):
    """One way to ask for text: what a body may say, and the shapes of the answer."""

    request: type[R]
    orders_of: Callable[[R], list[Order]]
    choice: Callable[[Job], Choice]
    whole: str
    """The answer's kind, OpenAI's `object`."""
    chunk: str
    """The kind of a stream's events."""
    input: str
    """The field that is at fault when the input is too long."""


_CHAT: Final = _Form(ChatRequest, chat.orders_of, ChatChoice, "chat.completion", "chat.completion.chunk", "messages")
_COMPLETION: Final = _Form(
    CompletionRequest, completions.orders_of, CompletionChoice, "text_completion", "text_completion", "prompt"
)  # fmt: skip


@dataclass(slots=True)
class _Running:
    """A job while somebody waits for it."""

    job: Job
    ended: bool = False


class ModelsServicer(models_pb2_grpc.ModelsServicer):
    """Calls the Dispatcher and the Registry through ``face`` with the caller's own token, never one of its own.

    With a ``payment``, each job goes to its provider only, and is paid from the sub-account with it.
    """

    def __init__(
        self,
        face: grpc.aio.Channel,
        clock: Clock,
        *,
        ping_seconds: float = PING_SECONDS,
        payment: ProviderPayment | None = None,
    ) -> None:
        self._dispatcher = dispatcher_pb2_grpc.DispatcherStub(face)
        self._registry = registry_pb2_grpc.RegistryStub(face)
        self._clock, self._ping_seconds, self._payment = clock, ping_seconds, payment

    async def CreateChatCompletion(self, request: HttpBody, context: Context) -> AsyncGenerator[HttpBody]:
        async with aclosing(self._answer(_CHAT, request, context)) as parts:
            async for part in parts:
                yield part

    async def CreateCompletion(self, request: HttpBody, context: Context) -> AsyncGenerator[HttpBody]:
        async with aclosing(self._answer(_COMPLETION, request, context)) as parts:
            async for part in parts:
                yield part

    async def _answer(self, form: _Form[R], request: HttpBody, context: Context) -> AsyncGenerator[HttpBody]:
        begun, constraint_field = False, ""
        try:
            asked = check(form.request, without_nulls((await read(request)).fields))
            constraint_field = asked.constraint_field
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
            reply = failure(known(error), text=form.input, form=constraint_field)
            if begun:  # 200 has been said, so the stream itself is the only place left
                yield HttpBody(content_type="text/event-stream", data=broken_off(reply.data))
                return
        yield await send(context, reply)

    async def CreateEmbeddings(self, request: HttpBody, context: Context) -> AsyncGenerator[HttpBody]:
        try:
            asked = check(EmbeddingRequest, without_nulls((await read(request)).fields))
            metadata, outcome = passed_on(context), Outcome()
            async with (
                self._running([embeddings.order_of(asked)], asked.user, metadata) as (running,),
                aclosing(self._events(running, metadata)) as events,
            ):
                async for event in events:
                    outcome = event.outcome
            parts = embeddings.answer(asked, running.job, outcome)
        except Exception as error:
            yield await send(context, failure(known(error), text="input"))
            return
        # beside the loop: writing numbers takes long
        while part := await asyncio.to_thread(next, parts, b""):
            yield HttpBody(content_type="application/json", data=part)

    async def ListModels(self, request: models_pb2.ListModelsRequest, context: Context) -> HttpBody:
        try:
            metadata = passed_on(context)
            replicas = registered(await self._projects(metadata))
            listed = listing(await answered(all_models(self._registry, metadata=metadata)), replicas, request.project)
            reply = Reply(dump(listed).encode())
        except Exception as error:
            reply = failure(known(error))
        return await send(context, reply)

    async def GetModel(self, request: models_pb2.GetModelRequest, context: Context) -> HttpBody:
        try:
            metadata = passed_on(context)
            replicas = registered(await self._projects(metadata, request.model)).get(request.model, [])
            try:
                model = await answered(
                    self._registry.GetModel(GetModelRequest(name=request.model), metadata=metadata, timeout=CALL_SECONDS)
                )
            except ModelNotFound:
                if not replicas:
                    raise
                model = None  # registered, and no operator offers it yet
            reply = Reply(dump(describe(model, replicas)).encode())
        except Exception as error:
            reply = failure(known(error))
        return await send(context, reply)

    async def _projects(self, metadata: Metadata, model: str = "") -> list[AiProject]:
        found: list[AiProject] = []
        request = ListAiProjectsRequest(page_size=1000, model=model)
        while True:
            page = await answered(self._registry.ListAiProjects(request, metadata=metadata, timeout=CALL_SECONDS))
            found += page.projects
            if not page.next_page_token:
                return found
            request = ListAiProjectsRequest(page_size=1000, model=model, page_token=page.next_page_token)

    async def _whole(self, form: _Form[R], asked: R, metadata: Metadata) -> Reply:
        async with (
            self._running(form.orders_of(asked), asked.user, metadata) as running,
            aclosing(joined([self._events(one, metadata) for one in running])) as events,
        ):
            outcomes = [Outcome() for _ in running]
            logprobs: list[list[TokenLogprob]] = [[] for _ in running]
            async for index, event in events:
                outcomes[index] = event.outcome
                logprobs[index] += event.chunk.logprobs
        answers = [Answered(one.job, end, tokens) for one, end, tokens in zip(running, outcomes, logprobs, strict=True)]
        return Reply(completion(answers, form.choice, form.whole).encode())

    async def _stream(self, form: _Form[R], asked: R, metadata: Metadata) -> AsyncGenerator[bytes]:
        """Yield the answer's events. Until it has begun, a failure still has its HTTP status, so the first event waits for text."""
        include_usage = asked.stream_options is not None and asked.stream_options.include_usage
        async with self._running(form.orders_of(asked), asked.user, metadata) as running:
            chunks = Chunks([one.job for one in running], form.choice, form.chunk, include_usage=include_usage)
            opening = chunks.opening()
            every = joined([self._events(one, metadata) for one in running])
            async with aclosing(batches(every, quiet=self._ping_seconds, clock=self._clock)) as batched:
                async for events in batched:
                    if not events:
                        yield PING
                        continue
                    if part := opening + b"".join(_part(chunks, *event) for event in events):
                        yield part
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
    async def _running(self, orders: list[Order], user: str, metadata: Metadata) -> AsyncGenerator[list[_Running]]:
        """Give the request's jobs, and end with the block those that have not ended: nobody else waits for them."""
        creating = [created(self._dispatcher, order, user=user, metadata=metadata, payment=self._payment) for order in orders]
        running: list[_Running] = []
        try:
            for one in creating:
                running += [_Running(await asyncio.shield(one))]
            yield running
        finally:
            left = [one for index, one in enumerate(creating) if index >= len(running) or not running[index].ended]
            if left:
                await asyncio.shield(asyncio.gather(*(cancel(self._dispatcher, one, metadata) for one in left)))


def _part(chunks: Chunks, index: int, event: JobEvent) -> bytes:
    if event.WhichOneof("event") == "outcome":
        return chunks.end(index, event.outcome)
    return chunks.text(index, event.chunk)
