"""Many jobs over several dispatchers and real operators, while dispatchers die."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import grpc

from aos.operator.node import running_operator
from aos.rpc.several import several_channels
from aos.testing.scripted import ScriptedModel
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.dispatcher_pb2 import WatchJobRequest
from aos.v1.types_pb2 import Price
from aos.verification.keys import OperatorKey
from tests.dispatcher.conftest import a_request
from tests.dispatcher.several import Fleet, several

JOBS, OPERATORS = 200, 4
KILLS = {60: "a", 130: "b"}
"""Which dispatcher is killed once so many jobs have ended."""
MONEY = 10_000_000


async def submitted(fleet: Fleet, number: int) -> pb.Job:
    """A job that a dispatcher took, whichever is there: a caller that gets no answer asks the next, with the same request_id."""
    while True:
        for one in fleet.running[number % len(fleet.running) :] or fleet.running:
            try:
                return await one.project.CreateJob(a_request(f"Question {number}", request_id=f"r{number}", max_tokens=20))
            except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and not one.link.dead:
                    raise
        await asyncio.sleep(0.01)


async def watched(fleet: Fleet, job: pb.Job, number: int) -> list[pb.JobEvent]:
    """All events, seen at one dispatcher after the other if need be."""
    seen: list[pb.JobEvent] = []
    while not (seen and seen[-1].HasField("outcome")):
        one = fleet.running[number % len(fleet.running)]
        after = seen[-1].sequence if seen else 0
        try:
            async for event in one.project.WatchJob(WatchJobRequest(name=job.name, after_sequence=after)):
                seen.append(event)  # noqa: PERF401  # what came before the stream broke counts
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            if not one.link.dead:
                raise
    return seen


class TestChaos:
    async def test_dispatchers_die(self, tmp_path: Path, database_address: str):
        """Each of 200 jobs ends well and once, its stream whole wherever it is watched, and the money is that of the receipts."""
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            settings = {"max_attempts": 1000, "heartbeat_seconds": 30.0, "unroutable_seconds": 0}
            fleet = await enter(several(tmp_path, database_address, "a", "b", "c", **settings))
            await fleet["a"].deposit(MONEY)
            before = (await fleet["c"].balance())[0]
            for number in range(OPERATORS):
                addresses = [fleet[name].address for name in ("abc"[number % 3 :] + "abc"[: number % 3])]
                dispatcher = await enter(several_channels(addresses))
                operator = running_operator(
                    OperatorKey.create(),
                    {"m": ScriptedModel(lambda prompt: f"{prompt}? Yes.")},
                    registry=fleet.registry_channel,
                    dispatcher=dispatcher,
                    price=Price(prompt_token="1", completion_token="2"),
                    clock=fleet.clock,
                    random=lambda: 0.5,
                    grace=0,
                )
                await asyncio.wait_for((await enter(operator)).attached(), 20)
            ended = 0

            async def turn() -> None:
                while True:
                    fleet.clock.advance(seconds=0.25)
                    await asyncio.sleep(0.02)

            async def one(number: int) -> list[pb.JobEvent]:
                nonlocal ended
                events = await watched(fleet, await submitted(fleet, number), number)
                ended += 1
                if name := KILLS.get(ended):
                    await fleet.kill(name)
                return events

            turning = asyncio.create_task(turn())
            try:
                streams = await asyncio.wait_for(asyncio.gather(*map(one, range(JOBS))), 90)
                assert await fleet["c"].settles() == before - sum(int(events[-1].outcome.receipt.price) for events in streams)
            finally:
                turning.cancel()
                await asyncio.gather(turning, return_exceptions=True)

        for number, events in enumerate(streams):
            assert [event.sequence for event in events] == list(range(1, len(events) + 1))
            assert events[-1].outcome.state == pb.JOB_STATE_COMPLETED
            assert "".join(event.chunk.text for event in events) == events[-1].outcome.text == f"Question {number}? Yes."[:20]
        assert len({events[-1].outcome.receipt.job for events in streams}) == JOBS
