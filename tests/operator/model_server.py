"""A model server as others write them, on a real socket: well-behaved, or as badly as a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

SECONDS = 10
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
TRIALS = ("Say OK.", "Say hello.")
"""What a server is asked that is looked at."""


@dataclass(frozen=True)
class Asked:
    """A request that came. A body that is no JSON is ``data`` alone."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict
    data: bytes
    writer: asyncio.StreamWriter
    left: asyncio.Event
    """Whether the caller has closed the connection."""

    async def gone(self) -> None:
        async with asyncio.timeout(SECONDS):
            await self.left.wait()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


Behaviour = Callable[[Asked], Awaitable[None]]


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def event(said: object) -> bytes:
    return f"data: {said if isinstance(said, str) else json.dumps(said)}\n\n".encode()


def delta(text: str | None = None, *, reason: str | None = None, **more: object) -> dict:
    """An event of a chat: more text, or its end."""
    return {"choices": [{"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": reason}], **more}


def usage(prompt: object, completion: object) -> dict:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


def streams(*events: object, done: bool = True, end: bool = True) -> Behaviour:
    """Answer with these events, each in a packet of its own."""

    async def behave(asked: Asked) -> None:
        await asked.send(STREAM)
        for one in (*events, *(["[DONE]"] if done else [])):
            await asked.send(chunk(event(one)))
        if end:
            await asked.send(LAST)

    return behave


def says(*texts: str, counts: tuple[int, int] = (7, 2)) -> Behaviour:
    """Answer well."""
    return streams(delta(""), *map(delta, texts), delta(reason="stop"), usage(*counts))


def replies(status: str, body: object = "", *, kind: str = "application/json", more: str = "") -> Behaviour:
    """Answer with a whole body."""
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}\r\n{more}\r\n".encode()

    async def behave(asked: Asked) -> None:
        await asked.send(head + data)

    return behave


def sends(*parts: bytes) -> Behaviour:
    """Answer with these bytes, and close the connection."""

    async def behave(asked: Asked) -> None:
        for part in parts:
            await asked.send(part)
        asked.writer.close()

    return behave


def stops_after(*parts: bytes) -> Behaviour:
    """Answer with these bytes, and then say nothing more."""

    async def behave(asked: Asked) -> None:
        for part in parts:
            await asked.send(part)
        await asked.left.wait()

    return behave


@dataclass
class ModelServer:
    """What stands behind a URL."""

    chat: Behaviour = field(default_factory=lambda: says("It is ", "mathematics."))
    completions: Behaviour = field(default_factory=lambda: replies("404 Not Found"))
    pictures: Behaviour = field(default_factory=lambda: replies("404 Not Found"))
    edits: Behaviour = field(default_factory=lambda: replies("404 Not Found"))
    files: Behaviour = field(default_factory=lambda: replies("404 Not Found"))
    """What GET is answered with anywhere but at the list of models."""
    models: Behaviour = field(default_factory=lambda: replies("200 OK", {"data": [{"id": "m", "max_model_len": 2048}]}))
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/chat/completions"

    def chats(self, model: str = "m") -> list[dict]:
        """The bodies of the chats that were asked for, trials and checks left out."""
        return [one.body for one in self.orders(model)]

    def orders(self, model: str = "m") -> list[Asked]:
        """The chats that were asked for, trials and checks left out."""
        chats = [one for one in self.asked if one.path.endswith("/chat/completions") and one.body.get("model") == model]
        return [one for one in chats if one.body["messages"][0]["content"] not in TRIALS]

    async def until(self, count: int) -> Asked:
        """Return the request of that number, once it has come."""
        async with asyncio.timeout(SECONDS):
            while len(self.asked) < count:
                self.news.clear()
                await self.news.wait()
        return self.asked[count - 1]

    async def stop(self) -> None:
        """Be gone as a process that was killed: nobody listens, and all connections are reset."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._open):
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def start(self) -> None:
        """Listen, at the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
                lines = [line.decode().partition(": ") for line in head.split(b"\r\n")[1:] if line]
                headers = {name.lower(): value for name, _, value in lines}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                asked = Asked(method, path, headers, _read(body), body, writer, asyncio.Event())
                self.asked.append(asked)
                self.news.set()
                await self._answer(asked, reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, asked: Asked, reader: asyncio.StreamReader) -> None:
        behave = self.models if asked.path.endswith("/models") else self.files
        if asked.method == "POST":
            ends = {"/chat/completions": self.chat, "/images/generations": self.pictures, "/images/edits": self.edits}
            behave = next((one for end, one in ends.items() if asked.path.endswith(end)), self.completions)
        answering = asyncio.ensure_future(behave(asked))
        leaving = asyncio.ensure_future(_left(reader))
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                asked.left.set()
            await asyncio.gather(answering, return_exceptions=True)
        finally:
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)


def _read(body: bytes) -> dict:
    try:
        said = json.loads(body or b"{}")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


async def _left(reader: asyncio.StreamReader) -> None:
    """Return once the caller has closed the connection."""
    while not reader.at_eof():
        await asyncio.sleep(0.002)


@asynccontextmanager
async def model_server(**behaviours: Behaviour) -> AsyncGenerator[ModelServer]:
    server = ModelServer(**behaviours)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
