"""What the way to the caller costs: one stream in process, through an operator's own gRPC, through the network's gRPC and REST.

    python -m bench.first_token [--rounds N] [--model FILE]

The same order (temperature 0, the bundled model) is sent in turn by each way, the last three through Envoy, round after round, so
that what else the machine does hits all of them alike. Printed are medians, and ratios to `in process`: the engine alone, in this
process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table

from aos.offered import ModelFile
from aos.operator.engine import Engine
from aos.operator.llama import loaded
from aos.operator.stream import Piece
from aos.order import with_defaults
from aos.rpc.channel import channel
from aos.settings import NetworkSettings, bundled_model
from aos.up import running_network
from aos.v1.dispatcher_pb2 import CreateJobRequest, WatchJobRequest
from aos.v1.dispatcher_pb2_grpc import DispatcherStub
from aos.v1.operator_pb2 import GenerateRequest
from aos.v1.operator_pb2_grpc import OperatorStub
from aos.v1.types_pb2 import Chat, ChatMessage, Order, Sampling

QUESTION = "What is AI?"
MAX_TOKENS = 256
Way = Callable[[], AsyncIterator[str]]


@dataclass
class Runs:
    """What one way took: seconds to the first text, and characters per second after it."""

    first: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


async def measure(way: Way, runs: Runs) -> str:
    begun, first, text = time.perf_counter(), 0.0, []
    async for piece in way():
        if piece:
            first = first or time.perf_counter()
            text.append(piece)
    ended = time.perf_counter()
    runs.first.append(first - begun)
    runs.whole.append(ended - begun)
    if ended > first:
        runs.rate.append(len("".join(text[1:])) / (ended - first))
    return "".join(text)


async def ways(stack: AsyncExitStack, settings: NetworkSettings) -> dict[str, Way]:
    """Start a network and an engine of our own, and return the ways to one answer."""
    enter = stack.enter_async_context
    network = await enter(running_network(settings))
    kept = network.credentials
    engine = await enter(Engine(settings.model_name, await enter(loaded(settings.models[0].path))))
    dispatcher = DispatcherStub(await enter(channel(kept.grpc, kept.token)))
    operator = OperatorStub(await enter(channel(kept.grpc, kept.admin_token)))
    rest = await enter(httpx.AsyncClient(base_url=kept.url, headers={"authorization": f"Bearer {kept.token}"}, timeout=60))
    chat = Chat(messages=[ChatMessage(role="user", content=QUESTION)])
    order = Order(model=settings.model_name, chat=chat, sampling=Sampling(temperature=0, max_tokens=MAX_TOKENS))
    messages = [{"role": "user", "content": QUESTION}]
    body = {"model": order.model, "messages": messages, "temperature": 0, "max_tokens": MAX_TOKENS, "stream": True}

    async def in_process() -> AsyncIterator[str]:
        async for piece in engine.generate(with_defaults(order, job=bytes(32))):
            if isinstance(piece, Piece):
                yield piece.text

    async def operator_grpc() -> AsyncIterator[str]:
        async for event in operator.Generate(GenerateRequest(order=order)):
            yield event.chunk.text

    async def network_grpc() -> AsyncIterator[str]:
        job = await dispatcher.CreateJob(CreateJobRequest(order=order))
        async for event in dispatcher.WatchJob(WatchJobRequest(name=job.name)):
            yield event.chunk.text

    async def network_rest() -> AsyncIterator[str]:
        async with rest.stream("POST", "/v1/chat/completions", json=body) as reply:
            async for line in reply.aiter_lines():
                if line.startswith("data: {"):
                    for choice in json.loads(line[6:])["choices"]:
                        yield choice["delta"].get("content") or ""

    return {
        "in process": in_process,
        "operator, gRPC": operator_grpc,
        "network, gRPC": network_grpc,
        "network, REST": network_rest,
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--model", type=Path, default=bundled_model())
    given = parser.parse_args()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="aos-bench-"))
        found = await ways(stack, NetworkSettings(data=Path(folder), port=0, models=(ModelFile.read(str(given.model)),)))
        runs = {name: Runs() for name in found}
        texts = {await measure(way, Runs()) for way in found.values()}  # not counted: connections, caches
        for _ in track(range(given.rounds), description="rounds", console=Console(stderr=True)):
            for name, way in found.items():
                texts.add(await measure(way, runs[name]))
        if len(texts) != 1:
            raise SystemExit(f"the ways disagree on the answer: {texts}")
    show(runs)


def show(runs: dict[str, Runs]) -> None:
    table = Table("way", "first text, ms", "ratio", "characters/s after it", "ratio", "whole answer, ms", "ratio", box=None)
    base = runs["in process"]
    for name, one in runs.items():
        cells = []
        for values, base_values, scale in ((one.first, base.first, 1e3), (one.rate, base.rate, 1), (one.whole, base.whole, 1e3)):
            median = statistics.median(values)
            cells += [f"{median * scale:.1f}", f"{median / statistics.median(base_values):.2f}"]
        table.add_row(name, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    asyncio.run(main())
