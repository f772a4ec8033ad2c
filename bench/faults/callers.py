"""Callers that do not give up: each job is handed in until it is taken, and watched from where the stream broke until it ends.

Three ways, in turn: gRPC (`CreateJob`, `WatchJob` behind a sequence), the same as REST (POST, then server-sent events), and a chat
of the OpenAI dialect, which has no way to go on, and is asked anew when it breaks.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import httpx
from google.protobuf.json_format import ParseDict
from grpc.aio import AioRpcError

from aos.client import Client
from aos.rpc.channel import channel
from aos.rpc.status import from_rpc_error
from aos.v1.dispatcher_pb2 import CreateJobRequest, JobEvent, JobState, WatchJobRequest
from aos.v1.types_pb2 import Chat, ChatMessage, Order, Sampling
from bench.faults.operator import MODEL, TOKENS, answer

WAYS: Final = ("gRPC", "REST", "chat")
CALL_SECONDS: Final = 15.0
"""How long a call with one answer may take before it is made again."""
SILENCE_SECONDS: Final = 20.0
"""How long a stream may say nothing before it is opened again."""
JOB_SECONDS: Final = 300.0
"""After so long a stream counts as one that neither ended nor went on."""
PAUSE_SECONDS: Final = 0.2
FOR_GOOD: Final = frozenset({400, 401, 402, 403, 404, 405, 409, 422})
"""Statuses that say that asking again is of no use: nobody may say so here."""
CODES: Final = frozenset({
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
})  # fmt: skip
"""The same in gRPC."""


class Lost(Exception):
    """The stream broke, or the call failed, and is to be made again; the message says how."""


class Refused(Exception):
    """Somebody said that it is of no use to ask again."""


@dataclass
class Seen:
    """What callers saw."""

    ended: Counter[str] = field(default_factory=Counter[str])
    """Jobs whose stream ended well, by the way they were asked for."""
    stuck: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])
    """Texts that are not the answer, in whole or so far, or came twice, and jobs that ended otherwise than with an answer."""
    refused: list[str] = field(default_factory=list[str])
    troubles: Counter[str] = field(default_factory=Counter[str])
    """Why calls were made again."""
    resumed: int = 0
    """How often a stream went on that had broken in the middle."""
    jobs: dict[str, str] = field(default_factory=dict[str, str])
    """Names of jobs by their `request_id`."""
    quiet: float = 0.0
    """Longest time in which no stream of anybody ended."""
    last: float = field(default_factory=time.monotonic)

    def end(self, way: str) -> None:
        """Count a stream that ended."""
        now = time.monotonic()
        self.quiet, self.last = max(self.quiet, now - self.last), now
        self.ended[way] += 1


class Callers:
    """So many at a time, through one address."""

    def __init__(self, address: str, token: str) -> None:
        self.seen = Seen()
        self._address, self._token = address, token
        self._client: Client
        self._rest: httpx.AsyncClient

    async def run(self, jobs: int, callers: int, tickets: asyncio.Semaphore | None = None) -> None:
        """Do so many jobs; each takes one of the ``tickets`` first, if there are any. Raises nothing: see ``seen``."""
        numbers = itertools.chain(range(jobs))
        async with AsyncExitStack() as stack:
            self._client = Client(await stack.enter_async_context(channel(self._address, self._token)))
            headers = {"authorization": f"Bearer {self._token}"}
            limits = httpx.Limits(max_connections=None)
            timeout = httpx.Timeout(CALL_SECONDS, read=SILENCE_SECONDS)
            made = httpx.AsyncClient(base_url=f"http://{self._address}", headers=headers, limits=limits, timeout=timeout)
            self._rest = await stack.enter_async_context(made)

            async def caller() -> None:
                for number in numbers:
                    if tickets is not None:
                        await tickets.acquire()
                    await self._one(number)

            await asyncio.gather(*(caller() for _ in range(callers)))

    async def _one(self, number: int) -> None:
        way = WAYS[number % len(WAYS)]
        name = f"{way} {number}"
        try:
            async with asyncio.timeout(JOB_SECONDS):
                await (self._chat(name) if way == "chat" else self._job(way, name))
        except TimeoutError:
            self.seen.stuck.append(name)
        except Refused as error:
            self.seen.refused.append(f"{name}: {error}")
        else:
            self.seen.end(way)

    async def _again(self, error: Exception) -> None:
        self.seen.troubles[str(error)[:100] or repr(error)] += 1
        await asyncio.sleep(PAUSE_SECONDS)

    async def _job(self, way: str, name: str) -> None:
        """Hand a job in until it is taken, and watch it to its end."""
        create, watch = (self._grpc_create, self._grpc_watch) if way == "gRPC" else (self._rest_create, self._rest_watch)
        while name not in self.seen.jobs:
            try:
                self.seen.jobs[name] = await create(name)
            except Lost as error:
                await self._again(error)
        job, after, text = self.seen.jobs[name], 0, ""
        while True:
            try:
                async with aclosing(watch(job, after)) as events:
                    async for event in events:
                        if event.sequence != after + 1:
                            self.seen.wrong.append(f"{name}: event {event.sequence} behind {after}")
                        after, text = event.sequence, text + event.chunk.text
                        if event.HasField("outcome"):
                            self._check(name, event, text)
                            return
            except Lost as error:
                self.seen.resumed += bool(text)
                await self._again(error)

    def _check(self, name: str, event: JobEvent, text: str) -> None:
        outcome = event.outcome
        if outcome.state != JobState.JOB_STATE_COMPLETED:
            self.seen.wrong.append(f"{name}: ended {JobState.Name(outcome.state)}: {outcome.error.message}")
        elif not text == outcome.text == answer(name):
            self.seen.wrong.append(f"{name}: {text!r} came, {outcome.text!r} is kept, {answer(name)!r} is right")

    async def _grpc_create(self, name: str) -> str:
        request = CreateJobRequest(request_id=name, order=_order(name))
        try:
            return (await self._client.dispatcher.CreateJob(request, timeout=CALL_SECONDS)).name
        except AioRpcError as error:
            raise _told(error) from error

    async def _grpc_watch(self, job: str, after: int) -> AsyncGenerator[JobEvent]:
        call: Any = self._client.dispatcher.WatchJob(WatchJobRequest(name=job, after_sequence=after))
        try:
            while (event := await asyncio.wait_for(call.read(), SILENCE_SECONDS)) is not grpc.aio.EOF:
                yield event
            raise Lost("gRPC: the stream ended before the job")
        except AioRpcError as error:
            raise _told(error) from error
        except TimeoutError:
            raise Lost("gRPC: silence") from None
        finally:
            call.cancel()

    async def _rest_create(self, name: str) -> str:
        order = {
            "model": MODEL,
            "chat": {"messages": [{"role": "user", "content": name}]},
            "sampling": {"maxTokens": TOKENS, "temperature": 0},
        }
        try:
            reply = await self._rest.post("/v1/jobs", json={"requestId": name, "order": order}, timeout=CALL_SECONDS)
        except httpx.HTTPError as error:
            raise Lost(f"REST: {type(error).__name__}") from error
        _check_status(reply)
        return reply.json()["name"]

    async def _rest_watch(self, job: str, after: int) -> AsyncGenerator[JobEvent]:
        async with aclosing(self._lines("GET", f"/v1/{job}:watch", params={"afterSequence": after})) as lines:
            async for line in lines:
                found = json.loads(line)
                if "code" in found:  # a status, in the stream's place
                    raise Lost(f"REST: in the stream: {found['code']} {found.get('message', '')[:60]}")
                yield ParseDict(found, JobEvent(), ignore_unknown_fields=True)
        raise Lost("REST: the stream ended before the job")

    async def _chat(self, name: str) -> None:
        """Ask until an answer came whole; whatever comes of one is to be its beginning."""
        whole, right = False, answer(name)
        while not whole:
            text = ""
            try:
                async with aclosing(self._chat_text(name)) as pieces:
                    async for piece in pieces:
                        text += piece
                whole = True
            except Lost as error:
                await self._again(error)
            if not right.startswith(text) or (whole and text != right):
                self.seen.wrong.append(f"{name}: {text!r} came, {right!r} is right")

    async def _chat_text(self, name: str) -> AsyncGenerator[str]:
        messages = [{"role": "user", "content": name}]
        body = {"model": MODEL, "messages": messages, "max_tokens": TOKENS, "temperature": 0, "stream": True}
        async with aclosing(self._lines("POST", "/v1/chat/completions", json=body)) as lines:
            async for line in lines:
                if line == "[DONE]":
                    return
                found = json.loads(line)
                if "error" in found:
                    raise Lost(f"chat: in the stream: {found['error'].get('code')}")
                for one in found["choices"]:
                    yield one["delta"].get("content") or ""
        raise Lost("chat: the stream broke off")

    async def _lines(self, method: str, path: str, **more: Any) -> AsyncGenerator[str]:
        """Yield the data of server-sent events."""
        try:
            async with self._rest.stream(method, path, headers={"accept": "text/event-stream"}, **more) as reply:
                if reply.is_error:
                    await reply.aread()
                _check_status(reply)
                async for line in reply.aiter_lines():
                    if line.startswith("data:"):
                        yield line.removeprefix("data:").strip()
        except httpx.HTTPError as error:
            raise Lost(f"REST: {type(error).__name__}") from error


def _order(name: str) -> Order:
    chat = Chat(messages=[ChatMessage(role="user", content=name)])
    return Order(model=MODEL, chat=chat, sampling=Sampling(max_tokens=TOKENS, temperature=0))


def _told(error: AioRpcError) -> Lost | Refused:
    known = from_rpc_error(error)
    said = f"gRPC: {error.code().name} {known.reason if known is not None else (error.details() or '')[:60]}"
    return Refused(said) if error.code() in CODES else Lost(said)


def _check_status(reply: httpx.Response) -> None:
    if reply.status_code in FOR_GOOD:
        raise Refused(f"{reply.status_code} {reply.text[:200]}")
    if reply.is_error:
        raise Lost(f"REST: {reply.status_code} {reply.text[:60]}")
