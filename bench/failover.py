"""What callers notice when one of two operators is killed, or stopped, under load, and how long it takes to come back.

    python -m bench.failover [--callers N] [--seconds S] [--how kill stop]

A network with two operators answers chats over REST without a pause. Then one operator's process is killed (SIGKILL; `aos up`
starts it again) or stopped (SIGSTOP, and SIGCONT after 30 s). Printed are: requests, and those of them that ended with an error;
how long they took; jobs that went on with another operator; after how long the dispatcher had given the operator up, after which
no job goes to it; and after how long, from when it was attached again, it got jobs again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from rich.console import Console
from rich.table import Table

from aos.credentials import Credentials
from aos.rpc.channel import channel
from aos.v1.dispatcher_pb2 import Job, ListHealthRequest, ListJobsRequest, OperatorHealth
from aos.v1.dispatcher_pb2_grpc import DispatcherStub

if TYPE_CHECKING:  # the stubs only
    from aos.v1.dispatcher_pb2_grpc import DispatcherAsyncStub

QUESTIONS = ("What is AI?", "What is a receipt?", "What does a dispatcher do?", "What is machine learning?")
STOPPED_SECONDS = 30.0
"""How long a stopped process stays so: long enough to be given up."""
WARM_SECONDS = 3.0
OK = 200
LOOK_SECONDS = 0.1
BACK_SECONDS = 120.0
"""How long to wait for jobs to go to an operator that runs again."""


@dataclass
class Seen:
    """What the callers saw."""

    took: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@asynccontextmanager
async def network() -> AsyncGenerator[tuple[Credentials, int]]:
    """Run `aos up` with two operators as a process of its own; give its process id, too."""
    with tempfile.TemporaryDirectory(prefix="aos-bench-") as data:
        command = [sys.executable, "-m", "aos", "up", "--port", "0", "--data", data, "--operators", "2", "--slots", "4", "--json"]
        child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            assert child.stdout is not None
            json.loads(await child.stdout.readline())
            yield Credentials.load(Path(data)), child.pid
        finally:
            child.terminate()
            await child.wait()


def operators(parent: int) -> list[int]:
    """Return the process ids of its operators."""
    found: list[int] = []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and int((path / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found += [int(path.name)] if b"operator" in (path / "cmdline").read_bytes() else []
        except OSError:
            continue
    return sorted(found)


async def ask(rest: httpx.AsyncClient, model: str, number: int, seen: Seen) -> None:
    """Stream one chat, and note how it ended."""
    question = f"{QUESTIONS[number % len(QUESTIONS)]} ({number})"
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 64, "stream": True}
    begun, ended = time.monotonic(), False
    try:
        async with rest.stream("POST", "/v1/chat/completions", json=body) as reply:
            if reply.status_code != OK:
                seen.errors.append(f"{reply.status_code}: {(await reply.aread())[:200]!r}")
                return
            async for line in reply.aiter_lines():
                if line.startswith("data: {") and "error" in json.loads(line[6:]):
                    seen.errors.append(line[:200])
                ended = ended or line == "data: [DONE]"
        if not ended:
            seen.errors.append("the stream broke off")
    except httpx.HTTPError as error:
        seen.errors.append(repr(error))
    seen.took.append(time.monotonic() - begun)


async def load(rest: httpx.AsyncClient, model: str, callers: int, seen: Seen, stop: asyncio.Event) -> None:
    """Let so many callers ask, one question after the other, until ``stop``."""

    async def one(first: int) -> None:
        number = first
        while not stop.is_set():
            await ask(rest, model, number, seen)
            number += callers

    await asyncio.gather(*(one(number) for number in range(callers)))


async def jobs(dispatcher: DispatcherAsyncStub) -> list[Job]:
    return list((await dispatcher.ListJobs(ListJobsRequest(page_size=1000))).jobs)


async def health(dispatcher: DispatcherAsyncStub) -> dict[str, OperatorHealth]:
    return {one.operator: one for one in (await dispatcher.ListHealth(ListHealthRequest())).health}


async def once(how: str, callers: int, seconds: float) -> list[str]:
    """Run one network, take one operator away, and return a row."""
    async with network() as (kept, parent), channel(kept.grpc, kept.admin_token) as opened:
        dispatcher, seen, stop = DispatcherStub(opened), Seen(), asyncio.Event()
        headers = {"authorization": f"Bearer {kept.token}"}
        async with httpx.AsyncClient(base_url=kept.url, headers=headers, timeout=300) as rest:
            model = (await rest.get("/v1/models")).json()["data"][0]["id"]
            running = asyncio.create_task(load(rest, model, callers, seen, stop))
            await asyncio.sleep(WARM_SECONDS)
            both, pid = await health(dispatcher), operators(parent)[0]
            os.kill(pid, signal.SIGKILL if how == "kill" else signal.SIGSTOP)
            gone = time.monotonic()
            victim, noticed = "", 0.0
            while not victim and time.monotonic() - gone < STOPPED_SECONDS:
                known = await health(dispatcher)
                victim = next((name for name in both if name not in known or not known[name].attached), "")
                noticed = time.monotonic() - gone
                await asyncio.sleep(LOOK_SECONDS)
            if how == "stop":
                await asyncio.sleep(max(0.0, STOPPED_SECONDS - (time.monotonic() - gone)))
                os.kill(pid, signal.SIGCONT)
            attached, back = await _back(dispatcher, victim)
            await asyncio.sleep(seconds)
            stop.set()
            await running
            moved = sum(one.attempts > 1 for one in await jobs(dispatcher))
    slow = f"{max(seen.took):.2f}"
    return [
        f"SIG{how.upper()}",
        str(len(seen.took)),
        str(len(seen.errors)) + (f" ({seen.errors[0]})" if seen.errors else ""),
        f"{statistics.median(seen.took):.2f} / {slow}",
        str(moved),
        f"{noticed:.2f}" if victim else "never",
        f"{back - attached:.2f}" if back else "never",
    ]


async def _back(dispatcher: DispatcherAsyncStub, victim: str) -> tuple[float, float]:
    """Return when the operator was attached again, and when it had a job again; 0 for never."""
    begun, attached = time.monotonic(), 0.0
    while time.monotonic() - begun < BACK_SECONDS:
        known: Any = (await health(dispatcher)).get(victim)
        if known is not None and known.attached:
            attached = attached or time.monotonic()
            if known.running:
                return attached, time.monotonic()
        await asyncio.sleep(LOOK_SECONDS)
    return attached, 0.0


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--callers", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long the load goes on at the end")
    parser.add_argument("--how", nargs="+", choices=["kill", "stop"], default=["kill", "stop"])
    given = parser.parse_args()
    table = Table(
        "signal",
        "requests",
        "errors",
        "s each, p50 / most",
        "jobs moved",
        "given up after, s",
        "jobs again after, s",
        box=None,
    )
    for how in given.how:
        table.add_row(*await once(how, given.callers, given.seconds))
    Console(width=150).print(table)


if __name__ == "__main__":
    asyncio.run(main())
