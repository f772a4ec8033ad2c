"""Registered model servers in a whole network: offered, asked, paid, lost, back again, let go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest

from aos.clock import SystemClock
from aos.errors import AnswerBroken, InvalidField, ModelUnavailable
from aos.operator.upstream_settings import UpstreamSettings
from aos.testing.harness import PRICE, Aos, running_aos
from aos.testing.scripted import ScriptedModel
from aos.v1 import registry_pb2 as pb
from aos.v1.dispatcher_pb2 import CancelJobRequest, GetReceiptRequest, Outcome
from aos.v1.types_pb2 import Chat, ChatMessage, Order, Sampling
from aos.verification.receipts import check_bundle
from tests.operator.model_server import (
    STREAM,
    ModelServer,
    chunk,
    delta,
    event,
    model_server,
    replies,
    says,
    sends,
    stops_after,
)

SECONDS = 20
QUICK = UpstreamSettings(probe_seconds=0.2, canary_seconds=30)
MODEL = "m"


@asynccontextmanager
async def network(*models, check_seconds=30.0, **more):
    """Run a network whose operators look at their servers five times a second."""
    quick = replace(QUICK, check_seconds=check_seconds)
    async with running_aos(*models, clock=SystemClock(), open_to_all=True, upstreams=quick, **more) as aos:
        yield aos


async def register(aos: Aos, *servers: ModelServer, model: str = MODEL, project: str = "shop", **changes) -> pb.AiProject:
    """Register the servers, without a key, and wait until all of them are used."""
    replicas = [pb.ReplicaSpec(**({"model": model, "api": one.url} | changes)) for one in servers]
    made = await aos.admin.registry.RegisterProject(pb.RegisterProjectRequest(project=project, replicas=replicas))
    await replica(aos, lambda all_: all(one.state == pb.REPLICA_STATE_HEALTHY for one in all_), project=project)
    if servers:
        await until(aos, lambda found: found.routable, model)
    return made


async def replica(aos: Aos, good: Callable[[list[pb.Replica]], bool], *, project: str = "shop") -> list[pb.Replica]:
    """Return the project's replicas once they are so."""
    async with asyncio.timeout(SECONDS):
        while True:
            found = await aos.admin.registry.GetAiProject(pb.GetAiProjectRequest(name=project))
            if good(list(found.replicas)):
                return list(found.replicas)
            await asyncio.sleep(0.01)


async def until(aos: Aos, good: Callable[[pb.Model], bool], model: str = MODEL) -> pb.Model:
    """Return the model once it is so; one that nobody offers is not routable."""
    async with asyncio.timeout(SECONDS):
        while True:
            found = {one.name: one for one in await aos.client.models()}.get(model, pb.Model())
            if good(found):
                return found
            await asyncio.sleep(0.01)


def chatting(text: str = "What is AI?", model: str = MODEL, **sampling) -> Order:
    return Order(model=model, chat=Chat(messages=[ChatMessage(role="user", content=text)]), sampling=Sampling(**sampling))


async def ask(aos: Aos, order: Order | None = None) -> Outcome:
    async with asyncio.timeout(SECONDS):
        return await aos.client.answer(order or chatting())


async def refused(aos: Aos) -> None:
    """Return once a job for the model is refused because nobody can run it: the dispatcher hears of it after the registry."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                job = await aos.client.submit(chatting())
            except ModelUnavailable:
                return
            await aos.dispatcher.CancelJob(CancelJobRequest(name=job.name))


class TestHosted:
    async def test_just_another_model(self):
        """A registered model is asked as any other: its answer, its usage, its price, what the account pays for it."""
        async with model_server(chat=says("It is ", "mathematics.", counts=(7, 3))) as server, network() as aos:
            await register(aos, server)
            outcome = await ask(aos, chatting(max_tokens=9))

        assert outcome.text == "It is mathematics."
        assert (outcome.usage.prompt_tokens, outcome.usage.completion_tokens) == (7, 3)
        assert outcome.receipt.price == str(7 * int(PRICE.prompt_token) + 3 * int(PRICE.completion_token))
        assert server.chats()[0]["max_tokens"] == 9

    async def test_receipt(self):
        """Its receipt holds, and says whose word it is: the operator's, and nothing that could be run again."""
        async with model_server() as server, network() as aos:
            await register(aos, server)
            job = await aos.client.submit(chatting())
            await aos.client.outcome(job)
            bundle = await aos.dispatcher.GetReceipt(GetReceiptRequest(name=job.name))

        assert bundle.receipt.profile == "upstream/1 usage=stated"
        assert bundle.receipt.state_root == bytes(32)
        findings = list(check_bundle(bundle))
        assert [one for one in findings if one.good is False] == []
        assert [one.what for one in findings if one.good is None] == ["that the model gives this answer, and the counts of tokens"]

    async def test_replica_says_how_it_is(self):
        """A replica shows its state, when it is looked at next, what it can do, and its operator."""
        async with model_server() as server, network() as aos:
            await register(aos, server)
            (one,) = await replica(aos, lambda found: "models" in found[0].capabilities)

            assert one.operator == aos.operators[0].lower()
            assert list(one.capabilities) == ["chat", "stream", "completions", "usage", "models"]
            assert one.next_probe.ToDatetime() > one.checked.ToDatetime()
            assert (await until(aos, lambda found: True)).context_length == 2048

    async def test_caller_leaves(self):
        """A job that is cancelled closes the connection to its server."""
        behave = stops_after(STREAM, chunk(event(delta("It is "))))
        async with model_server() as server, network() as aos:
            await register(aos, server)
            server.chat = behave
            job = await aos.client.submit(chatting())
            while not server.orders():
                await server.until(len(server.asked) + 1)
            await aos.dispatcher.CancelJob(CancelJobRequest(name=job.name))
            await server.orders()[0].gone()

    async def test_refused(self):
        """What the server refuses the caller hears, in the server's words."""
        async with model_server() as server, network() as aos:
            await register(aos, server)
            server.chat = replies("400 Bad Request", {"error": {"message": "too hot", "param": "temperature"}})
            with pytest.raises(InvalidField, match="too hot"):
                await ask(aos)

    async def test_own_name_wins(self):
        """A model that the operator runs itself is not replaced by a server of that name; the replica says why."""
        async with model_server() as server, network(ScriptedModel("My own."), name=MODEL) as aos:
            request = pb.RegisterProjectRequest(project="shop", replicas=[pb.ReplicaSpec(model=MODEL, api=server.url)])
            await aos.admin.registry.RegisterProject(request)
            (one,) = await replica(aos, lambda found: found[0].state == pb.REPLICA_STATE_REFUSED)

            assert one.reason == "this operator runs a model of that name itself"
            assert (await ask(aos)).text == "My own."

    async def test_kinds(self):
        """A model's servers make texts or pictures: what is registered of the other kind is refused, and nothing else is."""
        async with model_server() as server, network() as aos:
            await register(aos, server)
            spec = pb.ReplicaSpec(model=MODEL, api=server.url, kind=pb.MODEL_KIND_IMAGE)
            await aos.admin.registry.RegisterProject(pb.RegisterProjectRequest(project="other", replicas=[spec]))
            (one,) = await replica(aos, lambda found: found[0].state == pb.REPLICA_STATE_REFUSED, project="other")

            assert one.reason == "other servers of this model make texts"
            assert (await ask(aos)).text == "It is mathematics."


class TestLost:
    async def test_killed_and_back(self):
        """A server that is killed gets nothing any more, the reason says so; once it is back, it does."""
        async with model_server() as server, network() as aos:
            await register(aos, server)
            await server.stop()
            model = await until(aos, lambda found: bool(found.reason))
            (one,) = await replica(aos, lambda found: found[0].state == pb.REPLICA_STATE_UNHEALTHY)
            await refused(aos)
            await server.start()
            await until(aos, lambda found: found.routable)

            assert f"unhealthy ({server.url}: nobody takes connections" in model.reason
            assert "nobody takes connections" in one.reason
            assert (await ask(aos)).text == "It is mathematics."

    async def test_another_replica(self):
        """With two servers, no request fails when one is killed: the other one answers."""
        async with model_server() as one, model_server() as other, network() as aos:
            await register(aos, one, other)
            await one.stop()
            answers = await asyncio.gather(*(ask(aos) for _ in range(8)))

        assert {answer.text for answer in answers} == {"It is mathematics."}

    async def test_broken_one(self):
        """A server that fails is passed over for the other one of that model, and no caller hears of it."""
        async with model_server() as one, model_server() as other, network() as aos:
            await register(aos, one, other)
            one.chat = replies("500 Oops")
            answers = [await ask(aos) for _ in range(4)]

        assert {answer.text for answer in answers} == {"It is mathematics."}

    async def test_in_mid_answer(self):
        """An answer that breaks off after text was sent fails, with the text and the reason; nobody begins it anew."""
        async with model_server() as server, network() as aos:
            await register(aos, server)
            server.chat = sends(STREAM, chunk(event(delta("It is "))))
            with pytest.raises(AnswerBroken, match="connection broke"):
                await ask(aos)

            assert len(server.chats()) == 1


class TestLetGo:
    async def test_shorter_list(self):
        """A list without a model takes that model out, and no other."""
        async with model_server() as server, network() as aos:
            specs = [pb.ReplicaSpec(model=name, api=server.url) for name in ("a", "b")]
            for wanted in (specs, specs[:1]):
                await aos.admin.registry.RegisterProject(pb.RegisterProjectRequest(project="shop", replicas=wanted))
                await until(aos, lambda found: found.routable, "a")
            await until(aos, lambda found: not found.routable, "b")

            assert (await ask(aos, chatting(model="a"))).text

    async def test_drained(self):
        """An unregistered project gets no new requests, and the one that runs ends well."""
        go_on = asyncio.Event()

        async def behave(asked) -> None:
            await asked.send(STREAM + chunk(event(delta("It is "))))
            await go_on.wait()
            for one in (delta("mathematics."), delta(reason="stop"), "[DONE]"):
                await asked.send(chunk(event(one)))
            await asked.send(b"0\r\n\r\n")

        async with model_server() as server, network() as aos:
            await register(aos, server)
            server.chat = behave
            job = await aos.client.submit(chatting())
            await server.until(len(server.asked) + 1)
            async with asyncio.timeout(SECONDS):
                while not server.chats():
                    await asyncio.sleep(0.01)
            await replica(aos, lambda found: found[0].running == 1)
            await aos.admin.registry.UnregisterProject(pb.UnregisterProjectRequest(project="shop"))
            await until(aos, lambda found: not found.routable)
            go_on.set()
            async with asyncio.timeout(SECONDS):
                outcome = await aos.client.outcome(job)

        assert outcome.text == "It is mathematics."

    async def test_by_force(self):
        """Unregistered by force, what runs is cut off, and the job says why."""
        async with model_server() as server, network() as aos:
            await register(aos, server)
            server.chat = stops_after(STREAM, chunk(event(delta("It is "))))
            job = await aos.client.submit(chatting())
            async with asyncio.timeout(SECONDS), aclosing(aos.client.watch(job)) as events:
                while (await anext(events)).WhichOneof("event") != "chunk":
                    pass
                await aos.admin.registry.UnregisterProject(pb.UnregisterProjectRequest(project="shop", force=True))
                with pytest.raises(AnswerBroken, match="not registered any more"):
                    await aos.client.outcome(job)
