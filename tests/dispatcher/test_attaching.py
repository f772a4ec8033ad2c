"""Attach: who gets in, who is lost, and how a job goes on elsewhere."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from aos.v1 import dispatcher_pb2 as pb
from aos.v1.errors_pb2 import ErrorReason
from aos.verification.keys import OperatorKey
from tests.dispatcher.conftest import BALANCE, running
from tests.dispatcher.hand import WAIT, Hand, an_offer
from tests.refusals import refused


class TestHandshake:
    async def test_challenges_differ(self, aos):
        """Every stream has its own challenge of 32 bytes, under the dispatcher's id."""
        first, second = await aos.operator(attach=False), await aos.operator(attach=False)
        said = []
        for operator in (first, second):
            operator.open(aos.nobody)
            said.append((await operator.read()).challenge)

        assert {len(one.nonce) for one in said} == {32}
        assert said[0].nonce != said[1].nonce
        assert said[0].dispatcher == "dispatchers/1"

    async def test_welcome_says_how_often(self, tmp_path):
        """The welcome says how often a heartbeat is wanted."""
        async with running(tmp_path, heartbeat_seconds=7.5) as aos:
            operator = await aos.operator(attach=False)

            assert (await operator.attach(aos.nobody)).heartbeat_seconds == 7.5

    async def test_another_key(self, aos):
        """An answer signed by another key than the claimed address is refused."""
        operator = await aos.operator(attach=False)

        with refused("BAD_SIGNATURE", code="UNAUTHENTICATED"):
            await operator.attach(aos.nobody, signer=OperatorKey.create())

    async def test_unregistered(self, aos):
        """An operator that the registry does not know is refused."""
        with refused("OPERATOR_NOT_FOUND"):
            await Hand().attach(aos.nobody)

    async def test_lapsed(self, aos):
        """An operator whose registration has lapsed is told to register again."""
        operator = await aos.operator(attach=False)
        aos.clock.advance(seconds=80_001)

        with refused("LEASE_EXPIRED", operator=operator.address):
            await operator.attach(aos.nobody)

    @pytest.mark.parametrize("offers", [[], [an_offer("other")], [an_offer(completion=1)], [an_offer(digest="bb" * 32)]])
    async def test_offers_are_the_registered_ones(self, aos, offers):
        """What an operator offers here is what it registered, to the price."""
        operator = await aos.operator(attach=False)
        operator.offers = offers

        with refused("INVALID_FIELD"):
            await operator.attach(aos.nobody)

    async def test_first_word_is_hello(self, aos):
        """Anything else before the hello ends the stream."""
        operator = await aos.operator(attach=False)
        operator.open(aos.nobody)
        await operator.read()
        operator.heartbeat()

        with refused("INVALID_FIELD", field="message"):
            await operator.read()

    async def test_second_hello(self, aos):
        """A second hello ends the stream."""
        operator = await aos.operator()
        operator.send(hello=pb.Hello())

        with refused("INVALID_FIELD", field="message"):
            await operator.read()

    async def test_several_in_one(self, aos):
        """The welcome says that several messages may come in one, and each counts as if it came by itself."""
        operator = await aos.operator(attach=False)
        welcome = await operator.attach(aos.nobody)
        jobs = [await aos.submit() for _ in range(2)]
        leases = [await operator.lease() for _ in range(2)]
        with operator.at_once():
            for lease in leases:
                operator.start(lease)
                operator.say(lease, "Hi ", [1])
                operator.say(lease, "you.", [2])
                operator.finish(lease, "Hi you.", [1, 2])

        assert welcome.takes_several
        for job in jobs:
            assert "".join(event.chunk.text for event in await aos.watch(job)) == "Hi you."
            assert (await aos.job(job)).state == pb.JOB_STATE_COMPLETED

    @pytest.mark.parametrize(
        "messages",
        [[pb.OperatorMessage(several=pb.OperatorMessages())], [pb.OperatorMessage()], [pb.OperatorMessage(hello=pb.Hello())]],
    )
    async def test_what_is_not_in_several(self, aos, messages):
        """Several messages in one are no further several, no hello and none that is empty."""
        operator = await aos.operator()
        operator.send(several=pb.OperatorMessages(messages=messages))

        with refused("INVALID_FIELD", field="message"):
            await operator.read()

    async def test_too_many_in_one(self, aos):
        """More messages in one than the contract says end the stream."""
        operator = await aos.operator()
        beat = pb.OperatorMessage(heartbeat=pb.Heartbeat())
        operator.send(several=pb.OperatorMessages(messages=[beat] * 1025))

        with refused("INVALID_FIELD", field="several.messages"):
            await operator.read()

    async def test_silence_ends_it(self, aos):
        """Whoever does not answer the challenge in time is refused."""
        operator = await aos.operator(attach=False)
        operator.open(aos.nobody)
        await operator.read()
        asleep = aos.clock.sleepers

        async def refusal():
            with refused("UNAUTHENTICATED", saying="challenge"):
                await operator.read()

        reading = asyncio.create_task(refusal())
        await aos.eventually(lambda: asyncio.sleep(0, reading.done()), bool, step=5)
        await reading
        assert asleep

    async def test_malformed_address(self, aos):
        """A hello without a proper address is refused before any signature is looked at."""
        operator = Hand()
        operator.open(aos.nobody)
        await operator.read()
        operator.send(hello=pb.Hello(operator="me"))

        with refused("INVALID_FIELD", field="hello.operator"):
            await operator.read()


class TestFailOver:
    async def test_goes_on_behind_the_accepted_tokens(self, aos):
        """When an operator dies mid-answer another goes on, and the caller sees one unbroken text, billed once."""
        first = await aos.operator()
        job = await aos.submit()
        lease = await first.lease()
        first.start(lease)
        first.say(lease, "One, ", [1, 2])
        watching = asyncio.create_task(aos.watch(job))
        await aos.until(job, "RUNNING")
        second = await aos.operator()
        first.say(lease, "two, ", [3])
        first.drop()

        again = await second.lease()
        sent = {(): "", (1, 2): "One, ", (1, 2, 3): "One, two, "}[tuple(again.accepted_tokens)]
        rest = "One, two, three."[len(sent) :]
        tokens = [1, 2, 3, 4][len(again.accepted_tokens) :]
        assert again.id != lease.id
        assert again.order == lease.order
        second.start(again)
        second.say(again, rest, tokens)
        second.finish(again, "One, two, three.", [1, 2, 3, 4])

        events = await watching
        assert "".join(event.chunk.text for event in events) == "One, two, three."
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        done = await aos.job(job)
        assert done.state == pb.JOB_STATE_COMPLETED
        assert done.attempts == 2
        assert await aos.settles() == BALANCE - (3 + 4 * 2)
        assert await aos.balance(second.address) == (11, 0)

    async def test_silent_operator(self, aos):
        """An operator that misses three heartbeats loses its leases although its stream still stands."""
        silent = await aos.operator()
        job = await aos.submit()
        lease = await silent.lease()
        other = await aos.operator(attach=False)

        await aos.eventually(lambda: aos.job(job), lambda job: job.state == pb.JOB_STATE_QUEUED, step=5)
        await other.attach(aos.nobody)

        assert (await other.lease()).job == lease.job
        await silent.ended()

    async def test_heartbeats_keep_it(self, aos):
        """An operator that sends heartbeats keeps its lease however long it takes to say something."""
        operator = await aos.operator()
        job = await aos.submit()
        lease = await operator.lease()
        session = aos.node._relay._sessions[operator.address]
        for _ in range(30):
            aos.clock.advance(seconds=5)
            operator.heartbeat()
            await aos.eventually(lambda: asyncio.sleep(0, session.heard), lambda heard: heard == aos.clock.now())
        operator.finish(lease, "", [])

        done = await aos.ends(job)

        assert (done.state, done.attempts) == (pb.JOB_STATE_COMPLETED, 1)

    async def test_late_operator_is_ignored(self, aos):
        """What an operator says about a lease that another has now reaches neither the log nor the outcome."""
        late = await aos.operator(an_offer(slots=8))
        job = await aos.submit()
        lease = await late.lease()
        other = await aos.operator(an_offer(slots=8))
        late.fail(lease, "ENGINE_FAILED", retryable=True)
        again = await other.lease()

        late.say(lease, "Me first!", [9])
        late.say(again, "I have that one, too!", [9])
        late.finish(lease, "Me first!", [9])
        other.say(again, "Mine.", [1])
        other.finish(again, "Mine.", [1])

        done = await aos.ends(job)
        assert (done.outcome.text, done.operator) == ("Mine.", other.address)

    async def test_second_stream_replaces_the_first(self, aos):
        """When an operator attaches again its first stream ends and its leases come back to it over the second."""
        operator = await aos.operator()
        job = await aos.submit()
        lease = await operator.lease()
        same = Hand(key=operator.key)
        await same.attach(aos.nobody)

        await operator.ended()
        again = await same.lease()
        assert (again.job, again.id == lease.id) == (lease.job, False)
        same.finish(again, "", [])
        assert (await aos.ends(job)).state == pb.JOB_STATE_COMPLETED

    async def test_everyone_dies(self, aos):
        """A job whose operators die again and again has FAILED after five, and costs nothing."""
        job_key = OperatorKey.create()
        operator = await aos.operator(key=job_key)
        job = await aos.submit()
        for attempt in range(5):
            await operator.lease()
            operator.drop()
            if attempt < 4:
                await operator.attach(aos.nobody)

        done = await aos.ends(job)

        assert done.outcome.error.reason == ErrorReason.ERROR_REASON_OPERATOR_LOST
        assert await aos.settles() == BALANCE

    async def test_finish_before_the_stream_ends(self, aos):
        """An operator that finishes and leaves at once has finished."""
        operator = await aos.operator()
        job = await aos.submit()
        lease = await operator.lease()
        operator.say(lease, "Bye.", [1])
        operator.finish(lease, "Bye.", [1])
        operator._outbox.put_nowait(None)

        await operator.ended()
        done = await aos.ends(job)

        assert (done.state, done.attempts) == (pb.JOB_STATE_COMPLETED, 1)

    async def test_least_loaded_first(self, aos):
        """Jobs go to the operator with the smallest share of its places taken."""
        big = await aos.operator(an_offer(slots=4))
        small = await aos.operator(an_offer(slots=1))
        for _ in range(5):
            await aos.submit()

        leases = [await big.lease() for _ in range(4)] + [await small.lease()]

        assert len({lease.job for lease in leases}) == 5


class TestDraining:
    async def test_gives_back_and_ends(self, aos):
        """Draining ends operators' streams and watchers, gives running jobs back, and takes no new ones; none is lost."""
        operator = await aos.operator()
        job = await aos.submit()
        await operator.lease()
        watcher = aos.project.WatchJob(pb.WatchJobRequest(name=job.name))
        async with asyncio.timeout(WAIT):
            assert (await watcher.read()).state == pb.JOB_STATE_QUEUED

            await aos.node.drain()

            await operator.ended()
            with refused("SERVICE_UNAVAILABLE", code="UNAVAILABLE"):
                while await watcher.read() is not grpc.aio.EOF:
                    pass
        with refused("SERVICE_UNAVAILABLE"):
            await aos.submit()
        with refused("SERVICE_UNAVAILABLE"):
            await operator.attach(aos.nobody)
        kept = await aos.job(job)
        assert (kept.state, kept.attempts) == (pb.JOB_STATE_QUEUED, 1)

    async def test_lets_running_jobs_end(self, aos):
        """Within the grace a running job ends as if nothing were; draining is over as soon as it has."""
        operator = await aos.operator()
        job = await aos.submit()
        lease = await operator.lease()
        draining = asyncio.create_task(aos.node.drain(1000))
        await aos.clock.until_asleep(3)
        operator.say(lease, "Done.", [1])
        operator.finish(lease, "Done.", [1])

        async with asyncio.timeout(WAIT):
            await draining

        assert (await aos.job(job)).state == pb.JOB_STATE_COMPLETED

    async def test_grace_ends(self, aos):
        """After the grace what still runs is given back."""
        operator = await aos.operator()
        job = await aos.submit()
        await operator.lease()
        draining = asyncio.create_task(aos.node.drain(10))

        await aos.eventually(lambda: asyncio.sleep(0, draining.done()), bool, step=5)

        await draining
        assert (await aos.job(job)).state == pb.JOB_STATE_QUEUED
