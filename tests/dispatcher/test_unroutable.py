"""Accepted jobs that nobody can run any more."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from aos.dispatcher.catalogue import Catalogue
from aos.dispatcher.settings import DispatcherSettings
from aos.dispatcher.unroutable import Alone, Unroutable
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.errors_pb2 import ErrorReason
from tests.dispatcher.conftest import BALANCE, running
from tests.dispatcher.hand import an_offer
from tests.dispatcher.jobs import NOW
from tests.dispatcher.test_canaries import OPEN, answer, broken
from tests.dispatcher.test_catalogue import unregister
from tests.dispatcher.test_placement import candidate, wanted

MOST = DispatcherSettings().unroutable_seconds


@pytest_asyncio.fixture
async def aos(tmp_path):
    """A dispatcher whose operators may be silent for long."""
    async with running(tmp_path, heartbeat_seconds=1e6) as harness:
        yield harness


async def ended(aos, job) -> pb.Job:
    return await aos.eventually(lambda: aos.job(job), lambda one: one.HasField("ended"), step=1)


async def passes(aos, job, seconds: float) -> None:
    """Let time pass, second by second, and what happens then happen; the job is not ended by it."""
    for _ in range(int(seconds)):
        aos.clock.advance(seconds=1)
        assert not (await aos.job(job)).HasField("ended")


class TestUnroutable:
    async def test_it_fails_with_the_registrys_reason(self, aos):
        """Once its operator has left, a job waits for a minute and ends FAILED; nothing is held any more."""
        operator = await aos.operator()
        job = await aos.submit()
        operator.say(await operator.lease(), "Well", [1])
        await aos.until(job, "RUNNING")
        await unregister(aos, operator)
        operator.drop()
        await aos.until(job, "QUEUED")
        done = await ended(aos, job)

        assert (done.state, done.outcome.text) == (pb.JOB_STATE_FAILED, "Well")
        assert done.outcome.error.reason == ErrorReason.ERROR_REASON_MODEL_UNAVAILABLE
        assert f"{operator.address} unregistered" in done.outcome.error.metadata["why"]
        waited = done.ended.ToDatetime() - done.created.ToDatetime()
        assert timedelta(seconds=MOST) <= waited <= timedelta(seconds=MOST + 3)
        assert await aos.settles() == BALANCE

    async def test_nobody_is_attached(self, aos):
        """An operator that the registry knows, but that is not there, runs nothing either; the reason says what was seen here."""
        await aos.operator(attach=False)
        done = await ended(aos, await aos.submit())

        assert done.outcome.error.reason == ErrorReason.ERROR_REASON_MODEL_UNAVAILABLE
        assert "no operator was attached" in done.outcome.error.message

    async def test_who_asked_to_wait(self, aos):
        """A job whose caller said how long it may take has all that time."""
        await aos.operator(attach=False)
        job = await aos.submit(timeout=Duration(seconds=300))
        done = await ended(aos, job)

        assert done.state == pb.JOB_STATE_EXPIRED
        assert "no operator was attached" in done.outcome.error.message

    async def test_who_asked_to_wait_and_a_crash(self, aos):
        """It is still known after a crash who waits, and who does not."""
        await aos.operator(attach=False)
        waits, does_not = await aos.submit(timeout=Duration(seconds=300)), await aos.submit()
        await aos.crash()

        assert (await ended(aos, does_not)).state == pb.JOB_STATE_FAILED
        assert (await aos.job(waits)).state == pb.JOB_STATE_QUEUED

    async def test_coming_back(self, aos):
        """An operator that comes in time has the job; the minute begins anew when it goes."""
        operator = await aos.operator(attach=False)
        job = await aos.submit()
        await passes(aos, job, MOST - 5)
        await operator.attach(aos.nobody)
        lease = await operator.lease()
        await passes(aos, job, 3)
        operator.fail(lease, "SHUTTING_DOWN", retryable=True)
        await aos.until(job, "QUEUED")
        operator.drop()
        await passes(aos, job, MOST - 5)
        await operator.attach(aos.nobody)

        assert f"jobs/{(await operator.lease()).job.hex()}" == job.name

    async def test_one_that_does_not_work(self, aos):
        """Jobs wait for the next look at it, and longer: who works again has them."""
        operator = await broken(aos)
        job = await aos.submit()
        aos.clock.advance(seconds=OPEN)
        answer(operator, await operator.lease())

        assert f"jobs/{(await operator.lease()).job.hex()}" == job.name

    async def test_others_go_on(self, aos):
        """Jobs that wait because operators are busy are not touched."""
        operator = await aos.operator(an_offer(slots=1))
        first, waits = await aos.submit("First?"), await aos.submit("Second?")
        lease = await operator.lease()
        await passes(aos, waits, MOST * 2)
        answer(operator, lease)
        await aos.ends(first)

        assert f"jobs/{(await operator.lease()).job.hex()}" == waits.name

    async def test_the_registry_is_not_heard(self, tmp_path):
        """Nothing is ended meanwhile: operators that are not attached may be kept away by that."""
        async with running(tmp_path, unroutable_seconds=0) as aos:
            await aos.operator(attach=False)
            job = await aos.submit()
            unheard = Catalogue(aos.registry, clock=aos.clock, seconds=5)
            settings = replace(aos.settings, unroutable_seconds=MOST)
            queue, log = aos.node._relay._queue, aos.node._log
            one = Unroutable(log, queue, why=unheard.unroutable, settings=settings, clock=aos.clock)
            for _ in range(2):
                await one.end([])
                aos.clock.advance(seconds=MOST * 2)
            assert (await aos.job(job)).state == pb.JOB_STATE_QUEUED
            heard = Unroutable(log, queue, why=lambda _: "", settings=settings, clock=aos.clock)
            for _ in range(2):
                await heard.end([])
                aos.clock.advance(seconds=MOST)
            assert (await aos.job(job)).state == pb.JOB_STATE_FAILED


class TestAlone:
    @pytest.mark.parametrize(
        "one",
        [candidate(model="n"), candidate(model_digest="bb"), candidate(leaving=True), candidate(unlisted="is not registered")],
    )
    def test_who_cannot(self, one):
        """Who could never run it, goes away, or is not registered keeps nobody's job waiting."""
        kind = wanted().kind

        assert Alone().look([kind], [one], NOW) == {kind: NOW}
        assert Alone().look([kind], [one, candidate(running=2, slots=2)], NOW) == {}

    def test_since_when(self):
        """It counts from when nobody was there, and anew after somebody was."""
        alone, kind, later = Alone(), wanted().kind, NOW + timedelta(seconds=5)
        assert alone.look([kind], [], NOW) == alone.look([kind], [], later) == {kind: NOW}
        alone.look([kind], [candidate()], later)

        assert alone.look([kind], [], later) == {kind: later}
