"""Many slow streams at once, through one Envoy and one dispatcher.

    python -m bench.streams [--streams 5000] [--rate 2] [--seconds 30] [--database :memory:]

Operators that compute nothing, driven by a clock in a process of their own, give each stream ``--rate`` tokens a second. A token's
text is the time at which it was sent, so that each reader, in another process and over REST with server-sent events, sees how long
it was under way: printed is that delay, median and 99th percentile, while all streams are open; how many streams ended without
every token or without `[DONE]`; and what each process has in memory, in all and a stream. Operators, readers, Envoy and services
share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from aos.rpc.channel import channel
from aos.v1 import dispatcher_pb2 as pb
from aos.v1 import dispatcher_pb2_grpc, registry_pb2_grpc
from aos.v1.operator_pb2 import Chunk
from bench import noop
from bench.gateway import memory
from bench.rounds import child, line
from gateway.envoy.run import EnvoySettings, running_envoy
from tests.dispatcher.hand import Hand, an_offer

LEASES = 1024
"""Of one operator."""
STAMP = 13
"""Characters of a token: milliseconds since 1970."""
OPENED = 50
"""Streams that are opened at a time."""
BEAT_SECONDS = 5.0
TICK_SECONDS = 0.05
BATCH = 256
"""Chunks of one message."""
ANSWER_SECONDS = 300.0


@dataclass
class Given:
    """One lease."""

    lease: pb.Lease
    due: float
    text: list[str] = field(default_factory=list)


async def operate(address: str, operators: int, rate: float) -> None:
    """Run so many operators; each lease gets its tokens one by one, and then its receipt."""
    async with channel(address) as opened, asyncio.TaskGroup() as tasks:
        for _ in range(operators):
            hand, registry = Hand(an_offer(noop.MODEL, slots=LEASES)), registry_pb2_grpc.RegistryStub(opened)
            await hand.register(registry, now=int(time.time()))
            await hand.attach(dispatcher_pb2_grpc.DispatcherStub(opened))
            tasks.create_task(work(hand, registry, rate))
        print("attached", flush=True)


async def work(hand: Hand, registry: registry_pb2_grpc.RegistryAsyncStub, rate: float) -> None:
    leases: dict[str, Given] = {}
    reading = asyncio.create_task(hear(hand, leases, rate))
    beat = time.monotonic()
    while not reading.done():
        await asyncio.sleep(TICK_SECONDS)
        now, stamp = time.monotonic(), f"{int(time.time() * 1e3):0{STAMP}d}"
        said: list[pb.LeaseChunk] = []
        for one in list(leases.values()):
            if one.due > now:
                continue
            if len(one.text) == one.lease.order.sampling.max_tokens:
                del leases[one.lease.id]
                hand.finish(one.lease, "".join(one.text), list(range(len(one.text))))
                continue
            said.append(pb.LeaseChunk(lease=one.lease.id, chunk=Chunk(text=stamp, tokens=[len(one.text)])))
            one.text.append(stamp)
            one.due += 1 / rate
        for at in range(0, len(said), BATCH):
            hand.send(chunks=pb.LeaseChunks(chunks=said[at : at + BATCH]))
        if now - beat > BEAT_SECONDS:
            hand.heartbeat()
            await hand.register(registry, now=int(time.time()))
            beat = now
    reading.result()


async def hear(hand: Hand, leases: dict[str, Given], rate: float) -> None:
    assert hand.call is not None
    while isinstance(message := await hand.call.read(), pb.DispatcherMessage):
        match message.WhichOneof("message"):
            case "lease":
                hand.start(message.lease)
                leases[message.lease.id] = Given(message.lease, time.monotonic() + 1 / rate)
            case "cancel":
                leases.pop(message.cancel.lease, None)
            case _:
                pass


@dataclass
class Readers:
    """What all readers saw."""

    opened: int = 0
    """Streams that have had text."""
    delays: list[tuple[float, float]] = field(default_factory=list)
    """When a token came, and how long it was under way: seconds."""
    ends: Counter[str] = field(default_factory=Counter)


async def read(port: int, token: str, tokens: int, seen: Readers) -> None:
    """Read one stream to its end."""
    body = json.dumps({"model": noop.MODEL, "prompt": "x", "max_tokens": tokens, "temperature": 0, "stream": True}).encode()
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
            head += f"authorization: Bearer {token}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            status = await reader.readline()
            if b" 200 " not in status:
                seen.ends[f"{status.decode().strip()} {(await reader.read())[-200:].decode(errors='replace')}"] += 1
                return
            had = 0
            while said := await reader.readline():
                if said.startswith(b"data: [DONE]"):
                    break
                if said.startswith(b'data: {"error"'):
                    seen.ends[said.decode().strip()] += 1
                if not said.startswith(b"data: ") or not (choices := json.loads(said[6:]).get("choices")):
                    continue
                now, text = time.time(), choices[0].get("text") or ""
                if text and not had:
                    seen.opened += 1
                for at in range(0, len(text), STAMP):
                    seen.delays.append((now, now - int(text[at : at + STAMP]) / 1e3))
                    had += 1
            else:
                seen.ends["no end mark"] += 1
                return
            seen.ends["whole" if had == tokens else f"{had} of {tokens} tokens"] += 1
            writer.close()
    except (OSError, TimeoutError) as error:
        seen.ends[type(error).__name__] += 1


async def readers(port: int, token: str, streams: int, tokens: int) -> None:
    """Open so many streams, a few at a time, and print what they saw."""
    seen, begun = Readers(), time.time()
    async with asyncio.TaskGroup() as tasks:
        for number in range(streams):
            tasks.create_task(read(port, token, tokens, seen))
            if number % OPENED == OPENED - 1:
                async with asyncio.timeout(ANSWER_SECONDS):
                    while seen.opened + seen.ends.total() < number - 2 * OPENED:
                        await asyncio.sleep(0.01)
        opened = time.time()
        async with asyncio.timeout(ANSWER_SECONDS):
            while seen.opened + seen.ends.total() < streams:
                await asyncio.sleep(0.01)
        full = time.time()
        print(json.dumps({"opened": opened - begun, "ended": seen.ends.total()}), flush=True)
    steady = sorted(delay for at, delay in seen.delays if full <= at)
    first = min(at for at, _ in seen.delays if at >= full) if steady else full
    last = max((at for at, _ in seen.delays), default=first)
    print(json.dumps({"ends": seen.ends, "delays": spread(steady), "tokens": len(steady), "seconds": last - first}), flush=True)


def spread(ranked: Sequence[float]) -> tuple[float, float, float]:
    """Median, 99th percentile and maximum, in milliseconds."""
    if not ranked:
        return 0, 0, 0
    return ranked[len(ranked) // 2] * 1e3, ranked[int(0.99 * len(ranked))] * 1e3, ranked[-1] * 1e3


def envoy_of(process: int) -> int:
    """The Envoy that this process started."""
    children = map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())
    return next(one for one in children if re.search(rb"envoy", Path(f"/proc/{one}/cmdline").read_bytes()))


def cpu(process: int) -> float:
    """Seconds of CPU time that a process has used."""
    parts = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / 100


async def measure(streams: int, rate: float, seconds: float, database: str) -> None:
    tokens = max(1, int(rate * seconds))
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        services = await enter(child(sys.executable, "-m", "bench.noop", "services", database, quiet=False))
        said = json.loads(await line(services))
        operators = -(-streams // LEASES) + 1
        given = ("--operate", said["dispatcher"], str(operators), str(rate))
        operator = await enter(child(sys.executable, "-m", "bench.streams", *given, quiet=False))
        await line(operator)
        log = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aos-bench-"))) / "envoy.log"
        upstream = said["dispatcher"].removeprefix("unix:")
        port = await enter(
            running_envoy(EnvoySettings(port=0, upstream=upstream, operator=upstream, drain_seconds=0, log_path=log))
        )
        processes = {"services": services.pid, "Envoy": envoy_of(os.getpid())}
        before = {name: (memory(pid), cpu(pid)) for name, pid in processes.items()}
        begun = time.perf_counter()
        given = ("--read", str(port), said["token"], str(streams), str(tokens))
        reader = await enter(child(sys.executable, "-m", "bench.streams", *given, quiet=False))
        opened = json.loads(await line(reader))
        during = {name: (memory(pid), cpu(pid)) for name, pid in processes.items()}
        told = json.loads(await line(reader))
        console, table = Console(width=130), Table("", "MiB idle", "MiB with all open", "KiB a stream", "CPU, s", box=None)
        for name, pid in processes.items():
            more = during[name][0] - before[name][0]
            used = cpu(pid) - before[name][1]
            sizes = f"{before[name][0]:.0f}", f"{during[name][0]:.0f}", f"{more * 1024 / streams:.1f}"
            table.add_row(name, *sizes, f"{used:.0f}")
        steady = f"{told['tokens']} tokens while all were open, in {told['seconds']:.1f} s"
        console.print(f"{streams} streams, opened in {opened['opened']:.1f} s; {steady}")
        p50, p99, worst = told["delays"]
        console.print(f"a token was under way {p50:.0f} ms (median), {p99:.0f} ms (99th percentile), {worst:.0f} ms at most")
        console.print(f"ends: {told['ends']}, after {time.perf_counter() - begun:.0f} s in all")
        console.print(table)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--database", default=":memory:")
    parser.add_argument("--operate", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--read", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.operate:
        address, operators, rate = given.operate
        await operate(address, int(operators), float(rate))
    elif given.read:
        port, token, streams, tokens = given.read
        await readers(int(port), token, int(streams), int(tokens))
    else:
        await measure(given.streams, given.rate, given.seconds, given.database)


if __name__ == "__main__":
    asyncio.run(main())
