"""The network against llama.cpp's own server and `llama_cpp.server`: many callers at once, over HTTP and gRPC.

    python -m bench.serving [--sizes 15M 110M 700M] [--at 1 2 4 8 16 32] [--rounds 3] [--threads 1] [--only WAY …]

All serve the same random-weight Q8_0 model with as many slots as there are callers at most, as many threads, and prompts of which
no two begin alike: 64 tokens in, 128 out, greedy. Each server is a process tree of its own and idle while another is measured; the
callers are this process. They are asked in turn, round after round. Printed are medians over the rounds: tokens a second over
all callers, the time to the first text (median and 99th percentile of callers) and the pause between two parts of a text (99th
percentile); ratios are to llama-server. With `--long`, two prompts of 2000 tokens arrive at the same time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from aos.credentials import Credentials
from aos.rpc.channel import channel
from aos.v1.dispatcher_pb2 import CreateJobRequest, WatchJobRequest
from aos.v1.dispatcher_pb2_grpc import DispatcherStub
from aos.v1.operator_pb2 import GenerateRequest
from aos.v1.operator_pb2_grpc import OperatorStub
from aos.v1.types_pb2 import FinishReason, Order, Sampling
from bench.peers import llama_cpp_server, llama_server
from bench.sse import Stream, complete
from bench.weights import SIZES, write

TOKENS_IN = 64
TOKENS_OUT = 128
LONG_IN = 2000
PEER = "llama-server"

Way = Callable[[str, int], Coroutine[Any, Any, Stream]]
"""Given a prompt and how many tokens to draw, gives the stream."""


@dataclass
class Figures:
    """What the rounds of one way gave."""

    rate: list[float] = field(default_factory=list)
    first50: list[float] = field(default_factory=list)
    first99: list[float] = field(default_factory=list)
    gap99: list[float] = field(default_factory=list)

    def add(self, streams: list[Stream], seconds: float) -> None:
        firsts = [one.first for one in streams]
        self.rate.append(len(streams) * TOKENS_OUT / seconds)
        self.first50.append(statistics.median(firsts))
        self.first99.append(_percentile(firsts, 0.99))
        self.gap99.append(_percentile([gap for one in streams for gap in one.gaps], 0.99))

    def medians(self) -> tuple[float, float, float, float]:
        rate, first50, first99, gap99 = (
            statistics.median(values) for values in (self.rate, self.first50, self.first99, self.gap99)
        )
        return rate, first50 * 1e3, first99 * 1e3, gap99 * 1e3


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@asynccontextmanager
async def network(model: Path, *, slots: int, context: int, threads: int) -> AsyncGenerator[Credentials]:
    """Run `aos up` as a process of its own."""
    with tempfile.TemporaryDirectory(prefix="aos-bench-") as data:
        given = (
            "--port",
            0,
            "--data",
            data,
            "--slots",
            slots,
            "--context",
            context,
            "--threads",
            threads,
            "--model",
            model,
            "--json",
        )
        command = [sys.executable, "-m", "aos", "up", *map(str, given)]
        child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            assert child.stdout is not None
            json.loads(await child.stdout.readline())
            yield Credentials.load(Path(data))
        finally:
            child.terminate()
            await child.wait()


async def ways(stack: AsyncExitStack, model: Path, wanted: list[str], *, slots: int, context: int, threads: int) -> dict[str, Way]:
    found: dict[str, Way] = {}
    enter = stack.enter_async_context
    if any(name.startswith("AOS") for name in wanted):
        kept = await enter(network(model, slots=slots, context=context, threads=threads))
        dispatcher = DispatcherStub(await enter(channel(kept.grpc, kept.token)))
        operator = OperatorStub(await enter(channel(kept.grpc, kept.admin_token)))
        port = int(kept.url.rsplit(":", 1)[1])

        async def network_grpc(prompt: str, tokens: int) -> Stream:
            stream = Stream(time.perf_counter())
            job = await dispatcher.CreateJob(CreateJobRequest(order=_order(model.stem, prompt, tokens)))
            async for event in dispatcher.WatchJob(WatchJobRequest(name=job.name)):
                if event.chunk.text:
                    stream.events.append(time.perf_counter())
                if event.WhichOneof("event") == "outcome":
                    stream.finish = _reason(event.outcome.finish_reason)
            return stream

        async def operator_grpc(prompt: str, tokens: int) -> Stream:
            stream = Stream(time.perf_counter())
            async for event in operator.Generate(GenerateRequest(order=_order(model.stem, prompt, tokens))):
                if event.chunk.text:
                    stream.events.append(time.perf_counter())
                if event.WhichOneof("event") == "finish":
                    stream.finish = _reason(event.finish.reason)
            return stream

        async def network_rest(prompt: str, tokens: int) -> Stream:
            return await complete(port, _body(model.stem, prompt, tokens), token=kept.token)

        found |= {"AOS, operator's gRPC": operator_grpc, "AOS, gRPC": network_grpc, "AOS, REST": network_rest}
    if PEER in wanted:
        server = await enter(llama_server(model, slots=slots, context=context, threads=threads))
        found[PEER] = lambda prompt, tokens: complete(server, _body(model.stem, prompt, tokens))
    if "llama_cpp.server" in wanted:
        python = await enter(llama_cpp_server(model, context=context, threads=threads))
        found["llama_cpp.server"] = lambda prompt, tokens: complete(python, _body(model.stem, prompt, tokens))
    return {name: way for name, way in found.items() if name in wanted}


def _order(model: str, prompt: str, tokens: int) -> Order:
    return Order(model=model, prompt=prompt, sampling=Sampling(temperature=0, max_tokens=tokens))


def _body(model: str, prompt: str, tokens: int) -> dict[str, object]:
    return {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0}


def _reason(reason: FinishReason) -> str:
    return "length" if reason == FinishReason.FINISH_REASON_LENGTH else "other"


def prompt(number: int, tokens: int = TOKENS_IN) -> str:
    """Return a prompt of so many tokens, a letter each, that begins as no other."""
    letters = [chr(97 + (number // 26**place) % 26) for place in range(4)]
    return "".join(letters) + "x" * (tokens - len(letters))


async def measure(way: Way, callers: int, first: int, *, long: bool) -> tuple[list[Stream], float]:
    """Let so many callers ask at once; their prompts are numbered from ``first``."""
    begun = time.perf_counter()
    asked = [asyncio.create_task(way(prompt(first + number), TOKENS_OUT)) for number in range(callers)]
    others = [asyncio.create_task(way(prompt(first + callers + number, LONG_IN), 1)) for number in range(2 if long else 0)]
    streams = await asyncio.gather(*asked)
    seconds = time.perf_counter() - begun
    await asyncio.gather(*others)
    if short := [one.finish for one in streams if one.finish != "length"]:
        raise SystemExit(f"answers ended early: {short}")
    return streams, seconds


async def main() -> None:
    names = ["AOS, operator's gRPC", "AOS, gRPC", "AOS, REST", PEER, "llama_cpp.server"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["15M", "110M"])
    parser.add_argument("--at", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--long", action="store_true", help="two prompts of 2000 tokens arrive with the others")
    given = parser.parse_args()
    numbers = iter(range(0, 1 << 20, 64))
    context = (LONG_IN if given.long else TOKENS_IN) + TOKENS_OUT + 16
    for size in given.sizes:
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aos-bench-")))
            model = write(folder, SIZES[size], context)
            slots = max(given.at) + (2 if given.long else 0)
            found = await ways(stack, model, given.only, slots=slots, context=context, threads=given.threads)
            for way in found.values():  # not counted: connections, caches
                await measure(way, 1, next(numbers), long=False)
            for callers in given.at:
                figures = {name: Figures() for name in found}
                for _ in range(given.rounds):
                    for name, way in found.items():
                        figures[name].add(*await measure(way, callers, next(numbers), long=given.long))
                show(size, callers, figures)


def show(size: str, callers: int, figures: dict[str, Figures]) -> None:
    table = Table(
        "way", "tokens/s", "ratio", "first p50, ms", "ratio", "first p99, ms", "ratio", "pause p99, ms", "ratio", box=None
    )
    peer = figures.get(PEER)
    for name, one in figures.items():
        cells: list[str] = []
        for at, value in enumerate(one.medians()):
            cells += [f"{value:.0f}" if at == 0 else f"{value:.1f}", f"{value / peer.medians()[at]:.2f}" if peer else ""]
        table.add_row(name, *cells)
    console = Console(width=130)
    console.print(f"[bold]{size}, {callers} at once")
    console.print(table)


if __name__ == "__main__":
    asyncio.run(main())
