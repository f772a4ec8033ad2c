"""A network with a model of pictures behind a real Envoy, and a web server that gives pictures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import openai

from aos.clock import SystemClock
from aos.testing.harness import Aos, running_aos
from aos.testing.painted import PaintedModel

MODEL = "aos-pictures"
GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"


@asynccontextmanager
async def painting(*models: PaintedModel, **changes) -> AsyncGenerator[Aos]:
    async with running_aos(*(models or (PaintedModel(),)), name=MODEL, envoy=True, **{"clock": SystemClock()} | changes) as aos:
        yield aos


@asynccontextmanager
async def asking(aos: Aos) -> AsyncGenerator[tuple[httpx.AsyncClient, openai.AsyncOpenAI]]:
    """Callers with the project's token: any, and OpenAI's."""
    headers = {"authorization": f"Bearer {aos.token}"}
    async with (
        httpx.AsyncClient(base_url=aos.url, headers=headers, timeout=60) as rest,
        openai.AsyncOpenAI(base_url=f"{aos.url}/v1", api_key=aos.token, max_retries=0) as client,
    ):
        yield rest, client


@asynccontextmanager
async def web(replies: dict[str, bytes]) -> AsyncGenerator[str]:
    """A web server on this machine that gives what the test has for each path, head included; nothing for others. Gives its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        while (await reader.readline()).strip():
            pass
        path = line.split()[1].decode()
        if path in replies:
            writer.write(replies[path])
            await writer.drain()
            writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def reply(body: bytes, *, status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
