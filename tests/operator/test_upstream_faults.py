"""Model servers that misbehave: what each does ends in a fault that says so, in time, and never in half an answer taken for one."""

from __future__ import annotations

import asyncio

import pytest

from aos.errors import AnswerBroken
from aos.operator.probing import Prober
from aos.operator.upstream import Fault, TookTooLong
from aos.operator.upstream_events import EVENT_BYTES
from aos.operator.upstream_group import Group, Member
from aos.operator.upstream_settings import UpstreamSettings
from aos.settings import NetworkSettings
from aos.testing.clock import ManualClock
from tests.operator.model_server import (
    STREAM,
    Asked,
    chunk,
    delta,
    event,
    model_server,
    replies,
    sends,
    stops_after,
    streams,
    usage,
)
from tests.operator.test_upstream import chatting, upstream, whole

GZIP = "content-encoding: gzip\r\n"
BAD = {
    "nothing of a stream": (streams(), "without an answer"),
    "an empty 200": (replies("200 OK"), "not a stream"),
    "no choices": (streams({"choices": []}), "without an answer"),
    "half a stream": (streams(delta("It is "), done=False), "ends in mid-answer"),
    "a stream that is cut": (sends(STREAM, chunk(event(delta("It is ")))), "connection broke"),
    "a done without an end": (streams(delta("It is ")), "ends in mid-answer"),
    "no JSON": (streams('{"choices": ['), "no JSON object"),
    "a list": (streams([1]), "no JSON object"),
    "JSON too deep": (streams('{"choices":' + "[" * 100_000), "no JSON object"),
    "a number too long": (streams('{"choices":' + "9" * 5000 + "}"), "no JSON object"),
    "no UTF-8": (sends(STREAM, chunk(b"data: \xff\n\n")), "no UTF-8"),
    "choices that are none": (streams({"choices": "x"}), "no list of choices"),
    "text that is none": (streams(delta(reason="stop") | {"choices": [{"delta": {"content": 5}}]}), "no string"),
    "another answer": (streams({"choices": [{"index": 1, "delta": {"content": "x"}}]}), "more than the one answer"),
    "text behind the end": (streams(delta(reason="stop"), delta("x")), "behind the answer's end"),
    "an end for no reason": (streams(delta("x", reason="content_filter")), "content_filter"),
    "calls of tools": (streams({"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]}), "tools that nobody offered"),
    "usage that is none": (streams(delta("x", reason="stop"), usage(-1, "2")), "no two counts"),
    "an error in the stream": (streams({"error": {"message": "out of memory"}}), "out of memory"),
    "a code in the stream": (streams({"code": 1007, "message": "model error"}), "model error"),
    "JSON instead of a stream": (replies("200 OK", {"choices": [{"message": {"content": "x"}}]}), "application/json"),
    "an error as a 200": (replies("200 OK", {"code": 1001, "message": "bad luck"}), "bad luck"),
    "a page": (replies("200 OK", "<html>", kind="text/html"), "text/html"),
    "packed": (replies("200 OK", "x", more=GZIP, kind="text/event-stream"), "packed"),
    "a redirect": (replies("307 Temporary Redirect", more="location: http://169.254.169.254/\r\n"), "307"),
    "no place": (replies("404 Not Found", {"detail": "no such model"}), "no such model"),
    "no key": (replies("401 Unauthorized"), "401"),
    "broken": (replies("500 Oops", {"error": "CUDA error"}), "CUDA error"),
    "not ready": (replies("503 Loading"), "503"),
    "no HTTP": (sends(b"SSH-2.0-x\r\n"), "connection broke"),
    "an event without end": (sends(STREAM, chunk(b"data: " + b"x" * (EVENT_BYTES + 1))), "has more than"),
    "headers without end": (sends(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000), "connection broke"),
}


class TestFaults:
    @pytest.mark.parametrize("what", BAD)
    async def test_its_own_fault(self, what):
        """It is the server's fault, and the fault says what was wrong."""
        behave, why = BAD[what]
        async with model_server(chat=behave) as server, upstream(server) as one:
            with pytest.raises(Fault) as caught:
                await whole(one, chatting())

            assert why in caught.value.problem
            assert one.running == 0

    async def test_too_much(self):
        """Text without end is cut off where no answer of that many tokens can be."""
        forever = streams(*[delta("x" * 100_000)] * 20, done=False)
        async with model_server(chat=forever) as server, upstream(server) as one:
            with pytest.raises(Fault, match="more than was asked for"):
                await whole(one, chatting(max_tokens=10))

    async def test_words_of_a_server(self):
        """Of what a server says of its failure, so much is repeated, and nothing that a terminal would obey."""
        said = {"error": {"message": "\x1b[31m" + "x" * 5000}}
        async with model_server(chat=replies("500 Oops", said)) as server, upstream(server) as one:
            with pytest.raises(Fault) as caught:
                await whole(one, chatting())

        assert "\x1b" not in caught.value.problem
        assert len(caught.value.problem) < 600


class TestSlow:
    async def test_silent_before(self):
        """A server that takes the request and says nothing is left after its time."""
        async with model_server(chat=stops_after()) as server, upstream(server, first_seconds=0.05) as one:
            with pytest.raises(TookTooLong):
                await whole(one, chatting())

    async def test_headers_letter_by_letter(self):
        """Headers that drip in count as one wait, however short the pauses."""
        async with model_server(chat=drips(b"HTTP/1.1 200 OK\r\nx: ")) as server, upstream(server, first_seconds=0.2) as one:
            with pytest.raises(TookTooLong):
                await whole(one, chatting())

    async def test_silent_within(self):
        """A server that stops in mid-answer is left after its time."""
        behave = stops_after(STREAM, chunk(event(delta("It is "))))
        async with model_server(chat=behave) as server, upstream(server, idle_seconds=0.05) as one:
            with pytest.raises(TookTooLong):
                await whole(one, chatting())
            await server.asked[0].gone()

    async def test_comments_for_ever(self):
        """Comments keep a connection open, but an answer that says nothing else is left after its time."""
        async with model_server(chat=drips(STREAM, chunk(b": ping\n\n"))) as server, upstream(server, silent_seconds=0.2) as one:
            with pytest.raises(TookTooLong):
                await whole(one, chatting())

    async def test_comments_for_a_while(self):
        """A server that reads a long input and sends comments meanwhile is waited for longer than it may be idle."""

        async def behave(asked: Asked) -> None:
            await asked.send(STREAM)
            for _ in range(20):
                await asked.send(chunk(b": ping\n\n"))
                await asyncio.sleep(0.02)
            for one in (delta("x", reason="stop"), "[DONE]"):
                await asked.send(chunk(event(one)))
            await asked.send(b"0\r\n\r\n")

        async with model_server(chat=behave) as server, upstream(server, idle_seconds=0.3) as one:
            pieces, _ = await whole(one, chatting())

        assert pieces == ["x"]


def drips(first: bytes, again: bytes = b"x"):
    async def behave(asked: Asked) -> None:
        await asked.send(first)
        while not asked.left.is_set():
            await asked.send(again)
            await asyncio.sleep(0.005)

    return behave


class TestOthers:
    """Several servers of one model."""

    async def group(self, *upstreams) -> Group:
        settings, clock = UpstreamSettings(), ManualClock()
        members = []
        for number, one in enumerate(upstreams):
            prober = Prober(one, settings=settings, clock=clock, random=lambda: 0.0, changed=lambda: None)
            looking = asyncio.create_task(prober.run())
            async with asyncio.timeout(10):
                await clock.until_asleep()
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            members.append(Member(str(number), one, prober))
        return Group("m", members)

    async def test_next_one(self):
        """Where one server fails before it has said anything, the next one answers, and the caller sees nothing of it."""
        async with model_server() as bad, model_server() as good, upstream(bad) as first, upstream(good) as second:
            group = await self.group(first, second)
            bad.chat = replies("500 Oops")
            pieces, _ = await whole(group, chatting())

            assert pieces == ["It is ", "mathematics."]
            assert (len(bad.chats()), len(good.chats())) == (1, 1)
            assert group.members[0].prober.health.reason == "it answers 500: it gave no reason"

    async def test_busy_one(self):
        """A server that is busy is passed over, and nothing is held against it."""
        async with model_server() as busy, model_server() as free, upstream(busy) as first, upstream(free) as second:
            group = await self.group(first, second)
            busy.chat = replies("429 Busy")
            await whole(group, chatting())

            assert group.members[0].prober.health.reason == ""

    async def test_callers_fault(self):
        """What the caller did wrong is not tried again elsewhere, and not held against the server."""
        async with model_server() as one, model_server() as other, upstream(one) as first, upstream(other) as second:
            group = await self.group(first, second)
            one.chat = other.chat = replies("400 Bad", {"error": {"message": "no"}})
            with pytest.raises(Exception, match="refuses it: no"):
                await whole(group, chatting())

            assert len(one.chats()) + len(other.chats()) == 1
            assert [member.prober.health.faults for member in group.members] == [0, 0]

    async def test_in_mid_answer(self):
        """An answer that breaks off after some of it was sent is not begun again: it fails, and says why."""
        async with model_server() as bad, model_server() as good, upstream(bad) as first, upstream(good) as second:
            group = await self.group(first, second)
            bad.chat = sends(STREAM, chunk(event(delta("It is "))))
            with pytest.raises(AnswerBroken, match="connection broke"):
                await whole(group, chatting())

            assert good.chats() == []

    async def test_least_busy(self):
        """An order goes to the server with the fewest requests."""
        async with model_server() as one, model_server() as other, upstream(one) as first, upstream(other) as second:
            group = await self.group(first, second)
            first.running = 2
            await whole(group, chatting())

            assert (len(one.chats()), len(other.chats())) == (0, 1)

    async def test_none_left(self):
        """Without a server that may be used, the order fails at once."""
        with pytest.raises(Fault, match="none of its servers"):
            await whole(Group("m"), chatting())


def test_settings_that_cannot_be():
    """A limit of nothing is refused, and the refusal names it."""
    with pytest.raises(ValueError, match="slots"):
        UpstreamSettings(slots=0)
    with pytest.raises(ValueError, match="host-for"):
        NetworkSettings(host_for=("0x1",))
