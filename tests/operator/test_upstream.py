"""A registered model server as a backend: what it is asked, and how its answers come."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager

import pytest

from aos.addresses import read_networks
from aos.errors import ContextOverflow, Deadline, InvalidField, ModelUnsuitable, QueueFull
from aos.operator.upstream import Answered, open_upstream, upstream_client
from aos.operator.upstream_settings import UpstreamSettings
from aos.order import with_defaults
from aos.v1.types_pb2 import (
    FINISH_REASON_LENGTH,
    FINISH_REASON_STOP,
    TOOL_CHOICE_REQUIRED,
    Chat,
    ChatMessage,
    Constraint,
    Order,
    Sampling,
    Tool,
    ToolCall,
)
from tests.operator.model_server import (
    STREAM,
    Asked,
    chunk,
    delta,
    event,
    model_server,
    replies,
    says,
    stops_after,
    streams,
    usage,
)

SECONDS = 10


def chatting(text: str = "What is AI?", **sampling) -> Order:
    order = Order(model="m", chat=Chat(messages=[ChatMessage(role="user", content=text)]), sampling=Sampling(**sampling))
    return with_defaults(order, job=bytes(32))


@asynccontextmanager
async def upstream(server, **settings):
    async with upstream_client() as client:
        yield await open_upstream(client, "m", server.url, UpstreamSettings(**settings))


async def whole(one, order: Order, **more) -> tuple[list[str], Answered]:
    """Return the pieces of an answer and its end."""
    pieces = []
    async with asyncio.timeout(SECONDS), aclosing(one.generate(order, **more)) as said:
        async for each in said:
            if isinstance(each, Answered):
                return pieces, each
            pieces.append(each)
    raise AssertionError("the answer has no end")


class TestWhatIsAsked:
    async def test_chat(self):
        """A conversation and its sampling parameters are OpenAI's request, streamed, with usage."""
        order = chatting(temperature=0.5, top_p=0.9, max_tokens=20, seed=5, stop=["!"], top_k=40, repetition_penalty=1.1)
        order.sampling.logit_bias[3] = -1.0
        async with model_server() as server, upstream(server) as one:
            await whole(one, order)

        asked = server.asked[0]
        assert (asked.method, asked.path) == ("POST", "/v1/chat/completions")
        assert asked.headers["host"] == f"127.0.0.1:{server.port}"
        assert asked.body == {
            "model": "m",
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": [{"role": "user", "content": "What is AI?"}],
            "temperature": 0.5,
            "top_p": 0.9,
            "max_tokens": 20,
            "seed": 5,
            "stop": ["!"],
            "top_k": 40,
            "repetition_penalty": 1.1,
            "repeat_penalty": 1.1,
            "logit_bias": {"3": -1.0},
        }

    async def test_what_does_nothing_is_left_out(self):
        """Parameters at values that do nothing are not sent: some servers refuse them."""
        async with model_server() as server, upstream(server) as one:
            await whole(one, chatting(top_p=1, top_k=0, max_tokens=5))

        assert {"top_p", "top_k", "stop", "logit_bias"}.isdisjoint(server.asked[0].body)

    async def test_tools_and_their_calls(self):
        """Tools, earlier calls and their results are passed on as they are."""
        chat = Chat(
            messages=[
                ChatMessage(role="assistant", tool_calls=[ToolCall(id="c1", name="add", arguments='{"a":1}')]),
                ChatMessage(role="tool", content="2", tool_call_id="c1"),
            ],
            tools=[Tool(name="add", description="Adds.", parameters='{"type":"object"}')],
            tool_choice=TOOL_CHOICE_REQUIRED,
            tool_name="add",
            single_tool_call=True,
        )
        async with model_server() as server, upstream(server) as one:
            await whole(one, with_defaults(Order(model="m", chat=chat), job=bytes(32)))

        body = server.asked[0].body
        function = {"name": "add", "arguments": '{"a":1}'}
        assert body["messages"] == [
            {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
            {"role": "tool", "content": "2", "tool_call_id": "c1"},
        ]
        tool = {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}
        assert body["tools"] == [{"type": "function", "function": tool}]
        assert body["tool_choice"] == {"type": "function", "function": {"name": "add"}}
        assert body["parallel_tool_calls"] is False

    async def test_form(self):
        """A JSON schema becomes a response_format."""
        order = chatting()
        order.constraint.json_schema = '{"type":"object"}'
        async with model_server() as server, upstream(server) as one:
            await whole(one, order)

        assert server.asked[0].body["response_format"]["json_schema"]["schema"] == {"type": "object"}

    async def test_completions(self):
        """A bare prompt goes to the place for completions, beside that for chats."""
        events = [
            {"choices": [{"index": 0, "text": "4", "finish_reason": None}]},
            {"choices": [{"text": "", "finish_reason": "length"}]},
        ]
        order = with_defaults(Order(model="m", prompt="2 + 2 ="), job=bytes(32))
        async with model_server(completions=streams(*events, usage(5, 1))) as server, upstream(server) as one:
            pieces, end = await whole(one, order)

        assert (server.asked[0].path, server.asked[0].body["prompt"]) == ("/v1/completions", "2 + 2 =")
        assert (pieces, end.reason, end.prompt_tokens, end.completion_tokens) == (["4"], FINISH_REASON_LENGTH, 5, 1)

    @pytest.mark.parametrize(
        ("change", "needs"),
        [
            (Order(sampling=Sampling(logprobs=True)), "log-probabilities"),
            (Order(constraint=Constraint(regex="a+")), "regex"),
            (Order(constraint=Constraint(gbnf='root ::= "a"')), "gbnf"),
        ],
    )
    async def test_what_no_server_is_asked(self, change, needs):
        """What such servers have no word for is refused, and nothing is asked."""
        order = chatting()
        order.MergeFrom(change)
        async with model_server() as server, upstream(server) as one:
            with pytest.raises(ModelUnsuitable, match=needs):
                await whole(one, order)

        assert server.asked == []


class TestAnswers:
    async def test_each_piece_at_once(self):
        """A piece is handed over when it comes, not when the next one does or the answer ends."""
        first = asyncio.Event()

        async def behave(asked: Asked) -> None:
            await asked.send(STREAM + chunk(event(delta("It is "))))
            await first.wait()  # until the reader has it
            await streams_on(asked)

        async def streams_on(asked: Asked) -> None:
            for one in (delta("mathematics."), delta(reason="stop"), usage(7, 2), "[DONE]"):
                await asked.send(chunk(event(one)))
            await asked.send(b"0\r\n\r\n")

        pieces = []
        async with model_server(chat=behave) as server, upstream(server) as one, asyncio.timeout(SECONDS):
            async for said in one.generate(chatting()):
                pieces.append(said)
                first.set()

        assert pieces[:2] == ["It is ", "mathematics."]
        assert pieces[2] == Answered(FINISH_REASON_STOP, "", 7, 2, counted=False)

    async def test_connection_is_used_again(self):
        """One connection serves one answer after the other."""
        async with model_server() as server, upstream(server) as one:
            for _ in range(3):
                await whole(one, chatting())

        assert server.connections == 1

    async def test_events_in_any_pieces(self):
        """Events that come byte by byte, with any line ends and comments between, are the same events."""
        data = (
            b": ping\r\n\r\n" + event(delta("Grüße, 世界")).replace(b"\n", b"\r\n") + event(delta(reason="stop")) + event("[DONE]")
        )

        async def behave(asked: Asked) -> None:
            await asked.send(STREAM)
            for index in range(len(data)):
                await asked.send(chunk(data[index : index + 1]))
            await asked.send(b"0\r\n\r\n")

        async with model_server(chat=behave) as server, upstream(server) as one:
            pieces, _ = await whole(one, chatting())

        assert pieces == ["Grüße, 世界"]

    async def test_calls_of_tools(self):
        """Calls that are streamed in fragments become text as the network writes calls."""
        order = chatting()
        order.chat.tools.add(name="add")
        start = [{"index": 0, "id": "x", "type": "function", "function": {"name": "add", "arguments": ""}}]
        more = [{"index": 0, "function": {"arguments": '{"a": 1}'}}]
        empty = [{"index": 1, "id": "y", "function": {"name": "add"}}]
        events = [{"choices": [{"index": 0, "delta": {"tool_calls": calls}}]} for calls in (start, more, empty)]
        async with model_server(chat=streams(*events, delta(reason="tool_calls"))) as server, upstream(server) as one:
            pieces, end = await whole(one, order)

        assert "".join(pieces) == (
            '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call><tool_call>{"name": "add", "arguments": {}}</tool_call>'
        )
        assert end.reason == FINISH_REASON_STOP

    async def test_stop_string(self):
        """The stop string that a server names is told, if it is one of the order's."""
        ends = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "!"}]}
        async with model_server(chat=streams(delta("Hi"), ends)) as server, upstream(server) as one:
            _, end = await whole(one, chatting(stop=["!"]))
            _, other = await whole(one, chatting(stop=["?"]))

        assert (end.stop, other.stop) == ("!", "")

    async def test_halves_of_characters(self):
        """Half a character, which JSON can hold, becomes a mark that stands for it."""
        event = '{"choices":[{"index":0,"delta":{"content":"a\\ud83d"},"finish_reason":"stop"}]}'
        async with model_server(chat=streams(event)) as server, upstream(server) as one:
            pieces, _ = await whole(one, chatting())

        assert pieces == ["a\ufffd"]


class TestUsage:
    async def test_stated(self):
        """What the server counts is what is charged."""
        async with model_server(chat=says("Hi", counts=(11, 3))) as server, upstream(server) as one:
            _, end = await whole(one, chatting(max_tokens=5))

        assert (end.prompt_tokens, end.completion_tokens, end.counted) == (11, 3, False)

    async def test_never_more_than_was_asked_for(self):
        """A server that counts more than there can be is not paid for it."""
        async with model_server(chat=says("Hi", counts=(10**9, 10**9))) as server, upstream(server) as one:
            _, end = await whole(one, chatting("x", max_tokens=5))

        assert (end.prompt_tokens, end.completion_tokens) == (1 + 256, 5)

    @pytest.mark.parametrize("events", [[], [usage(0, 0)]])
    async def test_not_stated(self, events):
        """Of a server that counts nothing, the pieces are counted, and nothing is charged for the input."""
        told = streams(delta("a"), delta("b"), delta(reason="stop"), *events)
        async with model_server(chat=told) as server, upstream(server) as one:
            _, end = await whole(one, chatting())

        assert (end.prompt_tokens, end.completion_tokens, end.counted) == (0, 2, True)


class TestLeaving:
    async def test_reader_leaves(self):
        """Who leaves in mid-answer closes the connection, so that the server stops computing."""
        async with model_server(chat=stops_after(STREAM, chunk(event(delta("It is "))))) as server, upstream(server) as one:
            async with aclosing(one.generate(chatting())) as said:
                assert await anext(said) == "It is "
            await server.asked[0].gone()

            assert one.running == 0

    async def test_cut_off(self):
        """A server that is let go loses the answers that run, and gets no more requests."""
        async with model_server(chat=stops_after(STREAM, chunk(event(delta("It is "))))) as server, upstream(server) as one:
            async with aclosing(one.generate(chatting())) as said:
                await anext(said)
                one.cut("it is not registered any more")
                with pytest.raises(Exception, match="not registered any more"):
                    await anext(said)
            await server.asked[0].gone()
            with pytest.raises(Exception, match="not registered any more"):
                await whole(one, chatting())

            assert len(server.asked) == 1


class TestRefusals:
    @pytest.mark.parametrize("status", ["400 Bad Request", "413 Too Large", "422 Unprocessable"])
    async def test_callers_fault(self, status):
        """What the server refuses is the caller's fault, in the server's words and with its field."""
        error = {"error": {"message": "temperature is too hot", "param": "temperature"}}
        async with model_server(chat=replies(status, error)) as server, upstream(server) as one:
            with pytest.raises(InvalidField, match="temperature is too hot") as caught:
                await whole(one, chatting())

        assert caught.value.facts["field"] == "order.temperature"

    async def test_too_long(self):
        """An input that is too long for the server is told as such."""
        error = {"error": {"message": "2000 tokens", "code": "context_length_exceeded"}}
        async with model_server(chat=replies("400 Bad Request", error)) as server, upstream(server) as one:
            with pytest.raises(ContextOverflow, match="2000 tokens"):
                await whole(one, chatting())

    async def test_busy(self):
        """A server that is busy is not broken: the job may go elsewhere."""
        async with model_server(chat=replies("429 Too Many Requests")) as server, upstream(server) as one:
            with pytest.raises(QueueFull):
                await whole(one, chatting())

    async def test_slots(self):
        """A server gets no more requests at once than it has slots; the next one is refused at once."""
        behave = stops_after(STREAM, chunk(event(delta("a"))))
        async with (
            model_server(chat=behave) as server,
            upstream(server, slots=1) as one,
            aclosing(one.generate(chatting())) as said,
        ):
            await anext(said)
            with pytest.raises(QueueFull):
                await whole(one, chatting())

    async def test_deadline(self):
        """An answer that is due ends with its deadline, whatever the server's own patience."""
        async with model_server(chat=stops_after(STREAM, chunk(event(delta("a"))))) as server, upstream(server) as one:
            with pytest.raises(Deadline):
                await whole(one, chatting(), seconds=0.05)


class TestPlaces:
    @pytest.mark.parametrize(
        "url",
        ["http://10.0.0.1/v1", "http://8.8.8.8/v1", "http://169.254.169.254/v1", "http://[::ffff:10.0.0.1]/v1", "ftp://127.0.0.1/"],
    )
    async def test_elsewhere(self, url):
        """A server that is not on this machine is not called, unless the settings say so; public ones neither."""
        async with upstream_client() as client:
            with pytest.raises(InvalidField):
                await open_upstream(client, "m", url, UpstreamSettings())

    async def test_exceptions_are_named(self):
        """Networks that the settings name are called; this machine is then no longer one of them."""
        settings = UpstreamSettings(networks=read_networks(["10.0.0.0/8"], "networks"))
        async with upstream_client() as client:
            assert await open_upstream(client, "m", "http://10.0.0.1/v1", settings)
            with pytest.raises(InvalidField):
                await open_upstream(client, "m", "http://127.0.0.1/v1", settings)

    async def test_pinned(self):
        """The address that was checked is connected to, whatever the name leads to; the name is sent along."""
        async with model_server() as server, upstream_client() as client:
            url = server.url.replace("127.0.0.1", "no-such-name.invalid")
            one = await open_upstream(client, "m", url, UpstreamSettings(), address="127.0.0.1")
            pieces, _ = await whole(one, chatting())

        assert pieces == ["It is ", "mathematics."]
        assert server.asked[0].headers["host"] == f"no-such-name.invalid:{server.port}"
