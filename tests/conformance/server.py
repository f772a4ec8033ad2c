"""A small real HTTP server that keeps the documented model interface, but for what a test breaks."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aos.conformance.asking import blank

JSON, SSE = "application/json", "text/event-stream"
CHAT, GENERATE, EDIT, MODELS = "/v1/chat/completions", "/v1/images/generations", "/v1/images/edits", "/v1/models"


@dataclass
class Answer:
    """What is sent: `data` as it is, with its length announced unless `length` says another."""

    data: bytes = b""
    status: int = 200
    content_type: str = JSON
    length: int | None = None


def say(value: object, status: int = 200, content_type: str = JSON) -> Answer:
    return Answer(json.dumps(value).encode(), status, content_type)


def completion() -> dict:
    return {
        "code": 0, "message": "success", "id": "c1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }  # fmt: skip


def chunk(delta: dict, finish: str | None = None, **more) -> dict:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]} | more


def transcript() -> list[object]:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "hel"}),
        chunk({"content": "lo"}),
        chunk({"content": ""}, "stop", usage=usage),
        "[DONE]",
    ]


def stream(events: list[object]) -> Answer:
    lines = "".join(f"data: {one if isinstance(one, str) else json.dumps(one)}\n\n" for one in events)
    return Answer(lines.encode(), content_type=SSE)


def pictures(n: int = 1) -> dict:
    text = base64.b64encode(blank(8)).decode()
    data = [{"b64_json": text, "url": "", "revised_prompt": ""} for _ in range(n)]
    return {"code": 0, "message": "success", "created": 1, "data": data}


REFUSAL = {"code": 1007, "message": "no such model", "error": {"message": "no such model"}}


@dataclass
class Server:
    """Answers by path; each entry may be replaced."""

    models: Answer = field(default_factory=lambda: say({"project": "p", "data": [{"model": "m", "url": "u"}]}))
    chat: Answer = field(default_factory=lambda: say(completion()))
    stream: Answer = field(default_factory=lambda: stream(transcript()))
    images: Answer = field(default_factory=lambda: say(pictures()))
    form: Answer = field(default_factory=lambda: say({"error": {"message": "no forms"}}, 415))
    unknown: Answer = field(default_factory=lambda: say(REFUSAL, 404))
    malformed: Answer = field(default_factory=lambda: say(REFUSAL | {"code": 1002}, 400))
    asked: list[tuple[str, dict]] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str, body: bytes) -> Answer:
        if path == MODELS:
            return self.models
        if path == EDIT and body.startswith(b"--"):
            return self.form
        try:
            fields = json.loads(body)
        except ValueError:
            return self.malformed
        self.asked.append((path, fields))
        if fields["model"] != "m":
            return self.unknown
        if path == CHAT:
            return self.stream if fields["stream"] else self.chat
        return self.images


@asynccontextmanager
async def serving(change: Callable[[Server], None] = lambda _: None) -> AsyncGenerator[Server]:
    server = Server()
    change(server)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            server.headers.append(head.lower())
            lengths = [line.partition(":")[2] for line in head.splitlines() if line.lower().startswith("content-length:")]
            body = await reader.readexactly(int(lengths[0])) if lengths else b""
            made = server.answer(head.split()[1], body)
            length = len(made.data) if made.length is None else made.length
            said = f"HTTP/1.1 {made.status} x\r\ncontent-type: {made.content_type}\r\ncontent-length: {length}\r\n"
            writer.write(f"{said}connection: close\r\n\r\n".encode() + made.data)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"
    async with running:
        yield server
