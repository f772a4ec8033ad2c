"""One run of a job queue measured: its processes, what its callers took, when all was done, and the CPU that it cost."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

DONE_SECONDS = 600.0
LOOK_SECONDS = 0.05
TICKS = os.sysconf("SC_CLK_TCK")


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
    cpu: float
    """Milliseconds of CPU for a job: of servers, workers and the caller, without what they took to start."""


@dataclass
class Figures:
    """All runs of one system."""

    rounds: list[Round] = field(default_factory=list[Round])

    def median(self, name: str) -> float:
        """The median over the rounds."""
        return statistics.median(getattr(one, name) for one in self.rounds)

    def ratio(self, other: Figures, name: str) -> float:
        """The median over the rounds of how much more this one has, round by round."""
        pairs = zip(self.rounds, other.rounds, strict=True)
        return statistics.median(getattr(one, name) / getattr(peer, name) for one, peer in pairs)


@dataclass
class Asked:
    """What a caller's process said: how long all calls took together, its CPU for them, how long each took; in seconds."""

    whole: float
    cpu: float
    each: list[float]

    @classmethod
    def read(cls, said: list[float]) -> Asked:
        """Return what the list says, in this order."""
        return cls(said[0], said[1], sorted(said[2:]))

    def round(self, done: float, cpu: float) -> Round:
        """Make a round of it; ``done`` is how many seconds the workers took, ``cpu`` how many all but the caller had."""
        jobs = len(self.each)
        p50, p99 = statistics.median(self.each) * 1e3, self.each[int(0.99 * jobs)] * 1e3
        return Round(jobs / self.whole, p50, p99, jobs / done, (self.cpu + cpu) / jobs * 1e3)


def cpu_seconds(*pids: int) -> float:
    """Return the CPU time of processes and all below them so far, those that have ended among them."""
    below, own = defaultdict[int, list[int]](list), dict[int, float]()
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with suppress(OSError):  # it is gone
                found = (path / "stat").read_text().rpartition(")")[2].split()
                below[int(found[1])].append(int(path.name))
                own[int(path.name)] = sum(map(int, found[11:15])) / TICKS
    wanted, total = list(pids), 0.0
    while wanted:
        pid = wanted.pop()
        total += own.get(pid, 0.0)
        wanted += below[pid]
    return total


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


async def until(count: Callable[[], Awaitable[int]], jobs: int) -> float:
    """Return after how many seconds so many are done."""
    begun = time.perf_counter()
    async with asyncio.timeout(DONE_SECONDS):
        while await count() < jobs:
            await asyncio.sleep(LOOK_SECONDS)
    return time.perf_counter() - begun
