"""Money off the chain: what admission and settlement cost on SQLite, with 500 jobs running at a time.

``python -m bench.settlement``: each of 500 callers reserves, lets its job run for a time, commits by a signed receipt, and begins
again. Calls go the way the dispatcher's go. Times are those of the callers; `reserve + commit` is what a job adds to both. Neither
waits for the disk: both are on it with what the job itself writes behind them. Processor time is that of all threads.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from aos.broker.node import running_broker
from aos.clock import SystemClock
from aos.rpc.local import LocalChannel
from aos.rpc.server import Service
from aos.serve import a_service
from aos.store.sqlite import sqlite_file
from aos.v1 import broker_pb2 as pb
from aos.v1 import broker_pb2_grpc
from aos.v1.receipt_pb2 import Receipt
from aos.verification.keys import OperatorKey
from aos.verification.receipts import sign
from tests.receipts import a_receipt

CALLERS = 500
JOB_SECONDS = (2.0, 6.0)
"""How long a job runs: the demo model's answers, 8 at a time, take about so long."""
JOBS = 6
"""Of each caller."""
TARGET_MS = 5.0


@dataclass(frozen=True, slots=True)
class Measured:
    """How long each reservation and each commit took, in seconds; jobs settled a second; processor time of one job, in ms."""

    reserved: list[float]
    committed: list[float]
    rate: float
    processor_ms: float


async def measure(path: Path, *, callers: int, jobs: int, seconds: tuple[float, float]) -> Measured:
    """Let so many callers have so many jobs each, of a length in this range."""
    ids, key, rng, clock = count(1), OperatorKey.create(), random.Random(7), SystemClock()
    receipts: list[Receipt] = [sign(a_receipt(job=at.to_bytes(32, "big"), price="7"), key) for at in range(callers * jobs)]
    numbers = iter(range(callers * jobs))
    reserved: list[float] = []
    committed: list[float] = []
    clock = SystemClock()
    async with (
        sqlite_file(path) as file,
        running_broker(file, clock=clock, new_id=lambda: f"t{next(ids)}", jobs_beside=True) as node,
    ):
        service = Service(pb.DESCRIPTOR.services_by_name["Broker"], broker_pb2_grpc.add_BrokerServicer_to_server, node.servicer)
        broker = broker_pb2_grpc.BrokerStub(LocalChannel(service, authenticate=a_service))
        await broker.Deposit(pb.DepositRequest(account="accounts/p", amount=str(10**30), request_id="r"))

        async def caller() -> None:
            await asyncio.sleep(rng.uniform(0, seconds[1]))
            for _ in range(jobs):
                number = next(numbers)
                hold = f"holds/{number:064x}"
                begun = time.perf_counter()
                await broker.Reserve(pb.ReserveRequest(hold=hold, account="accounts/p", amount="100"))
                reserved.append(time.perf_counter() - begun)
                await asyncio.sleep(rng.uniform(*seconds))
                begun = time.perf_counter()
                await broker.Settle(pb.SettleRequest(hold=hold, receipt=receipts[number]))
                committed.append(time.perf_counter() - begun)

        begun, spent = time.perf_counter(), time.process_time()
        await asyncio.gather(*(caller() for _ in range(callers)))
        taken, spent = time.perf_counter() - begun, time.process_time() - spent
        found = await broker.CheckInvariants(pb.CheckInvariantsRequest())
        assert found.hold, found
    return Measured(reserved, committed, callers * jobs / taken, spent / (callers * jobs) * 1000)


def percentile(times: list[float], share: float) -> float:
    """Return the time, in ms, that this share of them does not exceed."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] * 1000


async def main() -> None:
    """Print what is measured."""
    callers, jobs = (50, 2) if "--short" in sys.argv else (CALLERS, JOBS)
    with tempfile.TemporaryDirectory() as folder:
        found = await measure(Path(folder) / "aos.db", callers=callers, jobs=jobs, seconds=JOB_SECONDS)
        both = [one + other for one, other in zip(sorted(found.reserved), sorted(found.committed), strict=True)]
        print(
            f"{callers} jobs at a time, {found.rate:.0f} of them settled a second, each {JOB_SECONDS[0]:g} to {JOB_SECONDS[1]:g} s"
        )
        for name, times in (("reserve", found.reserved), ("commit", found.committed), ("reserve + commit", both)):
            print(f"  {name:<17} p50 {percentile(times, 0.5):6.2f} ms   p99 {percentile(times, 0.99):6.2f} ms")
        print(f"  processor time of both: {found.processor_ms:.2f} ms")
        burst = await measure(Path(folder) / "burst.db", callers=callers, jobs=1, seconds=(0.0, 0.0))
        print(f"all {callers} at once: {burst.rate:.0f} reserved and settled a second")
        print(f"  last reserved after {max(burst.reserved) * 1000:.0f} ms, last commit took {max(burst.committed) * 1000:.0f} ms")
        print(f"target: reserve + commit p99 under {TARGET_MS:g} ms: {percentile(both, 0.99):.2f} ms")


if __name__ == "__main__":
    asyncio.run(main())
