"""A registered HTTP model server, asked in OpenAI's dialect: an order becomes a request, and its stream text as it comes.

One server, one address: that which was checked when it was opened. Redirects are not followed, nothing is unpacked, every wait has
an end, and leaving an answer closes its connection, so that the server stops, too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final, TypeVar

import httpx

from aos.addresses import Address, Target, check_addresses, check_url, is_in
from aos.errors import AosError, ContextOverflow, Deadline, EngineFailed, InvalidField, QueueFull
from aos.fetch import Unreachable, resolve
from aos.operator.upstream_events import (
    DONE,
    Events,
    Told,
    Unreadable,
    complaint,
    kinds,
    models_listed,
    parameter,
    read_object,
    usage_of,
)
from aos.operator.upstream_request import paths_of, prompt_bound, request_body
from aos.operator.upstream_settings import UpstreamSettings
from aos.v1.types_pb2 import Chat, ChatMessage, FinishReason, Order, Sampling

CONNECTIONS: Final = 1024
"""Most connections of one operator to all its servers."""
KEPT: Final = 64
"""Most of them that are kept open while nobody uses them."""
KEPT_SECONDS: Final = 4.0
"""How long: less than servers do (uvicorn 5 s), else a request meets one that is just being closed."""
LARGE_BYTES: Final = 32 << 10
"""Orders from this size on are written as JSON in a thread."""
REPLY_BYTES: Final = 1 << 20
"""Largest reply that is no answer: an error, a list of models."""
STREAM_BYTES: Final = 64 << 20
"""Most bytes of one stream, whatever they say."""
TOKEN_BYTES: Final = 512
"""Longest text of one token; the dispatcher takes no more, either (its admission.py)."""
HELD_BACK_TOKENS: Final = 16
LAST_SECONDS: Final = 0.2
"""How long a stream may take to end behind its last event; then its connection is not kept."""
CANARY_PROMPT: Final = "Say OK."
CANARY_TOKENS: Final = 4
CONTEXTS: Final = ("max_model_len", "context_length", "context_window", "n_ctx", "n_ctx_train")
"""What servers call the length of a context in their list of models, the surest first."""
CONTEXT: Final = 1 << 24
OVERFLOWS: Final = frozenset({"context_length_exceeded", "exceed_context_size_error"})
"""What servers call an input that is too long."""
CALLERS_FAULT: Final = frozenset({400, 413, 422})

T = TypeVar("T")


class Fault(EngineFailed):
    """The server failed, by its own fault: another may do better."""

    def __init__(self, model: str, problem: str, *, gone: bool = False) -> None:
        """``gone`` is whether nobody took the connection."""
        super().__init__(model, problem)
        self.problem, self.gone = problem, gone


class TookTooLong(Fault):
    """It did not answer in time."""


@dataclass(frozen=True, slots=True)
class Answered:
    """How an answer ended, and what it took."""

    reason: FinishReason
    stop: str
    """The stop string that came; empty if none did, or the server does not say."""
    prompt_tokens: int
    completion_tokens: int
    counted: bool
    """Whether the server told no counts."""


class Upstream:
    """One model of one server. Used on one event loop."""

    def __init__(
        self, client: httpx.AsyncClient, model: str, target: Target, addresses: Sequence[Address], settings: UpstreamSettings
    ) -> None:
        """Made by ``open_upstream``, which checks the addresses."""
        self.model, self.running, self.context = model, 0, settings.context
        """``running``: its answers that are on their way; ``context``: most tokens of prompt and answer together."""
        self.states_usage = False
        """Whether it has told counts of tokens."""
        self._client, self._target, self._address, self._settings = client, target, addresses[0], settings
        self._paths = paths_of(target.path)
        self._waits = set[asyncio.Timeout]()
        self._cut = ""

    @property
    def capabilities(self) -> list[str]:
        """What it can do, in the words of the registry."""
        found = {"completions": bool(self._paths.completions), "usage": self.states_usage}
        return ["chat", "stream", *(name for name, can in found.items() if can)]

    async def generate(self, order: Order, *, seconds: float | None = None) -> AsyncGenerator[str | Answered]:
        """Stream the answer's text as it comes, and last how it ended. Leaving early closes the connection.

        Raises ModelUnsuitable for what the server cannot be asked, InvalidField or ContextOverflow for what it refuses, in its own
        words, QueueFull if it is busy, Deadline after ``seconds``, and Fault.
        """
        path = self._paths.chat if order.HasField("chat") else self._paths.completions
        large = order.ByteSize() >= LARGE_BYTES
        body = await asyncio.to_thread(_written, order) if large else _written(order)
        if not path:
            raise Fault(self.model, "its address has no place for prompts that are no chat")
        if self.running >= self._settings.slots:
            raise QueueFull(f"model server of {self.model}", self._settings.slots)
        self.running += 1
        try:
            due = None if seconds is None else asyncio.get_running_loop().time() + seconds
            async with (
                self._asked("POST", path, body, self._settings.first_seconds, due, seconds) as reply,
                aclosing(self._told(reply, order, due, seconds)) as said,
            ):
                async for one in said:
                    yield one
        finally:
            self.running -= 1

    async def look(self) -> None:
        """Return if the server is there; learns its context length, if it tells. Raises Fault."""
        async with self._asked("GET", self._paths.models or self._paths.chat, b"", self._settings.probe_timeout) as reply:
            status = reply.status_code
            if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
                raise Fault(self.model, f"it answers {status}, a redirect, which is not followed")
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise Fault(self.model, f"it answers {status}")
            body = await self._body(reply, self._settings.probe_timeout)
        with suppress(Unreadable):
            if status == HTTPStatus.OK and self._paths.models:
                self.context = _context(list(models_listed(read_object(body))), self.model) or self.context

    async def try_out(self) -> None:
        """Return if the server answers a short prompt. Raises what ``generate`` raises."""
        order = Order(
            model=self.model,
            chat=Chat(messages=[ChatMessage(role="user", content=CANARY_PROMPT)]),
            sampling=Sampling(temperature=0, max_tokens=CANARY_TOKENS),
        )
        try:
            async with aclosing(self.generate(order, seconds=self._settings.canary_timeout)) as said:
                async for one in said:
                    if isinstance(one, Answered):
                        self.states_usage = not one.counted
        except Deadline:
            raise TookTooLong(self.model, f"no answer to a trial within {self._settings.canary_timeout:g} s") from None

    def cut(self, why: str) -> None:
        """End all its answers now, with a Fault that says why, and begin none any more. Idempotent."""
        self._cut = self._cut or why
        for wait in self._waits:
            with suppress(RuntimeError):  # it is over at this very moment
                wait.reschedule(0)

    @asynccontextmanager
    async def _asked(
        self, method: str, path: str, body: bytes, patience: float, due: float | None = None, seconds: float | None = None
    ) -> AsyncGenerator[httpx.Response]:
        """Give the server's reply, its body still to come; what goes wrong in the block on the way is a Fault."""
        if self._cut:
            raise Fault(self.model, self._cut)
        target, settings = replace(self._target, path=path), self._settings
        connect, idle = settings.connect_seconds, settings.idle_seconds
        request = self._client.build_request(
            method,
            target.at(self._address),
            content=body,
            headers={"host": target.authority, "accept-encoding": "identity", "content-type": "application/json"},
            extensions={"sni_hostname": target.host},
            timeout=httpx.Timeout(None, connect=connect, write=idle, pool=connect),
        )
        reply: httpx.Response | None = None
        try:
            # over all headers: one that sends them letter by letter is too slow, too
            reply = await self._within(patience, self._client.send(request, stream=True, follow_redirects=False), due, seconds)
            if reply.headers.get("content-encoding", "identity") != "identity":
                raise Fault(self.model, "its reply is packed, which was not asked for")
            yield reply
        except httpx.ConnectError as error:
            raise Fault(self.model, f"nobody takes connections: {_words(error)}", gone=True) from error
        except httpx.TimeoutException as error:
            gone = isinstance(error, httpx.ConnectTimeout)
            raise TookTooLong(self.model, f"it takes too long: {_words(error)}", gone=gone) from error
        except httpx.HTTPError as error:
            raise Fault(self.model, f"the connection broke: {_words(error)}") from error
        except Unreadable as error:
            raise Fault(self.model, str(error)) from error
        finally:
            if reply is not None:
                await reply.aclose()

    async def _within(self, patience: float, work: Awaitable[T], due: float | None, seconds: float | None) -> T:
        """Return what the work gives. Raises TookTooLong after ``patience``, Deadline when it is due, Fault when it is cut off."""
        loop = asyncio.get_running_loop()
        when = loop.time() + patience
        try:
            async with asyncio.timeout_at(when if due is None else min(when, due)) as wait:
                self._waits.add(wait)
                try:
                    return await work
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            if self._cut:
                raise Fault(self.model, self._cut) from None
            if due is not None and loop.time() >= due:
                raise Deadline(f"a request to {self.model}", seconds or 0.0) from None
            raise TookTooLong(self.model, f"it said nothing for {patience:g} s") from None

    async def _told(
        self, reply: httpx.Response, order: Order, due: float | None, seconds: float | None
    ) -> AsyncGenerator[str | Answered]:
        if reply.status_code != HTTPStatus.OK:
            raise self._refusal(reply.status_code, await self._body(reply, self._settings.idle_seconds))
        kind = reply.headers.get("content-type", "")
        if kind.partition(";")[0].strip().lower() != "text/event-stream":
            raise Unreadable(await self._other(reply, kind))
        loop, settings = asyncio.get_running_loop(), self._settings
        events, told, done = Events(), Told([tool.name for tool in order.chat.tools]), False
        left = (order.sampling.max_tokens + HELD_BACK_TOKENS) * TOKEN_BYTES
        size, spoke, parts = 0, loop.time(), aiter(reply.aiter_raw())
        while not done:
            if self._cut:
                raise Fault(self.model, self._cut)
            silent = spoke + settings.silent_seconds - loop.time()
            part = await self._within(max(0.0, min(settings.idle_seconds, silent)), anext(parts, b""), due, seconds)
            if not part:
                break
            size += len(part)
            more, spoken, done = _heard(events.feed(part), told)
            spoke = loop.time() if spoken else spoke
            left -= len(more.encode())
            if left < 0 or size > STREAM_BYTES:
                raise Unreadable("it sends more than was asked for")
            if more:
                yield more
        with suppress(TimeoutError, httpx.HTTPError):  # read to its end, so that the connection can be used again
            async with asyncio.timeout(LAST_SECONDS):
                await anext(parts, b"")
        yield self._ended(told, order)

    def _ended(self, told: Told, order: Order) -> Answered:
        """Return how the answer ended. Raises Unreadable if it has no end."""
        if told.reason is None:
            raise Unreadable("its stream ends in mid-answer" if told.pieces else "its stream ends without an answer")
        most = order.sampling.max_tokens
        (prompt, completion), counted = usage_of(told, prompt_bound=prompt_bound(order, self.context), completion_bound=most)
        stop = told.stop if told.stop in order.sampling.stop else ""
        return Answered(told.reason, stop, prompt, completion, counted)

    async def _other(self, reply: httpx.Response, kind: str) -> str:
        """Return what is wrong with a reply that is no stream, in the server's words if it has some."""
        why = None
        with suppress(Unreadable):
            why = complaint(read_object(await self._body(reply, self._settings.idle_seconds)))
        return f"it answers with {kind[:100] or 'nothing that has a type'}, not a stream of events{f': {why}' if why else ''}"

    def _refusal(self, status: int, body: bytes) -> AosError:
        said: dict[str, Any] = {}
        with suppress(Unreadable):
            said = read_object(body)
        why = complaint(said) or "it gave no reason"
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return QueueFull(f"model server of {self.model}", self._settings.slots)
        if status not in CALLERS_FAULT:
            return Fault(self.model, f"it answers {status}: {why}")
        if kinds(said) & OVERFLOWS:
            facts = {"model": self.model, "promptTokens": "", "limit": str(self.context), "field": ""}
            return ContextOverflow.rebuild(f"The model server of {self.model!r} refuses it: {why}", facts)
        param = parameter(said)
        return InvalidField(f"order.{param}" if param else "order", f"the model server refuses it: {why}")

    async def _body(self, reply: httpx.Response, patience: float) -> bytes:
        body = bytearray()

        async def read() -> None:
            async for part in reply.aiter_raw():
                body.extend(part)
                if len(body) > REPLY_BYTES:
                    raise Unreadable(f"its reply has more than {REPLY_BYTES} bytes")

        await self._within(patience, read(), None, None)
        return bytes(body)


def _context(entries: list[dict[str, Any]], model: str) -> int:
    """Return the context length that a list of models tells; 0 if it does not."""
    own = next((one for one in entries if one.get("id") == model), entries[0] if len(entries) == 1 else {})
    meta = own.get("meta")
    for place in (own, meta if isinstance(meta, dict) else {}):  # pyright: ignore[reportUnknownVariableType]
        for name in CONTEXTS:
            value: object = place.get(name)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= CONTEXT:
                return value
    return 0


def _heard(events: Sequence[str], told: Told) -> tuple[str, bool, bool]:
    """Return the text of events, whether there were any, and whether the last of all has come. Raises Unreadable."""
    text = list[str]()
    for event in events:
        if event.strip() == DONE:
            return "".join(text), True, True
        text.append(told.take(read_object(event)))
    return "".join(text), bool(events), False


def _written(order: Order) -> bytes:
    return json.dumps(request_body(order), ensure_ascii=False).encode()


def _words(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__


async def open_upstream(
    client: httpx.AsyncClient, model: str, api: str, settings: UpstreamSettings, *, address: str = ""
) -> Upstream:
    """Return the server at the URL ``api``, at ``address`` if that is given, else at what its name leads to now.

    Raises InvalidField for a place that the settings do not allow, Unreachable for a name without an address.
    """
    target = check_url(api, "api", settings.networks)
    found = await resolve(address or target.host, target.port)
    addresses = check_addresses(api, found, "api", settings.networks)
    for one in addresses:
        if not is_in(one, settings.networks):
            raise InvalidField("api", f"leads to {one}, where model servers may not be", value=api, limit="this machine")
    return Upstream(client, model, target, addresses, settings)


@asynccontextmanager
async def upstream_client() -> AsyncGenerator[httpx.AsyncClient]:
    """Give the one client of all servers of an operator."""
    # no environment: a proxy would resolve names by itself, and .netrc would give passwords away
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=KEPT, keepalive_expiry=KEPT_SECONDS)
    async with httpx.AsyncClient(trust_env=False, limits=limits, cookies=None) as client:
        yield client


__all__ = ["Answered", "Fault", "TookTooLong", "Unreachable", "Upstream", "open_upstream", "upstream_client"]
