"""A whole network in one file: a job and its money are one thing for all who call it, however many call at once."""

from __future__ import annotations

import asyncio

import grpc

from aos.testing.harness import MODEL, running_aos
from aos.testing.scripted import ScriptedModel
from aos.v1 import broker_pb2
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.types_pb2 import Order, Sampling

TOKENS = 10
COST = (5 + 256) + 2 * TOKENS
"""The most that a job may cost: a prompt of 5 bytes and what a template may add, at 1, and the answer, at 2 neurons a token."""
CALLERS = 40
PAID = 25
"""For so many of them there is money."""


def a_request(request_id: str = "") -> pb.CreateJobRequest:
    order = Order(model=MODEL, prompt="hello", sampling=Sampling(max_tokens=TOKENS))
    return pb.CreateJobRequest(order=order, request_id=request_id)


async def balance(aos) -> tuple[int, int]:
    found = await aos.broker.GetAccount(broker_pb2.GetAccountRequest(name="accounts/-"))
    return int(found.available), int(found.held)


async def books(aos) -> broker_pb2.Invariants:
    return await aos.admin.broker.CheckInvariants(broker_pb2.CheckInvariantsRequest())


class TestTogether:
    async def test_as_many_as_there_is_money_for(self, tmp_path):
        """Of jobs that come at once, as many are accepted as can be paid; the others are told so, and are nowhere."""
        async with running_aos(ScriptedModel("one ", slots=64), database=tmp_path / "aos.db", balance=PAID * COST) as aos:
            aos.model.hold()
            calls = [aos.dispatcher.CreateJob(a_request(str(number))) for number in range(CALLERS)]
            found = await asyncio.gather(*calls, return_exceptions=True)

            accepted = [one for one in found if isinstance(one, pb.Job)]
            refused = [one for one in found if isinstance(one, grpc.aio.AioRpcError)]
            assert (len(accepted), len(refused)) == (PAID, CALLERS - PAID)
            assert {one.code() for one in refused} == {grpc.StatusCode.FAILED_PRECONDITION}
            assert await balance(aos) == (0, PAID * COST)
            assert len((await aos.dispatcher.ListJobs(pb.ListJobsRequest(page_size=100))).jobs) == PAID
            assert (await books(aos)).hold

    async def test_all_is_settled(self, tmp_path):
        """Jobs that end at once are all paid for, each once, and nothing stays held."""
        async with running_aos(ScriptedModel("one ", slots=64), database=tmp_path / "aos.db", balance=CALLERS * COST) as aos:
            jobs = await asyncio.gather(*(aos.dispatcher.CreateJob(a_request()) for _ in range(CALLERS)))
            ended = await asyncio.gather(*(outcome(aos, job) for job in jobs))

            paid = sum(int(one.receipt.price) for one in ended)
            assert paid > 0
            async with asyncio.timeout(30):
                while (await balance(aos))[1]:
                    await asyncio.sleep(0.01)
            assert await balance(aos) == (CALLERS * COST - paid, 0)
            assert (await books(aos)).hold

    async def test_same_request_at_once(self, tmp_path):
        """Callers that send the same request at the same moment get one job between them, held for once."""
        async with running_aos(ScriptedModel("one "), database=tmp_path / "aos.db", balance=CALLERS * COST) as aos:
            jobs = await asyncio.gather(*(aos.dispatcher.CreateJob(a_request("r")) for _ in range(CALLERS)))

            assert len({job.name for job in jobs}) == 1
            assert len((await aos.dispatcher.ListJobs(pb.ListJobsRequest())).jobs) == 1
            entries = (await aos.broker.ListEntries(broker_pb2.ListEntriesRequest(account="accounts/-", page_size=100))).entries
            assert [one.reason for one in entries].count("reserve") == 2


async def outcome(aos, job: pb.Job) -> pb.Outcome:
    async with asyncio.timeout(30):
        async for event in aos.dispatcher.WatchJob(pb.WatchJobRequest(name=job.name)):
            if event.HasField("outcome"):
                return event.outcome
    raise AssertionError("the job has no outcome")
