"""What the dispatcher knows of the registry's catalogue without asking."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from aos.dispatcher.catalogue import Catalogue
from aos.errors import ModelNotFound
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.registry_pb2 import UnregisterOperatorRequest
from aos.verification.keys import prove
from tests.dispatcher.conftest import running
from tests.dispatcher.hand import WAIT, an_offer
from tests.dispatcher.test_explain import why


class Counted:
    """The registry's stub, with the names of the calls that were made of it."""

    def __init__(self, stub) -> None:
        self._stub = stub
        self.calls: list[str] = []

    def __getattr__(self, method: str):
        self.calls.append(method)
        return getattr(self._stub, method)


@asynccontextmanager
async def followed(aos, registry=None):
    """A catalogue that has heard the registry."""
    heard = asyncio.Event()
    catalogue = Catalogue(registry or aos.registry, clock=aos.clock, seconds=5)
    catalogue.changed = heard.set
    following = asyncio.create_task(catalogue.follow_forever())
    try:
        async with asyncio.timeout(WAIT):
            await heard.wait()
        yield catalogue
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


@pytest.fixture
async def aos(tmp_path):
    async with running(tmp_path) as harness:
        yield harness


async def unregister(aos, hand) -> None:
    proof = prove(hand.key, "unregister", [], issued_at=int(aos.clock.now().timestamp()) + 1)
    await aos.registry.UnregisterOperator(UnregisterOperatorRequest(proof=proof))


class TestModel:
    async def test_remembered(self, aos):
        """Once the catalogue has come, the registry is not asked for a model that can be used."""
        registry = Counted(aos.registry)
        await aos.operator(an_offer("known"))
        async with followed(aos, registry) as catalogue:
            registry.calls.clear()
            model = await catalogue.model("known")

        assert (model.name, model.routable) == ("known", True)
        assert registry.calls == []

    async def test_new(self, aos):
        """A model that came after the catalogue was read is found, whoever tells of it first."""
        async with followed(aos) as catalogue:
            await aos.operator(an_offer("new"))

            assert (await catalogue.model("new")).routable

    async def test_unknown(self, aos):
        """A model that is not there is refused with those that are."""
        await aos.operator(an_offer("known"))
        async with followed(aos) as catalogue:
            with pytest.raises(ModelNotFound) as raised:
                await catalogue.model("nonesuch")

        assert "known" in raised.value.message

    async def test_not_followed(self, aos):
        """While the registry is not heard it is asked, and nothing is said of operators."""
        hand = await aos.operator(an_offer("known"))
        catalogue = Catalogue(aos.registry, clock=aos.clock, seconds=5)

        assert (await catalogue.model("known")).routable
        assert catalogue.why_not(hand.address) == ""


class TestOperators:
    async def test_unregistered(self, aos):
        """An operator that is attached, but not registered any more, gets no job until it is again; the job says why it waits."""
        await aos.operator(attach=False)  # the model is there, though nobody can run it now
        hand = await aos.operator(an_offer(slots=1))
        failed = await aos.submit("first")
        first = await hand.lease()
        job = await aos.submit("second")
        await unregister(aos, hand)
        told = await aos.eventually(lambda: why(aos, job), lambda said: "unregistered" in said.summary)
        hand.fail(first, "ENGINE_FAILED", retryable=False)
        await aos.until(failed, "FAILED")

        assert hand.address in told.summary
        assert (await aos.job(job)).state == pb.JobState.JOB_STATE_QUEUED
        await hand.register(aos.registry, now=int(aos.clock.now().timestamp()) + 2)
        assert f"jobs/{(await hand.lease()).job.hex()}" == job.name
