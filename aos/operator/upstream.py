"""A registered HTTP model server, asked in OpenAI's dialect: an order becomes a request, and its stream text as it comes.

How it is called, and with what ends to every wait: upstream_server.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import httpx

from aos.addresses import Address, Target
from aos.errors import Deadline, ModelUnsuitable, QueueFull
from aos.fetch import Unreachable
from aos.operator.upstream_events import DONE, Events, Told, Unreadable, complaint, read_object, usage_of
from aos.operator.upstream_request import prompt_bound, request_body
from aos.operator.upstream_server import Fault, Server, TookTooLong, place_of, upstream_client
from aos.operator.upstream_settings import UpstreamSettings
from aos.operator.upstream_tokens import NEEDS, NOT_THERE, tokens_asked, tokens_told
from aos.operator.upstream_tokens import REPLY_BYTES as TOKENS_BYTES
from aos.v1.types_pb2 import Chat, ChatMessage, FinishReason, Order, Sampling

LARGE_BYTES: Final = 32 << 10
"""Orders from this size on are written as JSON in a thread."""
STREAM_BYTES: Final = 64 << 20
"""Most bytes of one stream, whatever they say."""
TOKEN_BYTES: Final = 512
"""Longest text of one token; the dispatcher takes no more, either (its admission.py)."""
HELD_BACK_TOKENS: Final = 16
LAST_SECONDS: Final = 0.2
"""How long a stream may take to end behind its last event; then its connection is not kept."""
CANARY_PROMPT: Final = "Say OK."
CANARY_TOKENS: Final = 4


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


class Upstream(Server):
    """One model of one server of texts. Used on one event loop."""

    def __init__(
        self, client: httpx.AsyncClient, model: str, target: Target, addresses: Sequence[Address], settings: UpstreamSettings
    ) -> None:
        """Made by ``open_upstream``, which checks the addresses."""
        super().__init__(client, model, target, addresses, settings)
        self.states_usage = False
        """Whether it has told counts of tokens."""

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

    async def tokenise(self, order: Order) -> list[int]:
        """Return the tokens of the order's input, as the server says.

        Raises ModelUnsuitable if it does not, InvalidField for what it refuses, QueueFull if it is busy, and Fault.
        """
        body = await asyncio.to_thread(lambda: json.dumps(tokens_asked(order), ensure_ascii=False).encode())
        path, patience = self._paths.tokens, self._settings.first_seconds
        if not path:
            raise ModelUnsuitable(self.model, NEEDS)
        if self.running >= self._settings.slots:
            raise QueueFull(f"model server of {self.model}", self._settings.slots)
        self.running += 1
        try:
            async with self._asked("POST", path, body, patience) as reply:
                if reply.status_code in NOT_THERE:
                    raise ModelUnsuitable(self.model, NEEDS)
                data = await self._body(reply, self._settings.idle_seconds, most=TOKENS_BYTES)
                if reply.status_code != HTTPStatus.OK:
                    raise self._refusal(reply.status_code, data)
                return await asyncio.to_thread(tokens_told, data, order)
        finally:
            self.running -= 1

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


async def open_upstream(
    client: httpx.AsyncClient, model: str, api: str, settings: UpstreamSettings, *, address: str = ""
) -> Upstream:
    """Return the server at the URL ``api``, at ``address`` if that is given, else at what its name leads to now.

    Raises InvalidField for a place that the settings do not allow, Unreachable for a name without an address.
    """
    target, addresses = await place_of(api, settings, address=address)
    return Upstream(client, model, target, addresses, settings)


__all__ = ["Answered", "Fault", "TookTooLong", "Unreachable", "Upstream", "open_upstream", "upstream_client"]
