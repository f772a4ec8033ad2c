"""What a dispatcher's calls cost with few and with many jobs in the store, and while old ones are deleted.

    python -m bench.stored [--sizes 1000 100000 1000000] [--calls 300] [--folder FOLDER]

One network over one SQLite file, in one process with its callers; its model says one word and computes nothing. The file is filled
by the database itself with copies of one finished job: other ids, users and times, every hundredth FAILED, every ten thousandth of
another model. Then the calls are made, one at a time, and printed are the median and the 99th percentile in milliseconds, and the
medians in parts of those with the fewest jobs. At the last size 100 000 jobs are deleted by age, while jobs are submitted: their
p99 stands beside that without. It takes about ten minutes and 4 GB on 2 cores.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table
from sqlite_utils import Database

from aos.clock import SystemClock
from aos.dispatcher.settings import DispatcherSettings
from aos.testing.harness import MODEL, Aos, running_aos
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.types_pb2 import Order, Sampling

COPIED = ("job_requests", "job_outcomes", "job_events", "job_risk", "job_traces", "job_results")
USERS = 1000
RARE = "rare"
PURGED = 100_000
SPACING = 1_000_000
"""Microseconds between the creations of two copies."""
EARLIER = 1 << 41
"""Microseconds between the first of them and now: 25 days."""
Figures = dict[str, tuple[float, float]]


def fill(path: Path, size: int) -> None:
    """Make copies of the first job until there are so many."""
    db = Database(path)
    for pragma in ("synchronous=OFF", "cache_size=-1000000", "foreign_keys=OFF", "temp_store=MEMORY"):
        db.execute(f"PRAGMA {pragma}")
    have, last = db.execute("SELECT count(*), max(number) FROM jobs").fetchone()
    if size > have:
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?) SELECT i FROM n"
        db.execute(f"CREATE TEMP TABLE n AS {numbers}", [size - have])
        _copy(db, "jobs", f"{last} + i")
        for table in COPIED:
            _copy(db, table, f"{last} + i")
        db.execute("DELETE FROM project_kept")
        db.execute("INSERT INTO project_kept SELECT project, count(*) FROM jobs WHERE money = 3 GROUP BY project")
        db.conn.commit()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def _copy(db: Database, table: str, number: str) -> None:
    told = {
        "number": number,
        "id": "lower(hex(randomblob(32)))",
        "request_id": f"'copy ' || ({number})",
        "model": f"CASE WHEN ({number}) % 10000 THEN model ELSE '{RARE}' END",
        "created": f"created - {EARLIER} + ({number}) * {SPACING}",
        "ended": f"ended - {EARLIER} + ({number}) * {SPACING}",
        "user": f"'user ' || (i % {USERS})",
        "enduser": f"'user ' || (i % {USERS})",
    }
    if table == "jobs":
        told["state"] = f"CASE WHEN ({number}) % 100 THEN state ELSE {pb.JOB_STATE_FAILED} END"
    names = [str(name) for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
    columns = ", ".join(told.get(name, name) for name in names)
    db.execute(f"INSERT INTO {table} ({', '.join(names)}) SELECT {columns} FROM n, {table} WHERE number = 1 ORDER BY i")


async def timed(calls: int, call: Callable[[int], Awaitable[object]]) -> tuple[float, float]:
    """The median and the 99th percentile, in milliseconds."""
    took: list[float] = []
    for number in range(calls):
        began = time.perf_counter()
        await call(number)
        took.append(1e3 * (time.perf_counter() - began))
    return statistics.median(took), sorted(took)[int(0.99 * len(took))]


def an_order(number: int) -> pb.CreateJobRequest:
    return pb.CreateJobRequest(order=Order(model=MODEL, prompt=f"hi {number}", sampling=Sampling(max_tokens=4)), user="ann")


async def measure(aos: Aos, calls: int, names: Sequence[str]) -> Figures:
    jobs, made = aos.dispatcher, list[str]()
    at = Timestamp()
    at.FromMicroseconds(int(time.time() * 1e6) - EARLIER + len(names) * SPACING // 2)

    async def submit(number: int) -> None:
        made.append((await jobs.CreateJob(an_order(number))).name)

    async def watch(name: str) -> None:
        async for _ in jobs.WatchJob(pb.WatchJobRequest(name=name)):
            pass

    def listed(**only: object) -> Callable[[int], Awaitable[object]]:
        return lambda _: jobs.ListJobs(pb.ListJobsRequest(page_size=20, **only))  # pyright: ignore[reportArgumentType]

    every = max(1, len(names) // calls)
    figures = {
        "submit": await timed(calls, submit),
        "get": await timed(calls, lambda number: jobs.GetJob(pb.GetJobRequest(name=names[number * every % len(names)]))),
        "watch an ended one": await timed(calls, lambda number: watch(names[number * every % len(names)])),
        "run to its end": await timed(calls, lambda number: run(aos, number)),
        "list": await timed(calls, listed()),
        "list a user's": await timed(calls, listed(user="user 7")),
        "list those FAILED": await timed(calls, listed(states=[pb.JOB_STATE_FAILED])),
        "list a rare model's": await timed(calls, listed(model=RARE)),
        "list from the middle back": await timed(calls, listed(created_before=at)),
    }
    for name in made:
        await aos.client.outcome(name)
    return figures


async def run(aos: Aos, number: int) -> None:
    await aos.client.outcome((await aos.dispatcher.CreateJob(an_order(number))).name)


async def while_purging(aos: Aos, path: Path) -> tuple[tuple[float, float], tuple[float, float], float]:
    """The times of submits without and with a purge, and how many jobs a second went."""
    db = sqlite3.connect(path)
    before = db.execute("SELECT ended FROM jobs WHERE money = 3 ORDER BY ended LIMIT 1 OFFSET ?", [PURGED]).fetchone()
    db.close()
    quiet = await timed(500, lambda number: aos.dispatcher.CreateJob(an_order(number)))
    stamp, gone = Timestamp(), 0
    stamp.FromMicroseconds(before[0])

    async def purge() -> None:
        nonlocal gone
        more = True
        while more:
            told = await aos.admin.dispatcher.PurgeJobs(pb.PurgeJobsRequest(ended_before=stamp, max_jobs=1000))
            gone, more = gone + told.purged, told.more

    began, took = time.perf_counter(), list[float]()
    purging = asyncio.create_task(purge())
    while not purging.done():
        start = time.perf_counter()
        await aos.dispatcher.CreateJob(an_order(0))
        took.append(1e3 * (time.perf_counter() - start))
        await asyncio.sleep(0.005)
    await purging
    return quiet, (statistics.median(took), sorted(took)[int(0.99 * len(took))]), gone / (time.perf_counter() - began)


async def measured(path: Path, size: int, calls: int, console: Console, *, purge: bool) -> Figures:
    settings = DispatcherSettings(project_jobs=100_000, queue_jobs=100_000, kept_jobs=1_000_000_000, retention_seconds=1e9)
    began, large = time.perf_counter(), path.stat().st_size / 1e6  # noqa: ASYNC240  # nothing else runs yet
    async with running_aos(clock=SystemClock(), database=path, dispatcher=settings, balance=10**18) as aos:
        console.print(f"{size} jobs: ready in {time.perf_counter() - began:.1f} s, {large:.0f} MB")
        db = sqlite3.connect(path)
        names = [f"jobs/{identity}" for (identity,) in db.execute("SELECT id FROM jobs ORDER BY number LIMIT ?", [size])]
        db.close()
        figures = await measure(aos, calls, names)
        if purge:
            quiet, busy, rate = await while_purging(aos, path)
            console.print(
                f"submit: {quiet[0]:.2f} ms, p99 {quiet[1]:.2f} ms; while {PURGED} jobs are deleted, {rate:.0f} a second: "
                f"{busy[0]:.2f} ms, p99 {busy[1]:.2f} ms"
            )
        return figures


async def first_job(path: Path) -> None:
    async with running_aos(clock=SystemClock(), database=path, balance=10**18) as aos:
        await run(aos, 0)
        await aos.client.outcome((await aos.dispatcher.CreateJob(an_order(1))).name)
        db = sqlite3.connect(path)
        async with asyncio.timeout(30):
            while db.execute("SELECT money FROM jobs WHERE number = 1").fetchone()[0] != 3:
                await asyncio.sleep(0.1)
        db.close()


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.stored", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 100_000, 1_000_000], metavar="JOBS")
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the file is made; otherwise in a folder that is gone after"
    )
    options = parser.parse_args(arguments)
    console, found = Console(width=160), dict[int, Figures]()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "aos.db"
        asyncio.run(first_job(path))
        for size in sorted(options.sizes):
            began = time.perf_counter()
            fill(path, size)
            console.print(f"filled to {size} in {time.perf_counter() - began:.0f} s")
            last = size == max(options.sizes) and size > PURGED
            found[size] = asyncio.run(measured(path, size, options.calls, console, purge=last))
    table = Table("milliseconds: median, p99", *(f"{size:,} jobs" for size in found), "parts of the fewest", box=None)
    fewest = found[min(found)]
    for call in fewest:
        columns = [f"{figures[call][0]:.2f}  {figures[call][1]:.2f}" for figures in found.values()]
        table.add_row(call, *columns, "  ".join(f"{figures[call][0] / fewest[call][0]:.2f}" for figures in found.values()))
    console.print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
