"""`aos up` as a user starts it: a process of its own, with its children, on free ports."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from aos.rpc.channel import channel
from aos.v1 import broker_pb2, broker_pb2_grpc, dispatcher_pb2, dispatcher_pb2_grpc

START_SECONDS = 60
STOP_SECONDS = 40


class Up:
    """A running `aos up`."""

    def __init__(self, process: asyncio.subprocess.Process, ready: dict[str, str], opened: grpc.aio.Channel) -> None:
        self.process, self.ready = process, ready
        self.dispatcher = dispatcher_pb2_grpc.DispatcherStub(opened)
        self.broker = broker_pb2_grpc.BrokerStub(opened)

    def operators(self) -> list[int]:
        """The process ids of its operators."""
        return [pid for pid in _processes() if _parent(pid) == self.process.pid and b"operator" in _command(pid)]

    def descendants(self) -> list[int]:
        return [pid for pid in _processes() if _parent(pid) == self.process.pid]

    async def job(self, name: str) -> dispatcher_pb2.Job:
        return await self.dispatcher.GetJob(dispatcher_pb2.GetJobRequest(name=name), wait_for_ready=True)

    async def account(self) -> broker_pb2.Account:
        return await self.broker.GetAccount(broker_pb2.GetAccountRequest(name="accounts/-"), wait_for_ready=True)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _parent(pid: int) -> int:
    try:
        return int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _command(pid: int) -> bytes:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody has waited for counts as ended."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@asynccontextmanager
async def aos_up(data: Path, *options: str) -> AsyncGenerator[Up]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aos", "up", "--json", "--port", "0", "--data", str(data), *options),
        stdout=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
        assert line, f"aos up ended with {await process.wait()}"
        ready = json.loads(line)
        async with channel(ready["grpc"], ready["token"]) as opened:
            yield Up(process, ready, opened)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                process.kill()
        await process.wait()


@pytest.fixture
def up(tmp_path: Path) -> Callable[..., object]:
    """Start `aos up` on this test's own data folder; starting again finds what the last one left."""
    return lambda *options: aos_up(tmp_path / "data", *options)
