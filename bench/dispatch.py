"""Jobs that do nothing: how many a second are taken durably, and how many are done, beside Celery with Redis and procrastinate.

    python -m bench.dispatch [--jobs 2000] [--callers 32] [--rounds 3] [--only SYSTEM …] [--folder build/peers]

Each system runs alone, in turn, round after round: its services and its workers in processes of their own, its callers in another.
First all jobs are handed in while nobody works (`taken`: a call returns once the job is on disk; of Redis only as often as its
`appendfsync` says); then the workers begin, and `done` counts until all results are kept. `cpu` is what a job costs in all of these
processes together, the database's among them, without what they took to start. Ours carries for each job a hold on an account, a
signed receipt that is verified, and a settlement; the others carry nothing. Redis and PostgreSQL are Debian's, PostgreSQL with one
set of settings for all; Celery and procrastinate are fetched once into the folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from aos.client import Client
from aos.rpc.channel import channel
from aos.v1.types_pb2 import Chat, ChatMessage, Order, Sampling
from bench import noop
from bench.peers import FOLDER
from bench.rounds import Asked, Figures, Round, child, cpu_seconds, line, until
from tests.postgres_server import PostgresServer, running_postgres

PACKAGES = ("celery[redis]==5.7.0", "procrastinate==3.10.0", "psycopg[binary]==3.3.9")
WORKERS = 2
"""Processes of workers of Celery and of procrastinate: the machine's cores."""
CONCURRENT = 16
"""Tasks that one procrastinate worker runs at once."""
CONNECTIONS = "max_connections=200"
"""What PostgreSQL is told besides Debian's defaults, which write a commit to disk before it is confirmed."""


def packages(folder: Path) -> Path:
    """Return a folder with the queues' packages."""
    path = folder / "queues"
    if not path.exists():
        command = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", path, *PACKAGES)
        subprocess.run(command, check=True)
    return path


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

        begun, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(caller() for _ in range(callers)))
        return [time.perf_counter() - begun, time.process_time() - cpu, *took]


Count = Callable[[], Awaitable[int]]


async def asked(*command: str | Path, env: dict[str, str] | None = None) -> Asked:
    """Run a caller's process, and return what it says."""
    async with child(sys.executable, "-m", *command, env=env, quiet=False) as caller:
        return Asked.read(json.loads(await line(caller)))


async def ours(database: str, count: Count, jobs: int, callers: int, *beside: int) -> Round:
    """Run the network on that database; ``beside`` are the processes of its server."""
    async with child(sys.executable, "-m", "bench.noop", "services", database) as services:
        said = json.loads(await line(services))
        async with child(sys.executable, "-m", "bench.noop", "operator", said["registry"], said["dispatcher"]) as operator:
            await line(operator)
            operator.send_signal(signal.SIGSTOP)  # it is known, and does nothing yet
            pids = (services.pid, operator.pid, *beside)
            before = cpu_seconds(*pids)
            took = await asked("bench.dispatch", "--call", said["dispatcher"], said["token"], str(jobs), str(callers))
            operator.send_signal(signal.SIGCONT)
            done = await until(count, jobs)
            return took.round(done, cpu_seconds(*pids) - before)


async def on_sqlite(folder: Path, jobs: int, callers: int) -> Round:
    path = folder / "aos.db"

    async def count() -> int:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            return db.execute("SELECT count(*) FROM jobs WHERE money = 3").fetchone()[0]

    return await ours(str(path), count, jobs, callers)


@asynccontextmanager
async def postgres() -> AsyncGenerator[PostgresServer]:
    """Run a PostgreSQL server."""
    server = running_postgres(CONNECTIONS)
    running = await asyncio.to_thread(server.__enter__)
    try:
        yield running
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)


@asynccontextmanager
async def counting(database: str, statement: str) -> AsyncGenerator[Count]:
    """Give what counts rows."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:

        async def count() -> int:
            row = await (await connection.execute(statement.encode())).fetchone()
            return row[0] if row is not None else 0

        yield count


async def on_postgresql(jobs: int, callers: int) -> Round:
    async with postgres() as server:
        database = await asyncio.to_thread(server.fresh)
        async with counting(database, "SELECT count(*) FROM jobs WHERE money = 3") as count:
            return await ours(database, count, jobs, callers, server.pid)


async def procrastinate(path: Path, jobs: int, callers: int) -> Round:
    async with postgres() as server:
        database = await asyncio.to_thread(server.fresh, "template0")
        env, module = {"PYTHONPATH": str(path), "POSTGRES": database}, "bench.queues.procrastinate_noop"
        async with child(sys.executable, "-m", module, "schema", env=env, quiet=False) as making:
            if await making.wait():
                raise SystemExit("procrastinate cannot make its tables")
        async with counting(database, "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'") as count:
            before = cpu_seconds(server.pid)
            took = await asked(module, "submit", str(jobs), str(callers), env=env)
            handed_in = cpu_seconds(server.pid) - before
            return await worked([(module, "worker", str(CONCURRENT))] * WORKERS, env, took, handed_in, count, jobs, server.pid)


async def worked(
    workers: list[tuple[str, ...]], env: dict[str, str], took: Asked, cpu: float, count: Count, jobs: int, server: int
) -> Round:
    """Let the workers, modules with arguments, do what was handed in, which took the server ``cpu`` seconds."""
    none = await count()
    async with AsyncExitStack() as stack:
        running = [await stack.enter_async_context(child(sys.executable, "-m", *one, env=env)) for one in workers]
        # workers that are starting count against nobody: the clock begins with the first result
        await until(count, none + 1)
        first, pids = await count(), (server, *(one.pid for one in running))
        before = cpu_seconds(*pids)
        left = jobs + none - first
        done = await until(count, jobs + none)
        # as if those done before the clock began had been like the others
        return took.round(done * jobs / left, cpu + (cpu_seconds(*pids) - before) * jobs / left)


@asynccontextmanager
async def redis(folder: Path, fsync: str) -> AsyncGenerator[tuple[Path, int]]:
    """Run a Redis server with an append-only file; gives its socket and its process."""
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
        yield socket, server.pid


async def celery(folder: Path, path: Path, fsync: str, jobs: int, callers: int) -> Round:
    async with redis(folder, fsync) as (socket, server):
        env = {"PYTHONPATH": str(path), "REDIS": f"redis+socket://{socket}"}

        async def count() -> int:
            reader, writer = await asyncio.open_unix_connection(str(socket))
            writer.write(b"DBSIZE\r\n")
            size = int((await reader.readline())[1:])
            writer.close()
            return size  # queues are keys, too; each result is one more

        before = cpu_seconds(server)
        took = await asked("bench.queues.celery_noop", str(jobs), str(callers), env=env)
        handed_in = cpu_seconds(server) - before
        alone = ("--without-gossip", "--without-mingle", "-E", "-l", "error")
        worker = ("celery", "-A", "bench.queues.celery_noop", "worker", "--concurrency", str(WORKERS), *alone)
        return await worked([worker], env, took, handed_in, count, jobs, server)


SYSTEMS = ("aos, SQLite", "aos, PostgreSQL", "Celery, Redis every second", "Celery, Redis always", "procrastinate")
PEERS = SYSTEMS[2:]
COLUMNS = {"taken": ("taken/s", 0), "p50": ("p50, ms", 1), "p99": ("p99, ms", 1), "done": ("done/s", 0), "cpu": ("cpu, ms/job", 2)}
BETTER = {"taken": 1, "p99": -1, "done": 1, "cpu": -1}
"""Of what there are ratios, and whether more is better."""


def tables(found: dict[str, Figures]) -> list[Table]:
    """Return the figures, and how far ours are ahead: ratios above 1 are in our favour."""
    figures = Table("", *(title for title, _ in COLUMNS.values()), box=None)
    for name, one in found.items():
        figures.add_row(name, *(f"{one.median(column):.{digits}f}" for column, (_, digits) in COLUMNS.items()))
    ratios = Table("\nratios", "", *(f"\n{name}" for name in BETTER), box=None)
    for name in [one for one in found if one not in PEERS]:
        for peer in PEERS:
            if peer in found:
                each = (found[name].ratio(found[peer], column) ** sign for column, sign in BETTER.items())
                ratios.add_row(name, f"over {peer}", *(f"{one:.2f}" for one in each))
    return [figures, ratios]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--callers", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--only", nargs="+", default=SYSTEMS, choices=SYSTEMS)
    parser.add_argument("--call", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.call:
        address, token, jobs, callers = given.call
        print(json.dumps(await call(address, token, int(jobs), int(callers))))
        return
    path = given.folder.absolute()
    if set(given.only) & set(PEERS):
        path = packages(path)
    found: dict[str, Figures] = {name: Figures() for name in given.only}
    for _ in range(given.rounds):
        for name, all_of in found.items():
            with tempfile.TemporaryDirectory(prefix="aos-bench-") as folder:
                all_of.rounds.append(await run(name, Path(folder), path, given.jobs, given.callers))
    console = Console(width=130)
    for table in tables(found):
        console.print(table)


async def run(name: str, folder: Path, path: Path, jobs: int, callers: int) -> Round:
    """Run one system once."""
    match name:
        case "aos, SQLite":
            return await on_sqlite(folder, jobs, callers)
        case "aos, PostgreSQL":
            return await on_postgresql(jobs, callers)
        case "Celery, Redis every second":
            return await celery(folder, path, "everysec", jobs, callers)
        case "Celery, Redis always":
            return await celery(folder, path, "always", jobs, callers)
        case _:
            return await procrastinate(path, jobs, callers)


if __name__ == "__main__":
    asyncio.run(main())
