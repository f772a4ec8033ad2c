"""Connections that say nothing more and never end, as when a machine loses its power; and what else operators do in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest_asyncio

from aos.rpc.channel import channel
from aos.v1 import dispatcher_pb2 as pb
from aos.v1 import dispatcher_pb2_grpc
from tests.dispatcher.checking import TEXT, TOKENS, checking
from tests.dispatcher.hand import WAIT

PIECE = 64 << 10


class Line:
    """Forwards TCP connections to an address, until it is cut; then it keeps them open, reads nothing and says nothing."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._whole = asyncio.Event()
        self._whole.set()
        self._writers: list[asyncio.StreamWriter] = []

    def cut(self) -> None:
        """Forward nothing more."""
        self._whole.clear()

    def mend(self) -> None:
        """Forward again, first what came meanwhile."""
        self._whole.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        beyond_reader, beyond = await asyncio.open_connection(self._host, int(self._port))
        self._writers += [writer, beyond]
        await asyncio.gather(self._forward(reader, beyond), self._forward(beyond_reader, writer))

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(PIECE):
                await self._whole.wait()
                writer.write(piece)
                await writer.drain()

    @asynccontextmanager
    async def standing(self) -> AsyncGenerator[str]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            self.mend()
            for writer in self._writers:
                writer.close()
            server.close()


@pytest_asyncio.fixture
async def aos(tmp_path):
    async with checking(tmp_path) as harness:
        yield harness


@asynccontextmanager
async def line_to(aos) -> AsyncGenerator[tuple[Line, dispatcher_pb2_grpc.DispatcherAsyncStub]]:
    """A line to the dispatcher, and the dispatcher at its other end."""
    line = Line(aos.address)
    async with line.standing() as address, channel(address, "") as opened:
        yield line, dispatcher_pb2_grpc.DispatcherStub(opened)


async def silent_for(aos, seconds: float, *others) -> None:
    """Let so much time pass, in which only the others send heartbeats, and are heard."""
    sessions = aos.node._relay._sessions
    for _ in range(int(seconds / 4)):
        aos.clock.advance(seconds=4)
        for one in others:
            one.heartbeat()
            session = sessions[one.address]
            await aos.eventually(lambda session=session: asyncio.sleep(0, session.heard), lambda at: at == aos.clock.now())


async def left(aos, hand) -> None:
    """Until the dispatcher has given the operator up."""
    await aos.eventually(lambda: asyncio.sleep(0, hand.address in aos.node._relay._sessions), lambda there: not there, step=0.5)


class TestHalfOpen:
    async def test_its_job_goes_elsewhere(self, aos):
        """After missed heartbeats the stream is dropped, though its connection stands; what it says later reaches nobody."""
        lost, other = await aos.many(1, 2)
        async with line_to(aos) as (line, dispatcher):
            await lost.attach(dispatcher)
            job = await aos.submit()
            lease = await lost.lease()
            lost.start(lease)
            await aos.until(job, "RUNNING")
            line.cut()
            lost.say(lease, "Lost.", [9])
            lost.finish(lease, "Lost.", [9])
            await other.attach(aos.nobody)
            await silent_for(aos, 16, other)
            again = await other.lease()
            assert again.job == lease.job
            assert list(again.accepted_tokens) == []
            other.start(again)
            other.say(again, TEXT, TOKENS)
            line.mend()
            await lost.ended()
            other.finish(again, TEXT, TOKENS)
            done = await aos.ends(job)

        assert (done.operator, done.outcome.text, done.attempts) == (other.address, TEXT, 2)
        assert [one.operator for one in await aos.results(job)] == [other.address]

    async def test_it_comes_back_by_another_line(self, aos):
        """The operator's new stream takes the place of the one that hangs, at once, and gets its work again."""
        (hand,) = await aos.many(1)
        async with line_to(aos) as (line, dispatcher):
            await hand.attach(dispatcher)
            job = await aos.submit()
            lease = await hand.lease()
            line.cut()
            async with asyncio.timeout(WAIT):
                await hand.attach(aos.nobody)
            again = await hand.lease()
            hand.start(again)
            hand.say(again, TEXT, TOKENS)
            hand.finish(again, TEXT, TOKENS)

            assert (again.job, again.id != lease.id) == (lease.job, True)
            assert (await aos.ends(job)).state == pb.JOB_STATE_COMPLETED

    async def test_while_it_checks(self, aos):
        """A reviewer whose line hangs is given up, too, and the job's record says so."""
        main, lost = await aos.many(1, 2)
        async with line_to(aos) as (line, dispatcher):
            await main.attach(aos.nobody)
            job = await aos.submit(redundancy=2)
            lease = await main.lease()
            main.start(lease)
            main.say(lease, TEXT, TOKENS)
            await lost.attach(dispatcher)
            main.finish(lease, TEXT, TOKENS)
            lost.send(claimed=lost.claim(await lost.asked()))
            checked = await lost.lease()
            lost.start(checked)
            line.cut()
            lost.finish(checked, TEXT, TOKENS)
            await silent_for(aos, 16, main)
            await left(aos, lost)

            seen = await aos.concluded(job)
            assert seen.verdict == pb.VERDICT_UNCHECKED
            (_, failed) = await aos.results(job)
            assert (failed.operator, failed.reason) == (lost.address, "It did not check the job: it left, or gave it up.")


class TestDisconnectInADraw:
    async def test_one_of_two(self, aos):
        """Who leaves while it is asked costs no time: the other is drawn."""
        main, gone, honest = await aos.many(1, 2, 3)
        await main.attach(aos.nobody)
        job = await aos.answered(main, [gone, honest], redundancy=2)
        await gone.asked()
        gone.drop()
        await honest.review(TEXT, TOKENS)

        assert (await aos.concluded(job)).verdict == pb.VERDICT_CHECKED

    async def test_everyone(self, aos):
        """With nobody left the job is UNCHECKED, and says how many were there."""
        main, *gone = await aos.many(1, 2, 3)
        await main.attach(aos.nobody)
        job = await aos.answered(main, gone, redundancy=2)
        for one in gone:
            await one.asked()
            one.drop()

        seen = await aos.concluded(job)
        assert (seen.verdict, seen.verdict_reason) == (
            pb.VERDICT_UNCHECKED,
            "1 of 2 wanted operators ran it, 0 agree; 1 were there.",
        )

    async def test_the_one_that_answered_the_caller(self, aos):
        """Its answer stands without it, and is checked."""
        main, second = await aos.many(1, 2)
        await main.attach(aos.nobody)
        job = await aos.answered(main, [second], redundancy=2)
        asked = await second.asked()
        main.drop()
        second.send(claimed=second.claim(asked))
        lease = await second.lease()
        second.start(lease)
        second.say(lease, TEXT, TOKENS)
        second.finish(lease, TEXT, TOKENS)

        assert (await aos.concluded(job)).verdict == pb.VERDICT_CHECKED


class TestTwice:
    async def test_claims_and_reviews(self, aos):
        """Of two answers to a draw, and of two to its lease, the first counts; nothing is kept of the other."""
        main, second = await aos.many(1, 2)
        await main.attach(aos.nobody)
        job = await aos.answered(main, [second], redundancy=2)
        claim = second.claim(await second.asked())
        second.send(claimed=claim)
        claim.vrf.random_value = bytes(64)
        second.send(claimed=claim)
        lease = await second.lease()
        second.start(lease)
        second.say(lease, TEXT, TOKENS)
        second.finish(lease, TEXT, TOKENS)
        second.finish(lease, "Other.", [9])

        assert (await aos.concluded(job)).verdict == pb.VERDICT_CHECKED
        assert [one.result for one in await aos.results(job)] == [TEXT, TEXT]
        assert await aos.evidence(by=aos.admin) == []
