"""A registered HTTP server and how it is called: one address, that which was checked when it was opened, and an end to every wait.

Redirects are not followed, nothing is unpacked, and leaving an answer closes its connection, so that the server stops, too.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final, TypeVar

import httpx

from aos.addresses import Address, Target, check_addresses, check_url, is_in
from aos.errors import AosError, ContextOverflow, Deadline, EngineFailed, InvalidField, QueueFull
from aos.fetch import resolve
from aos.operator.upstream_events import Unreadable, complaint, kinds, models_listed, parameter, read_object
from aos.operator.upstream_request import paths_of
from aos.operator.upstream_settings import UpstreamSettings

CONNECTIONS: Final = 1024
"""Most connections of one operator to all its servers."""
KEPT: Final = 64
"""Most of them that are kept open while nobody uses them."""
KEPT_SECONDS: Final = 4.0
"""How long: less than servers do (uvicorn 5 s), else a request meets one that is just being closed."""
REPLY_BYTES: Final = 1 << 20
"""Largest reply that is no answer: an error, a list of models."""
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


class Server(ABC):
    """One model of one server. Used on one event loop."""

    def __init__(
        self, client: httpx.AsyncClient, model: str, target: Target, addresses: Sequence[Address], settings: UpstreamSettings
    ) -> None:
        """``target`` and ``addresses`` are what ``place_of`` gave."""
        self.model, self.running, self.context = model, 0, settings.context
        """``running``: its answers that are on their way; ``context``: most tokens of prompt and answer together."""
        self.target, self.address = target, addresses[0]
        """Where it is: the only address of it that is connected to."""
        self.slots = settings.slots
        """Most answers at once."""
        self._client, self._settings = client, settings
        self._paths = paths_of(target.path)
        self._waits = set[asyncio.Timeout]()
        self._cut = ""

    @property
    def listed(self) -> bool:
        """Whether it is known where it lists its models, and all else."""
        return bool(self._paths.models)

    @property
    @abstractmethod
    def capabilities(self) -> list[str]:
        """What it can do, in the words of the registry."""

    @abstractmethod
    async def try_out(self) -> None:
        """Return if the server does what it is there for. Raises AosError, Fault if the server is to blame."""

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

    def cut(self, why: str) -> None:
        """End all its answers now, with a Fault that says why, and begin none any more. Idempotent."""
        self._cut = self._cut or why
        for wait in self._waits:
            with suppress(RuntimeError):  # it is over at this very moment
                wait.reschedule(0)

    @asynccontextmanager
    async def _asked(
        self,
        method: str,
        path: str,
        body: bytes,
        patience: float,
        due: float | None = None,
        seconds: float | None = None,
        kind: str = "application/json",
    ) -> AsyncGenerator[httpx.Response]:
        """Give the server's reply, its body, of the content type ``kind``, still to come; what goes wrong on the way is a Fault."""
        if self._cut:
            raise Fault(self.model, self._cut)
        target, settings = replace(self.target, path=path), self._settings
        connect, idle = settings.connect_seconds, settings.idle_seconds
        request = self._client.build_request(
            method,
            target.at(self.address),
            content=body,
            headers={"host": target.authority, "accept-encoding": "identity", "content-type": kind},
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

    async def _body(
        self,
        reply: httpx.Response,
        patience: float,
        due: float | None = None,
        seconds: float | None = None,
        *,
        most: int = REPLY_BYTES,
    ) -> bytes:
        """Return the rest of the reply, which has to come within ``patience`` seconds. Raises Unreadable if it is too much."""
        body = bytearray()

        async def read() -> None:
            async for part in reply.aiter_raw():
                body.extend(part)
                if len(body) > most:
                    raise Unreadable(f"its reply has more than {most} bytes")

        await self._within(patience, read(), due, seconds)
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


def _words(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__


async def place_of(api: str, settings: UpstreamSettings, *, address: str = "") -> tuple[Target, Sequence[Address]]:
    """Return where the URL ``api`` leads: to ``address`` if that is given, else to what its name leads to now.

    Raises InvalidField for a place that the settings do not allow, Unreachable for a name without an address.
    """
    target = check_url(api, "api", settings.networks)
    found = await resolve(address or target.host, target.port)
    addresses = check_addresses(api, found, "api", settings.networks)
    for one in addresses:
        if not is_in(one, settings.networks):
            raise InvalidField("api", f"leads to {one}, where model servers may not be", value=api, limit="this machine")
    return target, addresses


@asynccontextmanager
async def upstream_client() -> AsyncGenerator[httpx.AsyncClient]:
    """Give the one client of all servers of an operator."""
    # no environment: a proxy would resolve names by itself, and .netrc would give passwords away
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=KEPT, keepalive_expiry=KEPT_SECONDS)
    async with httpx.AsyncClient(trust_env=False, limits=limits, cookies=None) as client:
        yield client
