"""Asks a server what the model interface documents, and reports what it answers, line by line."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import httpx

from aos.conformance import shapes
from aos.conformance.findings import Broken, Finding, Report, Verdict, shortened

SECONDS: Final = 120.0
"""How long one answer may take."""
REPLY_BYTES: Final = 32 << 20
"""Largest reply that is read."""
TOKENS: Final = 16
"""Most tokens that an answer is asked for."""
PROMPT: Final = "Say hello."
PICTURE: Final = "a red circle"
SIDE: Final = 64
"""Width and height of the picture that edits are tried with."""
NOBODY: Final = "no-such-model-of-this-server"
TEXT, IMAGE, IMAGE_EDIT = range(3)
"""The interface's types of models."""
FOLDERS: Final = ("/chat/completions", "/completions", "/images/generations", "/images/edits", "/models", "/v1")
"""What a server's URL may end in; its root is what is before that."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is and how it is spoken to. Its repr shows no key."""

    url: str
    """`http://host:port`, with a path before `/v1` if it has one."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    extensions: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """httpx's, such as `sni_hostname` where ``url`` has an address in the name's place."""


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    content_type: str
    data: bytes


class _Unanswered(Exception):
    """No whole reply came."""


def root(url: str) -> str:
    """Return a server's root from any of the URLs that it is registered by."""
    at = url.split("?", 1)[0].rstrip("/")
    for end in FOLDERS:
        at = at.removesuffix(end)
    return at.rstrip("/")


async def check(client: httpx.AsyncClient, place: Place, *, model: str = "", kind: int | None = None, side: int = SIDE) -> Report:
    """Return what a server answers to each kind of question that the interface documents.

    ``model`` is which of its models is asked, by default the first one that it lists; ``kind`` the interface's type of it, by
    default what the list says, or text; ``side`` how wide and high pictures are to be. Never raises for anything that a server
    may do.
    """
    asked = _Check(client, place, model, side)
    await asked.run(kind)
    return Report(place.url, asked.model, tuple(asked.findings), tuple(asked.capabilities))


class _Check:
    def __init__(self, client: httpx.AsyncClient, place: Place, model: str, side: int) -> None:
        self._client, self._place, self.model, self._side = client, place, model, side
        self.findings: list[Finding] = []
        self.capabilities: list[str] = []

    async def run(self, kind: int | None) -> None:
        listed = await self._models()
        if kind is None:
            mine = next((one for one in listed if shapes.name_of(one) == self.model), {})
            said = mine.get("type")
            kind = IMAGE if said == IMAGE else IMAGE_EDIT if said == IMAGE_EDIT else TEXT
        if not self.model:
            self._add("model", Verdict.FAIL, "no model is listed and none was named: there is nothing to ask")
            return
        if kind == TEXT:
            await self._chat()
            await self._stream()
        elif kind == IMAGE:
            await self._pictures("images", "/v1/images/generations", {})
        else:
            source = f"data:image/png;base64,{base64.b64encode(blank(self._side)).decode()}"
            await self._pictures("image-edits", "/v1/images/edits", {"image": source})
            await self._form()
        await self._refusals(kind)

    async def _models(self) -> list[dict[str, Any]]:
        try:
            reply = await self._ask("GET", "/v1/models")
            if reply.status != 200:  # noqa: PLR2004
                self._add("models", Verdict.NOTE, f"GET /v1/models answers {reply.status}; a server need not have it")
                return []
            found = shapes.models(shapes.json_object(reply.data, reply.content_type))
        except (Broken, _Unanswered) as error:
            self._add("models", Verdict.FAIL, str(error))
            return []
        self._add("models", Verdict.PASS, f"{len(found)} listed", "models")
        names = [shapes.name_of(one) for one in found]
        if not self.model and names:
            self.model = names[0]
        elif self.model and self.model not in names:
            self._add("models.listed", Verdict.NOTE, f"{self.model!r} is not among them")
        return found

    async def _chat(self) -> None:
        reply = await self._answer("chat", "/v1/chat/completions", self._conversation(stream=False))
        if reply is None:
            return
        self._look("chat", lambda: shapes.completion(reply), "an answer in the documented shape", "chat")
        self._look("chat.usage", lambda: shapes.usage(reply), "tokens are counted, and add up", "usage")
        self._look("chat.code", lambda: shapes.documented(reply), "code 0, message 'success'", otherwise=Verdict.NOTE)

    async def _stream(self) -> None:
        try:
            reply = await self._ask("POST", "/v1/chat/completions", self._conversation(stream=True))
            shapes.good(reply.status, reply.data)
            shapes.typed(reply.content_type, "text/event-stream")
            # what comes behind the last line's end is no line
            text = reply.data.decode(errors="replace").replace("\r\n", "\n").removesuffix("\n")
            data = shapes.events(text.split("\n"))
        except (Broken, _Unanswered) as error:
            self._add("chat.stream", Verdict.FAIL, str(error))
            return
        self._add("chat.stream", Verdict.PASS, f"{len(data)} events, one data line each")
        before = self._look("chat.stream.done", lambda: shapes.done(data), "ends in data: [DONE]")
        # without the end mark, the rest can still be looked at
        events = before if before is not None else [one for one in data if one != shapes.DONE]
        if not events:
            return
        found = self._look("chat.stream.chunks", lambda: shapes.chunks(events), "one id, one kind of object")
        if found is None:
            return
        parts = self._look("chat.stream.deltas", lambda: shapes.deltas(found), "role first, finish_reason last")
        if parts is not None and before is not None:
            self.capabilities.append("stream")
        if parts == 1:
            self._add("chat.stream.parts", Verdict.NOTE, "all the text came in one event")
        counted = "tokens are counted in the last event"
        self._look("chat.stream.usage", lambda: shapes.streamed_usage(found), counted, "stream-usage", otherwise=Verdict.NOTE)

    async def _pictures(self, capability: str, path: str, more: dict[str, Any]) -> None:
        body = {
            "model": self.model,
            "prompt": PICTURE,
            "n": 1,
            "width": self._side,
            "height": self._side,
            "response_format": "b64_json",
            **more,
        }
        reply = await self._answer(capability, path, body)
        if reply is None:
            return
        kind = self._look(capability, lambda: shapes.pictures(reply, 1), "one picture in the documented shape", capability)
        if kind == "url":
            self._add(f"{capability}.format", Verdict.FAIL, "b64_json was asked for and a url came")

    async def _form(self) -> None:
        """Ask for an edit as OpenAI's clients do, which the interface does not ask for."""
        line, size = "image-edits.form", str(self._side)
        said = {"model": self.model, "prompt": PICTURE, "n": "1", "size": f"{size}x{size}", "response_format": "b64_json"}
        form = httpx.Request("POST", "http://form/", data=said, files={"image": ("image.png", blank(self._side), "image/png")})
        try:
            reply = await self._ask("POST", "/v1/images/edits", form.read(), kind=form.headers["content-type"])
            shapes.good(reply.status, reply.data)
            shapes.pictures(shapes.json_object(reply.data, reply.content_type), 1)
        except (Broken, _Unanswered) as error:
            self._add(line, Verdict.NOTE, str(error))
            return
        self._add(line, Verdict.PASS, "a form is taken, too", "image-edits-form")

    async def _refusals(self, kind: int) -> None:
        path = ("/v1/chat/completions", "/v1/images/generations", "/v1/images/edits")[kind]
        body = self._conversation(stream=False) if kind == TEXT else {"prompt": PICTURE}
        unknown = json.dumps(body | {"model": NOBODY}).encode()
        told = [await self._refused(f"errors.{name}", path, data) for name, data in (("model", unknown), ("json", b'{"model":'))]
        if all(told):
            self.capabilities.append("errors")

    async def _refused(self, line: str, path: str, data: bytes) -> bool:
        try:
            reply = await self._ask("POST", path, data)
            if reply.status < 400:  # noqa: PLR2004
                # a status of 200 with a code is how the interface once had it
                shapes.failure(shapes.json_object(reply.data, reply.content_type))
                self._add(line, Verdict.NOTE, f"refused by its code alone, with status {reply.status}")
                return False
            shapes.failure(shapes.json_object(reply.data, reply.content_type))
        except (Broken, _Unanswered) as error:
            self._add(line, Verdict.FAIL, str(error))
            return False
        self._add(line, Verdict.PASS, f"refused with status {reply.status} and a reason")
        return True

    async def _answer(self, line: str, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        try:
            reply = await self._ask("POST", path, body)
            shapes.good(reply.status, reply.data)
            return shapes.json_object(reply.data, reply.content_type)
        except (Broken, _Unanswered) as error:
            self._add(line, Verdict.FAIL, str(error))
            return None

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | bytes | None = None, *, kind: str = "application/json"
    ) -> _Reply:
        """Return the reply. Raises _Unanswered if none comes whole, in time and of a size that is read."""
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        headers = dict(self._place.headers) | ({"content-type": kind} if content is not None else {})
        url = f"{self._place.url}{path}"
        request = self._client.build_request(
            method, url, content=content, headers=headers, timeout=SECONDS, extensions=dict(self._place.extensions)
        )
        try:
            async with asyncio.timeout(SECONDS):
                reply = await self._client.send(request, stream=True, follow_redirects=False)
                try:
                    data = bytearray()
                    async for part in reply.aiter_bytes():
                        data += part
                        if len(data) > REPLY_BYTES:
                            raise _Unanswered(f"the reply has more than {REPLY_BYTES} bytes")
                finally:
                    await reply.aclose()
        except (TimeoutError, httpx.TimeoutException):
            raise _Unanswered(f"no whole reply within {SECONDS:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _Unanswered(str(error) or type(error).__name__) from error
        return _Reply(reply.status_code, reply.headers.get("content-type", ""), bytes(data))

    def _conversation(self, *, stream: bool) -> dict[str, Any]:
        messages = [{"role": "user", "content": PROMPT}]
        return {"model": self.model, "messages": messages, "stream": stream, "max_tokens": TOKENS, "temperature": 0}

    def _look(
        self, line: str, work: Callable[[], T], well: str, capability: str = "", *, otherwise: Verdict = Verdict.FAIL
    ) -> T | None:
        try:
            found = work()
        except Broken as error:
            self._add(line, otherwise, str(error))
            return None
        self._add(line, Verdict.PASS, well, capability)
        return found

    def _add(self, line: str, verdict: Verdict, said: str, capability: str = "") -> None:
        self.findings.append(Finding(line, verdict, shortened(said)))
        if capability and verdict is Verdict.PASS:
            self.capabilities.append(capability)


def blank(side: int) -> bytes:
    """Return a white PNG."""
    rows = (b"\0" + b"\xff" * 3 * side) * side

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
