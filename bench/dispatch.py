"""Jobs that do nothing: how many a second are taken durably, and how many are done, beside Celery with Redis and procrastinate.

    python -m bench.dispatch [--jobs 2000] [--callers 32] [--rounds 3] [--store sqlite|postgresql …] [--folder build/peers]

Each system runs alone, in turn, round after round: its services and its workers in processes of their own, its callers in another.
First all jobs are handed in while nobody works (`taken`: a call returns once the job is on disk; of Redis only as often as its
`appendfsync` says); then the workers begin, and `done` counts until all results are kept. Ours carries for each job a hold on an
account, a signed receipt that is verified, and a settlement; the others carry nothing. Redis and PostgreSQL are Debian's; Celery
and procrastinate are fetched once into the folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from aos.client import Client
from aos.rpc.channel import channel
from aos.v1.types_pb2 import Chat, ChatMessage, Order, Sampling
from bench import noop
from bench.peers import FOLDER

PACKAGES = ("celery[redis]==5.7.0", "procrastinate==3.10.0", "psycopg[binary]==3.3.9")
WORKERS = 2
"""Processes of a Celery worker: the machine's cores."""
CONCURRENT = 16
"""Tasks that a procrastinate worker runs at once."""
DONE_SECONDS = 600.0
LOOK_SECONDS = 0.02


@dataclass
class Round:
    """One run of one system."""

    taken: float
    """Jobs a second."""
    p50: float
    p99: float
    """Milliseconds of one call."""
    done: float
    """Jobs a second."""


@dataclass
class Figures:
    """All runs of one system."""

    rounds: list[Round] = field(default_factory=list)

    def median(self, name: str) -> float:
        """The median over the rounds."""
        return statistics.median(getattr(one, name) for one in self.rounds)


def packages(folder: Path) -> Path:
    """Return a folder with the queues' packages."""
    path = folder / "queues"
    if not path.exists():
        command = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", path, *PACKAGES)
        subprocess.run(command, check=True)
    return path


@asynccontextmanager
async def child(
    *command: str | Path, env: dict[str, str] | None = None, quiet: bool = True
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Run a process until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL if quiet else None,
        env=os.environ | (env or {}),
        limit=1 << 26,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                await process.wait()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def line(process: asyncio.subprocess.Process) -> str:
    """Return the next line that it prints. Raises SystemExit if it ends instead."""
    assert process.stdout is not None
    if not (said := await process.stdout.readline()):
        raise SystemExit(f"a child ended with {await process.wait()}")
    return said.decode()


def figures(took: list[float], done: float) -> Round:
    """Make a round of what a caller's process said: seconds of all, then of each."""
    whole, each = took[0], sorted(took[1:])
    return Round(len(each) / whole, statistics.median(each) * 1e3, each[int(0.99 * len(each))] * 1e3, len(each) / done)


async def until(count: Callable[[], Awaitable[int]], jobs: int) -> float:
    """Return after how many seconds so many are done."""
    begun = time.perf_counter()
    async with asyncio.timeout(DONE_SECONDS):
        while await count() < jobs:
            await asyncio.sleep(LOOK_SECONDS)
    return time.perf_counter() - begun


async def call(address: str, token: str, jobs: int, callers: int) -> list[float]:
    """Hand in so many of our jobs, that many at a time."""
    order = Order(
        model=noop.MODEL,
        chat=Chat(messages=[ChatMessage(role="user", content="x")]),
        sampling=Sampling(max_tokens=2, temperature=0),
    )
    numbers, took = iter(range(jobs)), list[float]()
    async with channel(address, token) as opened:
        client = Client(opened)

        async def caller() -> None:
            for _ in numbers:
                begun = time.perf_counter()
                await client.submit(order)
                took.append(time.perf_counter() - begun)

        begun = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        return [time.perf_counter() - begun, *took]


async def ours(database: str, count: Callable[[], Awaitable[int]], jobs: int, callers: int) -> Round:
    """Run the network on that database."""
    async with child(sys.executable, "-m", "bench.noop", "services", database) as services:
        said = json.loads(await line(services))
        async with child(sys.executable, "-m", "bench.noop", "operator", said["address"]) as operator:
            await line(operator)
            operator.send_signal(signal.SIGSTOP)  # it is known, and does nothing yet
            command = (sys.executable, "-m", "bench.dispatch", "--call", said["address"], said["token"], str(jobs), str(callers))
            async with child(*command, quiet=False) as caller:
                took = json.loads(await line(caller))
            operator.send_signal(signal.SIGCONT)
            return figures(took, await until(count, jobs))


async def on_sqlite(folder: Path, jobs: int, callers: int) -> Round:
    path = folder / "aos.db"

    async def count() -> int:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            return db.execute("SELECT count(*) FROM jobs WHERE money = 3").fetchone()[0]

    return await ours(str(path), count, jobs, callers)


@asynccontextmanager
async def redis(folder: Path, fsync: str) -> AsyncGenerator[Path]:
    """Run a Redis server with an append-only file; gives its socket."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise SystemExit("there is no redis-server; on Debian: apt-get install redis-server")
    socket = folder / "redis"
    given = ("--port", "0", "--unixsocket", socket, "--dir", folder, "--save", "", "--appendonly", "yes", "--appendfsync", fsync)
    async with child(binary, *given) as server:
        async with asyncio.timeout(10):
            while not socket.exists():
                await asyncio.sleep(0.05)
        assert server.returncode is None
        yield socket


async def celery(folder: Path, path: Path, fsync: str, jobs: int, callers: int) -> Round:
    async with redis(folder, fsync) as socket:
        env = {"PYTHONPATH": str(path), "REDIS": f"redis+socket://{socket}"}
        async with child(sys.executable, "-m", "bench.queues.celery_noop", str(jobs), str(callers), env=env, quiet=False) as caller:
            took = json.loads(await line(caller))

        async def count() -> int:
            reader, writer = await asyncio.open_unix_connection(str(socket))
            writer.write(b"DBSIZE\r\n")
            size = int((await reader.readline())[1:])
            writer.close()
            return size

        before = await count()  # queues are keys, too; each result is one more
        app = (
            "bench.queues.celery_noop",
            "worker",
            "--concurrency",
            str(WORKERS),
            "--without-gossip",
            "--without-mingle",
            "-E",
            "-l",
            "error",
        )
        worker = (sys.executable, "-m", "celery", "-A", *app)
        begun = time.perf_counter()
        async with child(*worker, env=env):
            # a worker that is starting counts against nobody: the clock begins with the first result
            await until(count, before + 1)
            started = time.perf_counter() - begun
            del started
            return figures(took, await until(count, jobs))


SYSTEMS = ("aos, SQLite", "Celery, Redis every second", "Celery, Redis always", "procrastinate")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--callers", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--only", nargs="+", default=SYSTEMS)
    parser.add_argument("--call", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.call:
        address, token, jobs, callers = given.call
        print(json.dumps(await call(address, token, int(jobs), int(callers))))
        return
    path = packages(given.folder.absolute())
    found: dict[str, Figures] = {name: Figures() for name in given.only}
    for _ in range(given.rounds):
        for name, all_of in found.items():
            async with AsyncExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aos-bench-")))
                all_of.rounds.append(await run(name, folder, path, given.jobs, given.callers))
    table = Table("", "taken/s", "p50, ms", "p99, ms", "done/s", box=None)
    for name, all_of in found.items():
        table.add_row(
            name, *(f"{all_of.median(one):.{0 if one in ('taken', 'done') else 1}f}" for one in ("taken", "p50", "p99", "done"))
        )
    Console(width=130).print(table)


async def run(name: str, folder: Path, path: Path, jobs: int, callers: int) -> Round:
    """Run one system once."""
    match name:
        case "aos, SQLite":
            return await on_sqlite(folder, jobs, callers)
        case "Celery, Redis every second":
            return await celery(folder, path, "everysec", jobs, callers)
        case "Celery, Redis always":
            return await celery(folder, path, "always", jobs, callers)
        case _:
            raise SystemExit(f"there is no system {name!r}; there are {', '.join(SYSTEMS)}")


if __name__ == "__main__":
    asyncio.run(main())
