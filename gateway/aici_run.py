"""`POST /v1/run`: a controller over a prompt, as server-sent events; docs/reference/rest-aici.md."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

import grpc
from google.api.httpbody_pb2 import HttpBody

from aos.client import CALL_SECONDS, all_models, outcome_error, watch
from aos.clock import Clock
from aos.controller_names import read_digest
from aos.errors import AosError, ContextOverflow
from aos.rpc.status import answered
from aos.v1 import controllers_pb2_grpc, dispatcher_pb2_grpc, registry_pb2_grpc
from aos.v1.controllers_pb2 import GetControllerRequest
from aos.v1.dispatcher_pb2 import Job, JobEvent
from aos.v1.types_pb2 import Order
from gateway.aici_errors import failure, text
from gateway.aici_requests import NONE, RunRequest, choose_model, open_fields, order_of, prefix
from gateway.aici_stream import RunStream
from gateway.awaited import cancel, created
from gateway.body import check
from gateway.feed import batches
from gateway.http import Context, Metadata, Reply, header, keyed, known, read, send

PING_SECONDS: Final = 10.0
"""A stream on which nothing came for so long gets a comment, so that nothing between takes it for dead."""
PING: Final = b": ping\n\n"
SSE_HEADERS: Final = (("cache-control", "no-cache"), ("x-accel-buffering", "no"))
PATH: Final = "x-envoy-original-path"
"""The path that the caller asked for; Envoy says it."""
RUN: Final = "instantiate"
"""What the AICI server calls this in its errors."""


class AiciRuns:
    """Runs controllers for REST callers, through ``face``, with the caller's own token."""

    def __init__(self, face: grpc.aio.Channel, clock: Clock, *, ping_seconds: float = PING_SECONDS) -> None:
        self._dispatcher = dispatcher_pb2_grpc.DispatcherStub(face)
        self._registry = registry_pb2_grpc.RegistryStub(face)
        self._controllers = controllers_pb2_grpc.ControllersStub(face)
        self._clock, self._ping_seconds = clock, ping_seconds

    async def run(self, request: HttpBody, context: Context) -> AsyncGenerator[HttpBody]:
        """Yield the run's events, or a failure's body. A caller who leaves ends the run."""
        begun, asked = False, None
        try:
            asked = check(RunRequest, open_fields((await read(request)).fields))
            metadata = keyed(context)
            order = await self._order(asked, prefix(header(context, PATH)), metadata)
            async with aclosing(self._events(order, metadata)) as parts:
                async for part in parts:
                    if not begun:
                        begun = True
                        await context.send_initial_metadata(SSE_HEADERS)
                    yield HttpBody(content_type="text/event-stream", data=part)
        except Exception as error:
            if begun:  # 200 has been said; a stream that ends without its end mark is broken off
                known(error)
                return
            yield await send(context, _refusal(known(error), asked))

    async def _order(self, asked: RunRequest, before: str, metadata: Metadata) -> Order:
        digest = b""
        if asked.controller != NONE:
            wanted = GetControllerRequest(name=asked.controller)
            found = await answered(self._controllers.GetController(wanted, metadata=metadata, timeout=CALL_SECONDS))
            digest = read_digest(found.name, "controller")
        models = [] if asked.model else await answered(all_models(self._registry, metadata=metadata))
        return order_of(asked, choose_model(models, asked=asked.model, before=before, controlled=bool(digest)), digest)

    async def _events(self, order: Order, metadata: Metadata) -> AsyncGenerator[bytes]:
        """Yield the stream's parts. Until it has begun, a failure still has its HTTP status, so it begins with the first step."""
        creating = created(self._dispatcher, order, user="", metadata=metadata)
        ended = False

        def over() -> None:
            nonlocal ended
            ended = True

        try:
            job = await asyncio.shield(creating)
            told = RunStream(job)
            opening = told.opening()
            async with aclosing(batches(self._watch(job, metadata, over), quiet=self._ping_seconds, clock=self._clock)) as batched:
                async for events in batched:
                    if not events:
                        yield opening or PING
                        opening = b""
                        continue
                    if not opening or not (failed := _failed(job, events)):
                        yield opening + b"".join(_part(told, event) for event in events)
                        opening = b""
                        continue
                    raise failed
        finally:
            if not ended:
                await asyncio.shield(cancel(self._dispatcher, creating, metadata))

    async def _watch(self, job: Job, metadata: Metadata, over: Callable[[], None]) -> AsyncGenerator[JobEvent]:
        async with aclosing(watch(self._dispatcher, job.name, clock=self._clock, metadata=metadata)) as events:
            async for event in events:
                if event.HasField("outcome"):
                    over()
                    yield event
                elif event.chunk.HasField("run") or (event.chunk.text and not job.order.HasField("control")):
                    yield event


def _refusal(error: AosError | None, asked: RunRequest | None) -> Reply:
    """Return the reply for a failure before the stream began, in the AICI server's words."""
    if not isinstance(error, ContextOverflow):
        return failure(error, op=RUN)
    prompt, more = int(error.facts["promptTokens"]), (asked and asked.max_tokens) or 0
    return text(
        f"This model's maximum context length is {error.facts['limit']} tokens. However, you requested {prompt + more} tokens "
        f"({prompt} in the messages, {more} in the completion). Please reduce the length of the messages or completion.",
        400,
    )


def _failed(job: Job, events: list[JobEvent]) -> Exception | None:
    """Return why there will be no answer, if nothing else came."""
    return outcome_error(job.name, events[0].outcome) if events[0].HasField("outcome") else None


def _part(told: RunStream, event: JobEvent) -> bytes:
    if event.HasField("outcome"):
        return told.end(event.outcome)
    return told.step(event.chunk.run) if event.chunk.HasField("run") else told.plain(event.chunk)
