"""A receiver of callbacks: a real HTTP server that replies what the test wants, or nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

SECONDS = 20


class Receiver:
    """Hears callbacks. ``reply`` takes one of: a status, bytes as they are, or None to hang."""

    def __init__(self) -> None:
        self.heard: list[tuple[dict[str, str], bytes]] = []
        self.replies: list[int | bytes | None] = []
        self.port = 0
        self._news = asyncio.Event()
        self._hanging: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/answers"

    def reply(self, *replies: int | bytes | None) -> None:
        """What comes next; behind the last one, 200."""
        self.replies += replies

    async def calls(self, count: int) -> list[dict[str, str]]:
        """The bodies, once there are so many."""
        async with asyncio.timeout(SECONDS):
            while len(self.heard) < count:
                self._news.clear()
                await self._news.wait()
        return [json.loads(body) for _, body in self.heard]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)} | {":": first}
            self.heard.append((headers, await reader.readexactly(int(headers["content-length"]))))
            self._news.set()
            match self.replies.pop(0) if self.replies else 200:
                case None:
                    self._hanging.add(writer)
                    return
                case int() as status:
                    writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n".encode())
                case raw:
                    writer.write(raw)
            await writer.drain()
        writer.close()

    def hang_up(self) -> None:
        for writer in self._hanging:
            writer.close()


@asynccontextmanager
async def receiving() -> AsyncGenerator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver._serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        receiver.hang_up()
        await server.wait_closed()
