"""What a job costs the services, in one process: seconds of CPU by thread, transactions, commits, statements, turns of the loop.

    python -m bench.job_cost [--way grpc chat] [--at 1 8 64] [--jobs 300] [--pieces 1] [--pace 0] [--profile FILE]

An operator that computes nothing answers each job with 16 tokens (bench/idle_operator.py, a process of its own), and the callers
are a process of their own, too: `grpc` creates a job and watches it, `chat` asks the gateway for a streamed chat as Envoy does. CPU
is measured in runs in which nothing is counted, by thread, from /proc; a further run with each number of
callers counts. Counts are robust on a busy machine, jobs a second are not, and even seconds of CPU are longer there: `spins` is how
often the same million steps of Python could have been made in a job's, measured before and after each run. `--profile FILE` writes
what the loop's thread does at 8 callers, by cProfile, to be read with pstats.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import sys
import tempfile
import threading
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from google.api.httpbody_pb2 import HttpBody
from rich.console import Console
from rich.table import Table

from aos import loop
from aos.clock import SystemClock
from aos.registry.settings import RegistrySettings
from aos.rpc.channel import channel
from aos.rpc.local import LocalChannel
from aos.serve import running_services
from aos.store import sqlite
from aos.v1 import broker_pb2, broker_pb2_grpc, dispatcher_pb2, dispatcher_pb2_grpc
from aos.v1.types_pb2 import Order, Sampling
from bench.idle_operator import MODEL
from gateway.v1 import models_pb2_grpc

ADMIN_TOKEN = "bench"  # guards a network that lives for one run
PROJECT = "bench"
LEASE_SECONDS = 3600.0
WARM = 50
SPIN = 1_000_000
PROFILED_CALLERS = 8


class Callers:
    """Callers in a process of their own."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def run(self, way: str, callers: int, jobs: int) -> dict[str, float]:
        """Let so many callers make so many jobs together, one behind the other each; returns their figures."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{way} {callers} {jobs}\n".encode())
        return json.loads(await self._process.stdout.readline())


@asynccontextmanager
async def child(*command: str) -> AsyncGenerator[Process]:
    """Run a module of this package; it says a line when it is ready."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", *command, stdin=PIPE, stdout=PIPE)
    try:
        assert process.stdout is not None
        if not await process.stdout.readline():
            raise SystemExit(f"{command} did not start")
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def call(address: str, token: str) -> None:
    """Make jobs as standard input says, a line a run, and print what they took."""
    metadata = (("authorization", f"Bearer {token}"),)
    async with channel(address) as opened:
        dispatcher, models = dispatcher_pb2_grpc.DispatcherStub(opened), models_pb2_grpc.ModelsStub(opened)
        order = Order(model=MODEL, prompt="What is AI?", sampling=Sampling(max_tokens=16))
        body = {"model": MODEL, "messages": [{"role": "user", "content": "What is AI?"}], "max_tokens": 16, "stream": True}
        chat = HttpBody(content_type="application/json", data=json.dumps(body).encode())

        async def grpc_job() -> float:
            begun, first = time.perf_counter(), 0.0
            job = await dispatcher.CreateJob(dispatcher_pb2.CreateJobRequest(order=order), metadata=metadata)
            async for event in dispatcher.WatchJob(dispatcher_pb2.WatchJobRequest(name=job.name), metadata=metadata):
                first = first or (time.perf_counter() - begun if event.HasField("chunk") else 0.0)
                if event.HasField("outcome") and event.outcome.HasField("error"):
                    raise SystemExit(f"a job failed: {event.outcome.error.message}")
            return first

        async def chat_job() -> float:
            begun, first, last = time.perf_counter(), 0.0, b""
            async for part in models.CreateChatCompletion(chat, metadata=metadata):
                first, last = first or time.perf_counter() - begun, part.data
            if not last.endswith(b"data: [DONE]\n\n") or b'"error"' in last:
                raise SystemExit(f"a chat failed: {last!r}")
            return first

        ways: dict[str, Callable[[], Any]] = {"grpc": grpc_job, "chat": chat_job}
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            way, callers, jobs = line.split()
            left, firsts = iter(range(int(jobs))), list[float]()

            async def caller() -> None:
                for _ in left:  # noqa: B023  # all callers of a run take from it
                    firsts.append(await ways[way]())  # noqa: B023

            begun = time.perf_counter()
            await asyncio.gather(*(caller() for _ in range(int(callers))))
            seconds = time.perf_counter() - begun
            print(json.dumps({"rate": len(firsts) / seconds, "first": sorted(firsts)[len(firsts) // 2] * 1e3}), flush=True)


def spin() -> float:
    """Return the seconds of CPU that a fixed piece of work takes now."""
    begun = time.thread_time()
    total = 0
    for number in range(SPIN):
        total += number & 3
    return time.thread_time() - begun


def threads() -> dict[str, int]:
    """Nanoseconds of CPU of each kind of thread of this process until now."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    spent = Counter[str]()
    for task in Path("/proc/self/task").iterdir():
        kind = names.get(int(task.name), "")
        pool = "pool" if kind.startswith(("asyncio", "ThreadPoolExecutor")) else "others"
        kind = {"MainThread": "loop", "aos-sqlite": "sqlite"}.get(kind, pool)
        try:
            spent[kind] += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:  # it has just ended
            continue
    return spent


@asynccontextmanager
async def counting(counts: Counter[str]) -> AsyncGenerator[None]:
    """Count what happens in this process until the block ends."""
    kept: list[tuple[Any, str, Any]] = []

    def count(owner: Any, name: str, what: str, how_many: Callable[..., int] = lambda *_, **__: 1) -> None:
        original = getattr(owner, name)
        kept.append((owner, name, original))

        def counted(*args: Any, **more: Any) -> Any:
            counts[what] += how_many(*args, **more)
            return original(*args, **more)

        setattr(owner, name, counted)

    count(sqlite.SqliteFile, "transact", "transactions")
    count(sqlite.SqliteFile, "_group", "commits")
    count(sqlite.SqliteTransaction, "execute", "statements")
    count(asyncio.Handle, "_run", "callbacks")
    count(asyncio.to_thread.__globals__["events"], "get_running_loop", "loops looked up")
    count(asyncio.base_events.BaseEventLoop, "create_task", "tasks")
    count(asyncio.base_events.BaseEventLoop, "run_in_executor", "to threads")
    count(LocalChannel, "_handler", "local calls")
    try:
        yield
    finally:
        for owner, name, original in kept:
            setattr(owner, name, original)


async def measure(given: argparse.Namespace) -> None:
    rows: list[tuple[str, ...]] = []
    counts: dict[str, Counter[str]] = {}
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aos-bench-")))
        registry = RegistrySettings(lease=LEASE_SECONDS)
        services = await enter(
            running_services(folder / "aos.db", admin_token=ADMIN_TOKEN, clock=SystemClock(), registry=registry, grace=0)
        )
        token = await project(services.address)
        await enter(child("bench.idle_operator", services.address, str(given.pieces), str(given.pace)))
        callers = Callers(await enter(child("bench.job_cost", f"--call={services.address} {token}")))
        loop.settled()
        for way in given.way:
            await callers.run(way, 1, WARM)
            for at in given.at:
                spun = spin()
                before, spent = threads(), time.process_time()
                found = await callers.run(way, at, given.jobs)
                spent, after = (time.process_time() - spent) / given.jobs * 1e3, threads()
                spins = spent / 1e3 / (spun + spin()) * 2
                kinds = [f"{(after.get(kind, 0) - before.get(kind, 0)) / given.jobs / 1e6:.2f}" for kind in KINDS]
                rows.append((way, str(at), f"{spins:.3f}", f"{spent:.2f}", *kinds, f"{found['rate']:.0f}", f"{found['first']:.1f}"))
                counts[f"{way} {at}"] = counted = Counter[str]()
                async with counting(counted):
                    await callers.run(way, at, given.jobs)
            if given.profile is not None:
                profile = cProfile.Profile(time.thread_time)
                profile.enable()
                await callers.run(way, PROFILED_CALLERS, given.jobs)
                profile.disable()
                profile.dump_stats(given.profile)
    show(rows, counts, given.jobs)


KINDS = ("loop", "sqlite", "pool", "others")


async def project(address: str) -> str:
    """Make a project with money; returns its token."""
    async with channel(address, ADMIN_TOKEN) as admin:
        made = await dispatcher_pb2_grpc.DispatcherStub(admin).CreateProject(
            dispatcher_pb2.CreateProjectRequest(project_id=PROJECT)
        )
        limits = dispatcher_pb2.SetProjectLimitsRequest(name=f"projects/{PROJECT}")
        limits.limits.requests_per_minute = 10**6
        limits.limits.tokens_per_day = 10**12
        await dispatcher_pb2_grpc.DispatcherStub(admin).SetProjectLimits(limits)
        deposit = broker_pb2.DepositRequest(account=f"accounts/{PROJECT}", amount=str(10**18), request_id="welcome")
        await broker_pb2_grpc.BrokerStub(admin).Deposit(deposit)
    return made.token


def show(rows: list[tuple[str, ...]], counts: dict[str, Counter[str]], jobs: int) -> None:
    console = Console(width=130)
    table = Table("way", "callers", "spins a job", "CPU ms a job", *KINDS, "jobs/s", "first text p50, ms", box=None)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    names = sorted({name for one in counts.values() for name in one})
    if names:
        table = Table("of a job", *names, box=None)
        for run, counted in counts.items():
            table.add_row(run, *(f"{counted[name] / jobs:.1f}" for name in names))
        console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", nargs="+", choices=["grpc", "chat"], default=["grpc", "chat"])
    parser.add_argument("--at", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--pieces", type=int, default=1, help="of an answer's 16 tokens")
    parser.add_argument("--pace", type=float, default=0, help="milliseconds between them")
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--call", type=str.split, help=argparse.SUPPRESS)
    given = parser.parse_args()
    work = call(*given.call) if given.call else measure(given)
    loop.serve(work)


if __name__ == "__main__":
    main()
