"""One part of a network: what runs as a process of its own, is killed, and is started again like a service manager does."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import httpx
import psycopg
from grpc import RpcError
from grpc_health.v1 import health_pb2, health_pb2_grpc

from aos.rpc.channel import channel
from tests.postgres_server import NoPostgres, PostgresServer

LOOK_SECONDS: Final = 0.05
ASK_SECONDS: Final = 1.0
"""How long a part may take to say that it is there."""
AGAIN_SECONDS: Final = 0.2
"""Pause before a process that ended is started again."""
END_SECONDS: Final = 20.0
"""How long a process may take to end when asked to."""
STARTS: Final = 20
"""How often the database is started, at most: what is left of the one that was killed may be in the way for a moment."""

Ready = Callable[[], Awaitable[bool]]


class Part(ABC):
    """What can be killed. ``kind`` is what the table calls it."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind, self.name = kind, name

    @abstractmethod
    async def start(self) -> None:
        """Start it, and return once it is of use."""

    @abstractmethod
    async def kill(self) -> float:
        """Kill it, and return after how many seconds it was of use again."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop it for good."""


class ProcessPart(Part):
    """A process that is started again whenever it ends, for whatever reason."""

    def __init__(self, kind: str, name: str, *command: str, env: Mapping[str, str], log: Path, ready: Ready) -> None:
        """It is of use once it has printed a line and ``ready`` says so; its log is added to the file ``log``."""
        super().__init__(kind, name)
        self.by_itself = 0
        """How often it ended and nobody had killed it: where its database is away when it starts, say."""
        self._command, self._env, self._log, self._ready = command, os.environ | env, log, ready
        self._process: asyncio.subprocess.Process | None = None
        self._said = asyncio.Event()
        self._killed = self._stopping = False
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._keeping = asyncio.create_task(self._keep(), name=self.name)
        await self._back()

    async def kill(self) -> float:
        begun, self._killed = time.monotonic(), True
        self._said.clear()
        with suppress(ProcessLookupError):
            self.end()
        await self._back()
        return time.monotonic() - begun

    def end(self) -> None:
        """Send the signal that nobody can answer."""
        if self._process is not None:
            self._process.kill()

    async def stop(self) -> None:
        self._stopping = True
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), END_SECONDS)
            except TimeoutError:
                self._process.kill()
        if self._keeping is not None:
            await self._keeping

    async def _back(self) -> None:
        await self._said.wait()
        while not await self._ready():
            await asyncio.sleep(LOOK_SECONDS)

    async def _keep(self) -> None:
        while not self._stopping:
            with self._log.open("ab") as said:
                process = self._process = await asyncio.create_subprocess_exec(
                    *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=said, env=self._env
                )
            assert process.stdout is not None
            if await process.stdout.readline():
                self._said.set()
            await process.wait()
            self._said.clear()
            self.by_itself += not (self._killed or self._stopping)
            self._killed = False
            await asyncio.sleep(AGAIN_SECONDS)


class EnvoyPart(ProcessPart):
    """`aos serve envoy`, of which Envoy's own process is killed: what started it starts it again."""

    async def kill(self) -> float:
        begun, gone = time.monotonic(), self._envoy()
        for pid in gone:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while set(self._envoy()) & set(gone) or not await self._ready():
            await asyncio.sleep(LOOK_SECONDS)
        return time.monotonic() - begun

    def _envoy(self) -> list[int]:
        assert self._process is not None
        try:
            return [int(pid) for pid in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()]
        except OSError:
            return []


class DatabasePart(Part):
    """PostgreSQL: all of its processes are killed at once."""

    def __init__(self, server: PostgresServer, url: str) -> None:
        super().__init__("PostgreSQL", "postgresql")
        self._server, self._url = server, url

    async def start(self) -> None:
        await asyncio.to_thread(self._start)

    async def kill(self) -> float:
        begun = time.monotonic()
        await asyncio.to_thread(self._server.kill)
        await self.start()
        return time.monotonic() - begun

    async def stop(self) -> None:
        """Leave it to whoever made it."""

    def _start(self) -> None:
        for left in reversed(range(STARTS)):
            try:
                self._server.start()
                with psycopg.connect(self._url) as connection:
                    connection.execute("SELECT 1")
            except (NoPostgres, psycopg.OperationalError):
                if not left:
                    raise
                time.sleep(AGAIN_SECONDS)
            else:
                return


def serves(address: str) -> Ready:
    """Return what asks the gRPC server at an address whether it is ready."""

    async def ready() -> bool:
        async with channel(address) as opened:
            try:
                request, stub = health_pb2.HealthCheckRequest(), cast("Any", health_pb2_grpc.HealthStub(opened))
                reply = await stub.Check(request, timeout=ASK_SECONDS, wait_for_ready=True)
            except RpcError:
                return False
        return reply.status == health_pb2.HealthCheckResponse.SERVING

    return ready


def answers(url: str) -> Ready:
    """Return what asks whether anybody answers HTTP there, with whatever status."""

    async def ready() -> bool:
        async with httpx.AsyncClient(timeout=ASK_SECONDS) as client:
            try:
                await client.get(url)
            except httpx.HTTPError:
                return False
        return True

    return ready


async def at_once() -> bool:
    """Say that its first line says all."""
    return True
