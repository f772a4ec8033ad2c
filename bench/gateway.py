"""What the way through the network adds to a model server's own answer: Envoy, gateway, dispatcher, operator, and back.

    python -m bench.gateway [--at 1 8 32] [--rounds 5] [--pace 0.5] [--requests 2000] [--beside NAME=PORT …] [--upstream 9100]
    python -m bench.gateway --memory [--requests 100000]

A server that computes nothing (bench/told.py, a process of its own) streams 128 tokens, `--pace` milliseconds apart, at most 2. It
is asked directly, and as a registered model of `aos up --dev`, in turn, round after round, by this process. Other proxies in front
of it, `litellm --config …` say, are measured beside them: start them with the server's `--upstream` port, and name theirs.
Printed are the time to the first text, median and 99th percentile over all callers and rounds, what is added to the direct way's,
and tokens a second over all callers; then, over `--requests` short requests from 8 callers, the memory of the services' process and
of the operator's, in ten steps, and how many bytes each came to have for a request in the second half, where caches are full: the
slope of the line through the steps. It takes two minutes on 2 cores; `--memory` measures that alone, and 100,000 requests take
a quarter of an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from bench.sse import Stream, complete

MODEL = "told"
TOKENS = 128
DIRECT = "direct"
READY_SECONDS = 60
WORD = 5
"""Characters of a token."""
SHORT = 8
"""Tokens of a request that only memory is looked at for."""
CALLERS = 8
STEPS = 10


@dataclass
class Figures:
    """What the rounds of one way gave."""

    firsts: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def add(self, streams: list[Stream], seconds: float) -> None:
        self.firsts += [one.first * 1e3 for one in streams]
        self.rates.append(len(streams) * TOKENS / seconds)

    def medians(self) -> tuple[float, float, float]:
        """Milliseconds to the first text, median and 99th percentile; tokens a second."""
        ranked = sorted(self.firsts)
        return statistics.median(ranked), ranked[min(len(ranked) - 1, int(0.99 * len(ranked)))], statistics.median(self.rates)


@asynccontextmanager
async def told(port: int) -> AsyncGenerator[int]:
    """Run the server; gives its port."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.told", str(port), stdout=asyncio.subprocess.PIPE)
    try:
        assert child.stdout is not None
        yield int(await child.stdout.readline())
    finally:
        child.terminate()
        await child.wait()


@asynccontextmanager
async def network(upstream: int, slots: int) -> AsyncGenerator[tuple[int, int]]:
    """Run `aos up` with the server registered; gives the port of its REST, and its process."""
    with tempfile.TemporaryDirectory(prefix="aos-bench-") as data:
        given = ("--json", "--dev", "--port", "0", "--data", data, "--slots", str(slots), "--context", "256")
        child = await asyncio.create_subprocess_exec(sys.executable, "-m", "aos", "up", *given, stdout=asyncio.subprocess.PIPE)
        try:
            assert child.stdout is not None
            url = json.loads(await child.stdout.readline())["url"]
            model = {"model": MODEL, "api": f"http://127.0.0.1:{upstream}/v1/chat/completions", "type": 0}
            async with httpx.AsyncClient() as client:
                reply = await client.post(f"{url}/api/v0/ai/project/register", json={"project": "bench", "models": [model]})
                reply.raise_for_status()
                async with asyncio.timeout(READY_SECONDS):
                    while (await client.get(f"{url}/v1/models/{MODEL}")).json().get("state") != "ready":
                        await asyncio.sleep(0.1)
            yield int(url.rsplit(":", 1)[1]), child.pid
        finally:
            child.terminate()
            await child.wait()


async def measure(port: int, callers: int, pace: float, tokens: int = TOKENS) -> tuple[list[Stream], float]:
    """Let so many callers ask at once."""
    body = {"model": MODEL, "prompt": "x" * 64, "max_tokens": tokens, "temperature": pace}
    begun = time.perf_counter()
    streams = await asyncio.gather(*(complete(port, body) for _ in range(callers)))
    seconds = time.perf_counter() - begun
    if short := [len(one.text) for one in streams if len(one.text) != WORD * tokens]:
        raise SystemExit(f"answers are not whole: {short}")
    return streams, seconds


def memory(process: int) -> float:
    """MiB that a process has in memory now."""
    found = re.search(r"^VmRSS:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def operator_of(process: int) -> int:
    """The operator's process, a child of the services'."""
    children = map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())
    return next(one for one in children if b"operator" in Path(f"/proc/{one}/cmdline").read_bytes().split(b"\0"))


async def remember(port: int, services: int, requests: int) -> None:
    """Send so many short requests, and print what the processes have in memory meanwhile."""
    operator, sent = operator_of(services), 0
    found: list[tuple[int, float, float]] = []
    table = Table("requests", "services, MiB", "operator, MiB", "requests/s", box=None)
    table.add_row("0", f"{memory(services):.1f}", f"{memory(operator):.1f}", "")
    for step in range(1, STEPS + 1):
        begun, before = time.perf_counter(), sent
        while sent < requests * step // STEPS:
            callers = min(CALLERS, requests * step // STEPS - sent)
            await measure(port, callers, 0, SHORT)
            sent += callers
        rate = (sent - before) / (time.perf_counter() - begun)
        found.append((sent, memory(services), memory(operator)))
        table.add_row(str(sent), f"{found[-1][1]:.1f}", f"{found[-1][2]:.1f}", f"{rate:.0f}")
        # a long run that is broken off has told something
        print("memory: {} requests, services {:.1f} MiB, operator {:.1f} MiB".format(*found[-1]), file=sys.stderr, flush=True)
    console = Console(width=130)
    console.print("[bold]memory")
    console.print(table)
    counts, *memories = zip(*found[-(STEPS // 2) - 1 :], strict=True)
    slopes = [statistics.linear_regression(counts, one).slope * (1 << 20) for one in memories]
    console.print("in the second half, bytes a request: services {:.0f}, operator {:.0f}".format(*slopes))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pace", type=float, default=0.5, help="milliseconds between tokens, at most 2")
    parser.add_argument("--requests", type=int, default=2000, help="so many, for memory; 0: none")
    parser.add_argument("--memory", action="store_true", help="memory alone")
    parser.add_argument("--beside", nargs="*", default=[], metavar="NAME=PORT")
    parser.add_argument("--upstream", type=int, default=0, help="port of the server; 0: a free one")
    given = parser.parse_args()
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(told(given.upstream))
        rest, services = await stack.enter_async_context(network(upstream, max(CALLERS, *given.at)))
        ways = {DIRECT: upstream, "AOS, REST": rest}
        ways |= {name: int(port) for name, _, port in (one.partition("=") for one in given.beside)}
        for port in ways.values():  # not counted: connections, caches
            await measure(port, 1, given.pace)
        for callers in [] if given.memory else given.at:
            figures = {name: Figures() for name in ways}
            for _ in range(given.rounds):
                for name, port in ways.items():
                    figures[name].add(*await measure(port, callers, given.pace))
            show(callers, figures)
        if given.requests:
            await remember(rest, services, given.requests)


def show(callers: int, figures: dict[str, Figures]) -> None:
    table = Table("way", "first p50, ms", "added", "first p99, ms", "added", "tokens/s", "ratio", box=None)
    direct = figures[DIRECT].medians()
    for name, one in figures.items():
        p50, p99, rate = one.medians()
        cells = [f"{p50:.1f}", f"{p50 - direct[0]:.1f}", f"{p99:.1f}", f"{p99 - direct[1]:.1f}", f"{rate:.0f}"]
        table.add_row(name, *cells, f"{rate / direct[2]:.2f}")
    console = Console(width=130)
    console.print(f"[bold]{callers} at once")
    console.print(table)


if __name__ == "__main__":
    asyncio.run(main())
