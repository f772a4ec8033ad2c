"""Jobs on hosts, and what must be true of each of them whatever happened meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from aos.client import Client
from aos.v1 import broker_pb2
from aos.v1.dispatcher_pb2 import GetJobRequest, Job, JobEvent, JobState
from aos.v1.types_pb2 import Order
from tests.hosts.network import CALL_SECONDS, MODEL, OPERATORS, PATIENCE, Network
from tests.hosts.operate import HALF, TEXT

PROMPT = "What is lost?"
BILL = (len(PROMPT) + 1) + 2 * len(TEXT)
"""What one answer costs: each character is a token, and one ends the prompt."""
REST = TEXT.removeprefix(HALF)
ORDER = Order(model=MODEL, prompt=PROMPT)


async def followed(client: Client, job: Job, after: int = 0) -> list[JobEvent]:
    """Return the job's events behind ``after`` up to its outcome, as a client sees them that goes on where it lost its server."""
    async with asyncio.timeout(2 * PATIENCE):
        return [event async for event in client.watch(job, after)]


async def half(client: Client, job: Job) -> list[JobEvent]:
    """Return the job's events once the first half of its answer is kept."""
    seen: list[JobEvent] = []
    async with asyncio.timeout(PATIENCE):
        async for event in client.watch(job):
            seen.append(event)
            if text(seen) == HALF:
                return seen
    raise AssertionError("the answer was not held")


def text(events: Sequence[JobEvent]) -> str:
    return "".join(event.chunk.text for event in events)


async def hold(network: Network) -> None:
    """Let all answers stop behind their first half."""
    await asyncio.gather(*(network.operators[name].tell("hold") for name in OPERATORS))


async def go(network: Network, *names: str) -> None:
    """Let these operators' answers go on; without names, all of them."""
    await asyncio.gather(*(network.operators[name].tell("go") for name in names or OPERATORS))


async def get(client: Client, job: Job) -> Job:
    return await client.dispatcher.GetJob(GetJobRequest(name=job.name), timeout=CALL_SECONDS)


async def halfway(network: Network, client: Client) -> tuple[Job, list[JobEvent]]:
    """Return a job that has said its first half and is held there, and its events so far."""
    await hold(network)
    job = await client.submit(ORDER)
    seen = await half(client, job)
    return await get(client, job), seen


@asynccontextmanager
async def accounted(network: Network) -> AsyncGenerator[list[Job]]:
    """Take jobs; when the block ends and all is whole, each has ended once, with its text, and was paid once."""
    before, jobs = await network.account(), list[Job]()
    yield jobs
    await network.whole()
    async with network.caller() as client:
        for job in jobs:
            check_log(await followed(client, job))
            assert (await get(client, job)).state == JobState.JOB_STATE_COMPLETED
    after = await network.account()
    assert int(before.available) - int(after.available) == BILL * len(jobs)
    found = await network.admins["broker"].broker.CheckInvariants(broker_pb2.CheckInvariantsRequest(), timeout=CALL_SECONDS)
    assert found.hold, found


def check_log(events: Sequence[JobEvent]) -> None:
    """Raise unless the log has no gap, one outcome, at its end, and every part of the text once."""
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.HasField("outcome") for event in events] == [False] * (len(events) - 1) + [True]
    assert text(events) == events[-1].outcome.text == TEXT
