"""What an operator hosts for whom, and how the network hears of it: a real registry, a dispatcher driven by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import pytest_asyncio

from aos.operator.hosting import Hosting
from aos.operator.offering import Offers
from aos.operator.upstream import upstream_client
from aos.operator.upstream_settings import UpstreamSettings
from aos.v1 import registry_pb2 as pb
from aos.v1.dispatcher_pb2 import OperatorMessage
from aos.v1.types_pb2 import Chat, ChatMessage, Order, Sampling
from aos.verification.keys import OperatorKey
from aos.verification.projects import prove_request
from aos.verification.upstream import name_digest
from tests.operator.dispatching import PRICE, SECONDS, Network, Session, running_network
from tests.operator.model_server import STREAM, ModelServer, chunk, delta, event, model_server, sends, stops_after

SETTINGS = UpstreamSettings(probe_seconds=5, slots=3)


@pytest_asyncio.fixture
async def network(tmp_path, key):
    async with running_network(tmp_path, key) as network:
        yield network


def hosting(network: Network, script, **more):
    return network.attached(script, upstreams=replace(SETTINGS, **more))


async def register(network: Network, key: OperatorKey, *specs: pb.ReplicaSpec, project: str = "shop") -> pb.AiProject:
    """Register the servers, signed by the key, for the network's operator."""
    network.clock.advance(seconds=1)  # a proof is good once
    request = pb.RegisterProjectRequest(project=project, replicas=specs, operator=network.key.address)
    request.proof.CopyFrom(prove_request(key, request, issued_at=int(network.clock.now().timestamp())))
    return await network.registry.RegisterProject(request)


async def end(network: Network, key: OperatorKey, *, project: str = "shop", force: bool = False) -> None:
    network.clock.advance(seconds=1)
    request = pb.UnregisterProjectRequest(project=project, force=force)
    request.proof.CopyFrom(prove_request(key, request, issued_at=int(network.clock.now().timestamp())))
    await network.registry.UnregisterProject(request)


def at(server: ModelServer, model: str = "hosted", **more) -> pb.ReplicaSpec:
    return pb.ReplicaSpec(**({"model": model, "api": server.url} | more))


async def replica(network: Network, state: pb.ReplicaState, *, project: str = "shop") -> pb.Replica:
    """Return the project's one replica, once it is in that state; time passes meanwhile."""
    async with asyncio.timeout(SECONDS):
        while True:
            (one,) = (await network.registry.GetAiProject(pb.GetAiProjectRequest(name=project))).replicas
            if one.state == state:
                return one
            await asyncio.sleep(0.01)


async def said(session: Session, kind: str) -> OperatorMessage:
    """Return the next message of that kind."""
    while (message := await session.hear()) is not None:
        if message.WhichOneof("message") == kind:
            return message
    raise AssertionError("the stream ended")


async def offered(session: Session, *models: str) -> list[pb.Offer]:
    """Return the operator's offers once they are of these models."""
    while True:
        offers = list((await said(session, "offers")).offers.offers)
        if [offer.model for offer in offers] == list(models):
            return offers


@asynccontextmanager
async def time_passes(network: Network) -> AsyncGenerator[None]:
    """Let seconds pass, one after the other, until the block ends."""

    async def pass_() -> None:
        while True:
            network.clock.advance(seconds=1)
            await asyncio.sleep(0.02)

    passing = asyncio.create_task(pass_())
    try:
        yield
    finally:
        passing.cancel()
        await asyncio.gather(passing, return_exceptions=True)


def chatting(model: str = "hosted") -> Order:
    return Order(
        model=model, chat=Chat(messages=[ChatMessage(role="user", content="What is AI?")]), sampling=Sampling(max_tokens=9)
    )


class TestForWhom:
    async def test_own_key(self, network, script):
        """What the operator's own key registered is offered, at its price, for what it is."""
        async with model_server() as server, hosting(network, script) as (_, session):
            await register(network, network.key, at(server))
            own, offer = await offered(session, "m", "hosted")
            info = await network.info()

        assert own.digest == script.digest
        assert (offer.digest, offer.context_length, offer.slots, offer.chat) == (name_digest("hosted").hex(), 2048, 3, True)
        assert offer.price == PRICE
        assert [one.model for one in info.offers] == ["m", "hosted"]
        assert len(info.offers[1].replicas) == 1

    async def test_strangers_key(self, network, script):
        """What another key registered is refused, never called, and says so: it could have this machine call its own ports."""
        stranger = OperatorKey.create()
        async with model_server() as server, hosting(network, script):
            await register(network, stranger, at(server))
            one = await replica(network, pb.REPLICA_STATE_REFUSED)

        assert stranger.address.lower() in one.reason
        assert server.asked == []

    async def test_named_key(self, network, script):
        """A key that the settings name may register servers, too."""
        friend = OperatorKey.create()
        async with model_server() as server, hosting(network, script, owners=(friend.address,)) as (_, session):
            await register(network, friend, at(server))
            await offered(session, "m", "hosted")

    async def test_too_many(self, network, script):
        """Servers beyond the operator's limit are refused; the others are hosted."""
        async with model_server() as server, hosting(network, script, servers=1) as (_, session):
            await register(network, network.key, at(server))
            await offered(session, "m", "hosted")
            await register(network, network.key, at(server, "other"), project="late")
            one = await replica(network, pb.REPLICA_STATE_REFUSED, project="late")

        assert one.reason == "this operator hosts at most 1 servers"


class TestOffers:
    async def test_down_and_up(self, network, script):
        """A server that is dead is not offered to dispatchers, but registered, with the reason; once it is back, it is offered."""
        async with model_server() as server, hosting(network, script) as (_, session):
            await register(network, network.key, at(server))
            await offered(session, "m", "hosted")
            await server.stop()
            async with time_passes(network):
                await offered(session, "m")
                down = await replica(network, pb.REPLICA_STATE_UNHEALTHY)
            registered = [one.model for one in (await network.info()).offers]
            await server.start()
            async with time_passes(network):
                await offered(session, "m", "hosted")

        assert "nobody takes connections" in down.reason
        assert registered == ["m", "hosted"]

    async def test_places(self, network, script):
        """Two servers of a model are one offer with the places of both; with one of them down, with those of the other."""
        async with model_server() as one, model_server() as other, hosting(network, script) as (_, session):
            await register(network, network.key, at(one), at(other))
            while (await offered(session, "m", "hosted"))[1].slots != 6:
                pass
            await other.stop()
            async with time_passes(network):
                while (await offered(session, "m", "hosted"))[1].slots != 3:
                    pass

    async def test_let_go(self, network, script):
        """What is unregistered is neither offered nor registered any more."""
        async with model_server() as server, hosting(network, script) as (_, session):
            await register(network, network.key, at(server))
            await offered(session, "m", "hosted")
            await replica(network, pb.REPLICA_STATE_HEALTHY)
            await end(network, network.key)
            await offered(session, "m")
            async with asyncio.timeout(SECONDS):
                while [one.model for one in (await network.info()).offers] != ["m"]:
                    await asyncio.sleep(0.01)

    async def test_attached_again(self, network, script):
        """A dispatcher that comes back is told at once what there is now."""
        async with model_server() as server, network.operator(script, upstreams=SETTINGS):
            first = await network.dispatcher.session()
            await first.greet()
            await register(network, network.key, at(server))
            await offered(first, "m", "hosted")
            first.end()
            second = await network.dispatcher.session()
            hello = await second.greet()
            second.end()

        assert [offer.model for offer in hello.offers] == ["m", "hosted"]


class TestTelling:
    async def test_nobody_listens(self, network):
        """Whoever cannot be told of one change is told of the next one all the same."""
        calls = list[list[str]]()

        async def told(offers: Offers) -> None:
            calls.append([one.model for one in offers.usable])
            await asyncio.Event().wait()

        how = {"settings": SETTINGS, "own": (), "price": PRICE, "clock": network.clock, "random": lambda: 0.5}
        async with (
            model_server() as server,
            upstream_client() as client,
            Hosting(network.key, network.channel, client, **how) as hosting,
            asyncio.timeout(SECONDS),
        ):
            hosting.start(told)
            await register(network, network.key, at(server))
            while calls != [["hosted"]]:
                await asyncio.sleep(0.01)
            await server.stop()
            async with time_passes(network):
                while calls != [["hosted"], []]:
                    await asyncio.sleep(0.01)


class TestLeases:
    async def lease(self, network: Network, session: Session, server: ModelServer, **more) -> None:
        await register(network, network.key, at(server))
        await offered(session, "m", "hosted")
        session.lease(chatting(), **more)

    async def test_answer(self, network, script):
        """A lease ends with the text, no tokens, and a receipt of them."""
        async with model_server() as server, hosting(network, script) as (_, session):
            await self.lease(network, session, server)
            text, tokens, last = await session.outcome()

        assert (text, tokens, last.WhichOneof("message")) == ("It is mathematics.", [], "finished")
        assert last.finished.finish.receipt.model_digest == name_digest("hosted")

    @pytest.mark.parametrize("more", [{"accepted_text_bytes": 5}, {"accepted": [1, 2]}])
    async def test_begun_elsewhere(self, network, script, more):
        """An answer that another began is not gone on with, and nobody else is to try: the server is not even asked."""
        async with model_server() as server, hosting(network, script) as (_, session):
            await self.lease(network, session, server, **more)
            _, _, last = await session.outcome()

        assert (last.failed.retryable, last.failed.error.metadata["model"]) == (False, "hosted")
        assert "cannot go on" in last.failed.error.message
        assert server.chats("hosted") == []

    async def test_breaks_off(self, network, script):
        """An answer that breaks off after text was sent is not to be tried again; one that never began is."""
        async with model_server() as server, hosting(network, script) as (_, session):
            await self.lease(network, session, server)
            await session.outcome()
            server.chat = sends(STREAM, chunk(event(delta("It is "))))
            session.lease(chatting(), lease="l2")
            text, _, broken = await session.outcome()
            server.chat = sends(STREAM)
            session.lease(chatting(), lease="l3")
            _, _, never = await session.outcome()

        assert (text, broken.failed.retryable, never.failed.retryable) == ("It is ", False, True)

    async def test_stopping(self, network, script):
        """When the operator stops, what runs is given back, and its connection closed."""
        async with model_server() as server:
            async with hosting(network, script) as (_, session):
                await self.lease(network, session, server)
                await session.outcome()
                server.chat = stops_after(STREAM, chunk(event(delta("It is "))))
                session.lease(chatting(), lease="l2")
                await said(session, "chunks")
            async with asyncio.timeout(SECONDS):
                await server.orders("hosted")[-1].gone()
