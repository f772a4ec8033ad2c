"""A client that costs as little as can be: one POST, its server-sent events, and when each came."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

LIMIT = 1 << 20
"""Longest line of a reply, in bytes."""


@dataclass
class Stream:
    """One answer's times, in seconds on one clock."""

    begun: float
    events: list[float] = field(default_factory=list)
    """When each event with text came."""
    finish: str = ""
    text: str = ""

    @property
    def first(self) -> float:
        """How long the first text took."""
        return self.events[0] - self.begun

    @property
    def gaps(self) -> list[float]:
        """The pauses between events."""
        return [after - before for before, after in zip(self.events, self.events[1:], strict=False)]


async def complete(port: int, body: dict[str, Any], *, token: str = "") -> Stream:
    """Send a completion to 127.0.0.1 and read its stream to the end. Raises RuntimeError for any status but 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LIMIT)
    content = json.dumps({**body, "stream": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\nconnection: close\r\n"
    head += f"authorization: Bearer {token}\r\n" if token else ""
    stream = Stream(time.perf_counter())
    try:
        writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"{status!r}: {(await reader.read())[-300:]!r}")
        # what the chunked encoding puts between lines of events is no line of an event
        while line := await reader.readline():
            if not line.startswith(b"data: "):
                continue
            if line.startswith(b"data: [DONE]"):
                break
            choices = json.loads(line[6:]).get("choices")
            for choice in choices or ():
                if choice.get("text"):
                    stream.events.append(time.perf_counter())
                    stream.text += choice["text"]
                stream.finish = choice.get("finish_reason") or stream.finish
    finally:
        writer.close()
    return stream
