"""`aos.connect`: the typed client."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

import aos
from aos.client import LOST_SECONDS, Client, told, watch
from aos.errors import EngineFailed, InvalidField, JobNotFound, ModelNotFound, ServiceUnavailable, Unauthenticated
from aos.rpc.channel import channel
from aos.testing.clock import ManualClock
from aos.v1.dispatcher_pb2 import GetJobRequest
from aos.v1.types_pb2 import Order
from tests.gateway import scripted_network as scripted
from tests.gateway.conftest import Edge, servers


@pytest.fixture
async def edge():
    """A scripted network; the tests start and stop its servers."""
    return Edge(scripted.ScriptedDispatcher(), ManualClock())


def order(model: str = "echo", prompt: str = "What is AI?") -> Order:
    return Order(model=model, prompt=prompt)


class TestConnect:
    async def test_an_answer_in_one_call(self, edge, tmp_path):
        """Submit, wait, and have text, usage and receipt."""
        async with servers(str(tmp_path), edge) as socket, aos.connect(f"unix:{socket}", scripted.TOKEN) as network:
            outcome = await network.answer(order(), user="someone")
        assert outcome.text == "What is AI?"
        assert outcome.receipt.signature
        (job,) = edge.dispatcher.jobs.values()
        assert job.user == "someone"

    async def test_refusals_are_the_servers_classes(self, edge, tmp_path):
        """What a server raises is raised here as the same class, with its facts."""
        async with servers(str(tmp_path), edge) as socket:
            async with aos.connect(f"unix:{socket}", scripted.TOKEN) as network:
                with pytest.raises(ModelNotFound, match="nobody"):
                    await network.submit(order("nobody"))
                with pytest.raises(InvalidField) as caught:
                    await network.submit(order(prompt=""))
                with pytest.raises(EngineFailed, match="could not go on"):
                    await network.answer(order("fails"))
                with pytest.raises(JobNotFound), told():
                    await network.dispatcher.GetJob(GetJobRequest(name="jobs/none"))
            async with aos.connect(f"unix:{socket}", "wrong") as network:
                with pytest.raises(Unauthenticated):
                    await network.submit(order())
        assert caught.value.violations[0].field == "order.prompt"

    async def test_nobody_there_is_an_error_not_a_wait(self, tmp_path):
        """Without a server the first call says so."""
        async with aos.connect(f"unix:{tmp_path}/none", scripted.TOKEN) as network:
            with pytest.raises(ServiceUnavailable):
                await asyncio.wait_for(network.submit(order()), 20)

    async def test_all_models_over_all_pages(self, edge, tmp_path):
        """A list longer than a page is read to its end."""
        async with servers(str(tmp_path), edge) as socket, aos.connect(f"unix:{socket}", scripted.TOKEN) as network:
            assert [model.name for model in await network.models()] == sorted(scripted.MODELS)


class TestWatch:
    async def test_it_begins_behind_any_sequence(self, edge, tmp_path):
        """Events up to the one named are not repeated."""
        async with servers(str(tmp_path), edge) as socket, aos.connect(f"unix:{socket}", scripted.TOKEN) as network:
            job = await network.submit(order())
            assert [event.sequence async for event in network.watch(job, after=2)] == [3, 4]

    async def test_it_goes_on_when_the_server_comes_back(self, edge, tmp_path):
        """A server that restarts in mid-answer costs time, and no event is lost or told twice."""
        clock = ManualClock()
        async with channel(f"unix:{tmp_path}/grpc", scripted.TOKEN) as opened:
            network = Client(opened, clock=clock)
            async with servers(str(tmp_path), edge):
                job = await network.submit(order("silent"))
                edge.dispatcher.say(job.name, "first", " second")
                events = network.watch(job)
                heard = [await anext(events), await anext(events)]
                rest = asyncio.ensure_future(anext(events))
            edge.dispatcher.say(job.name, " third")
            await asyncio.wait_for(clock.until_asleep(), 20)
            async with servers(str(tmp_path), edge), aclosing(events), asyncio.timeout(20):
                while not rest.done():
                    clock.advance(seconds=2)
                    await asyncio.sleep(0.01)
                edge.dispatcher.finish(job.name)
                heard += [await rest, await anext(events)]
        assert [event.sequence for event in heard] == [1, 2, 3, 4]
        assert heard[-1].outcome.text == "first second third"

    async def test_it_gives_up_in_the_end(self, tmp_path):
        """A server that stays away is an error, after the stated time."""
        clock = ManualClock()
        start = clock.now()
        async with channel(f"unix:{tmp_path}/none") as opened:
            events = watch(Client(opened).dispatcher, "jobs/x", clock=clock)
            waiting = asyncio.ensure_future(anext(events))
            async with asyncio.timeout(60):
                while not waiting.done():
                    clock.advance(seconds=2)
                    await asyncio.sleep(0.005)
            with pytest.raises(ServiceUnavailable):
                await waiting
        assert (clock.now() - start).total_seconds() >= LOST_SECONDS / 2

    async def test_a_refusal_is_not_retried(self, edge, tmp_path):
        """Only lost servers are looked for again."""
        async with servers(str(tmp_path), edge) as socket, aos.connect(f"unix:{socket}", scripted.TOKEN) as network:
            with pytest.raises(JobNotFound):
                await anext(network.watch("jobs/none"))
