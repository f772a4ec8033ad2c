"""A network under faults: 2000 jobs, while all that it is made of is killed (SIGKILL) at random, and started again.

    python -m bench.chaos [--jobs 2000] [--seconds 1] [--faults N] [--operators 8] [--callers 48] [--seed N] [--keep FOLDER]

PostgreSQL, a registry, a broker, two dispatchers, two gateways, Envoy and the operators are processes of their own, all but the
operators by `aos serve …`; operators say scripted tokens at a pace, so that every answer can be interrupted. Callers ask over gRPC,
REST and chats, and go on where a stream broke. Every ``--seconds`` one kind of part is drawn, and one of that kind killed, unless
``DOWN`` are down at once: then the next has to wait. With ``--faults``, so many are killed, and the jobs are spread over them;
without, faults come until the jobs are done. Printed are the faults survived, and what was found at the end; all of it must be 0,
else the exit status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.faults import books
from bench.faults.callers import Callers, Seen
from bench.faults.network import network
from bench.faults.parts import Part
from tests.postgres_server import PostgresServer, running_postgres

DOWN: Final = 3
"""Most parts that are down at once: a machine that takes seconds to start one is not to be without all."""
BACK_SECONDS: Final = 120.0
"""How long parts may take to be of use again once nothing is killed any more."""
SHOWN: Final = 5
LOOK_SECONDS: Final = 0.1


@dataclass
class Faults:
    """What was killed, by its kind, and after how many seconds it was of use again."""

    seconds: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    away: list[str] = field(default_factory=list[str])
    """What did not come back."""

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(map(len, self.seconds.values()))


@dataclass
class Report:
    """What one run found."""

    seed: int
    took: float
    seen: Seen
    faults: Faults
    moved: int
    """Jobs that more than one operator had."""
    by_itself: dict[str, int]
    findings: dict[str, list[str]]
    """Who breaks what; all of them are to be empty."""

    @property
    def good(self) -> bool:
        """Whether nothing is broken."""
        return not any(self.findings.values())


class Killer:
    """Draws what is killed next, and waits until it is back."""

    def __init__(self, parts: Sequence[Part], drawn: random.Random) -> None:
        self.faults = Faults()
        self._parts, self._drawn = parts, drawn
        self._down: dict[str, asyncio.Task[None]] = {}

    async def run(self, seconds: float, faults: int | None, tickets: asyncio.Semaphore, jobs: int) -> None:
        """Kill one every so many seconds, ``faults`` in all; each lets its share of the jobs begin."""
        done = 0
        while faults is None or done < faults:
            await asyncio.sleep(seconds)
            while len(self._down) >= DOWN:
                await asyncio.sleep(LOOK_SECONDS)
            kinds = sorted({part.kind for part in self._parts if part.name not in self._down})
            kind = self._drawn.choice(kinds)
            part = self._drawn.choice([part for part in self._parts if part.kind == kind and part.name not in self._down])
            self._down[part.name] = task = asyncio.create_task(self._kill(part), name=part.name)
            task.add_done_callback(lambda ended: self._down.pop(ended.get_name()))
            done += 1
            if faults is not None:
                for _ in range(jobs * done // faults - jobs * (done - 1) // faults):
                    tickets.release()

    async def _kill(self, part: Part) -> None:
        self.faults.seconds.setdefault(part.kind, []).append(await part.kill())

    async def back(self) -> None:
        """Return once all parts are of use again, or have had their time."""
        if not self._down:
            return
        names = {task: task.get_name() for task in self._down.values()}
        done, late = await asyncio.wait(names, timeout=BACK_SECONDS)
        self.faults.away = [names[task] for task in late] + [names[task] for task in done if task.exception() is not None]
        for task in late:
            task.cancel()


async def run(
    server: PostgresServer,
    folder: Path,
    *,
    jobs: int,
    faults: int | None = None,
    seconds: float = 1.0,
    operators: int = 8,
    callers: int = 48,
    seed: int,
) -> Report:
    """Run one network on the server under faults, and return what was found. Logs stay in the folder."""
    async with network(folder, server, operators) as running:
        begun, asked = time.monotonic(), Callers(running.address, running.token)
        killer, tickets = Killer(running.parts, random.Random(seed)), asyncio.Semaphore(0)
        killing = asyncio.create_task(killer.run(seconds, faults, tickets, jobs))
        asking = asyncio.create_task(asked.run(jobs, callers, None if faults is None else tickets))
        try:
            # a killer that fails ends it all: no more jobs would begin
            await asyncio.wait((killing, asking), return_when=asyncio.FIRST_COMPLETED)
            if killing.done():
                await killing
            await asking
        finally:
            for task in (killing, asking):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        took = time.monotonic() - begun
        await killer.back()
        found = await books.checked(running.database, running.address, asked.seen.jobs.values())
        findings = {
            **found,
            "streams that neither ended nor went on": asked.seen.stuck,
            "text wrong or doubled": asked.seen.wrong,
            "refused for good": asked.seen.refused,
            "parts that did not come back": killer.faults.away,
        }
        return Report(seed, took, asked.seen, killer.faults, await books.moved(running.database), running.by_itself, findings)


def show(report: Report, console: Console) -> None:
    """Print the tables."""
    seen, faults = report.seen, report.faults
    ways = ", ".join(f"{count} by {way}" for way, count in sorted(seen.ended.items()))
    console.print(f"seed {report.seed}: {seen.ended.total()} jobs answered in {report.took:.0f} s ({ways}), {faults.count} faults;")
    console.print(f"{report.moved} jobs went on with another operator, {seen.resumed} streams behind text that had come already;")
    console.print(f"longest time in which no job ended: {seen.quiet:.1f} s\n")
    table = Table("killed", "times", "back after, s: median", "longest", "ended by itself", box=None)
    for kind, each in sorted(faults.seconds.items()):
        itself = report.by_itself.get(kind, 0)
        table.add_row(kind, str(len(each)), f"{statistics.median(each):.1f}", f"{max(each):.1f}", str(itself) if itself else "")
    console.print(table)
    table = Table("\ncalls made again because of", "\ntimes", box=None)
    for said, times in Counter(seen.troubles).most_common():
        table.add_row(said, str(times))
    console.print(table)
    table = Table("\nfound at the end", "", "", box=None)
    for name, who in report.findings.items():
        table.add_row(name, str(len(who)), "; ".join(who[:SHOWN]))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=1.0, help="from one fault to the next")
    parser.add_argument("--faults", type=int, help="how many; without: until the jobs are done")
    parser.add_argument("--operators", type=int, default=8)
    parser.add_argument("--callers", type=int, default=48)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    parser.add_argument("--keep", type=Path, help="folder where logs stay")
    given = parser.parse_args()
    console = Console(width=150)
    console.print(f"seed {given.seed}")
    with tempfile.TemporaryDirectory(prefix="aos-chaos-") as made, running_postgres("max_connections=300") as server:
        folder = given.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        wanted = {name: getattr(given, name) for name in ("jobs", "faults", "seconds", "operators", "callers", "seed")}
        report = asyncio.run(run(server, folder, **wanted))
        (folder / "postgresql.log").write_bytes((server.folder / "log").read_bytes())
    show(report, console)
    sys.exit(0 if report.good else 1)


if __name__ == "__main__":
    main()
