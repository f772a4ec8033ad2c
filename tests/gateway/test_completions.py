"""OpenAI's older dialect, `/v1/completions`, through a real Envoy."""

from __future__ import annotations

import asyncio
import contextlib
import json

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.errors import InvalidField
from aos.v1.dispatcher_pb2 import CreateJobRequest
from gateway import completions
from gateway.body import check, parse
from gateway.chat import without_nulls
from tests.gateway import scripted_network as scripted
from tests.gateway.test_body import VALUES

PATH = "/v1/completions"


def asking(model: str = "echo", prompt: object = "one two", **more) -> dict[str, object]:
    return {"model": model, "prompt": prompt, **more}


def events(text: str) -> list[dict]:
    *lines, mark, rest = text.split("\n\n")
    assert (mark, rest) == ("data: [DONE]", "")
    return [json.loads(line.removeprefix("data: ")) for line in lines]


class TestWhole:
    @pytest.mark.parametrize("prompt", ["one two", ["one two"]])
    async def test_both_readers_find_their_fields(self, edge, prompt):
        """OpenAI's fields, and code, message and aos as a chat has them; a list of one text is that text."""
        async with edge.client() as client:
            body = (await client.post(PATH, json=asking(prompt=prompt))).json()
        assert (body["code"], body["message"], body["object"], body["model"]) == (0, "success", "text_completion", "echo")
        assert body["choices"] == [{"index": 0, "text": "one two", "logprobs": None, "finish_reason": "stop", "stop_reason": None}]
        assert body["usage"] == {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 0},
        }
        assert body["id"] == f"cmpl-{body['aos']['job'].removeprefix('jobs/')}"

    async def test_the_text_is_taken_as_it_is(self, edge):
        """The order has a prompt and no chat, every parameter, and 16 tokens where nothing is said, as with OpenAI."""
        async with edge.client() as client:
            more = {"temperature": 1, "top_p": 0.5, "seed": 7, "stop": "x", "max_tokens": 9, "user": "someone"}
            neutral = {"n": 1, "best_of": 1, "echo": False, "suffix": None, "logprobs": None}
            assert (await client.post(PATH, json=asking("raw", **more, **neutral))).status_code == 200
            assert (await client.post(PATH, json=asking("raw"))).status_code == 200
        first, second = edge.dispatcher.jobs.values()
        sampling = first.order.sampling
        assert (first.order.prompt, first.order.HasField("chat"), first.user) == ("one two", False, "someone")
        assert (sampling.temperature, sampling.top_p, sampling.seed, sampling.max_tokens, list(sampling.stop)) == (
            *(1, 0.5, 7, 9),
            ["x"],
        )
        assert second.order.sampling.max_tokens == completions.DEFAULT_MAX_TOKENS


class TestStreamed:
    async def test_text_then_reason_then_mark(self, edge):
        """Each event has more text; the last one why it ended, the usage and the receipt."""
        async with edge.client() as client:
            reply = await client.post(PATH, json=asking(stream=True))
        *parts, last = events(reply.text)
        assert reply.headers["content-type"] == "text/event-stream"
        assert "".join(part["choices"][0]["text"] for part in parts) == "one two"
        assert {part["object"] for part in (*parts, last)} == {"text_completion"}
        assert (last["choices"][0]["text"], last["choices"][0]["finish_reason"]) == ("", "stop")
        assert last["usage"]["total_tokens"] == 5
        assert last["aos"]["job"] in edge.dispatcher.jobs

    async def test_usage_comes_once_more_if_asked_for(self, edge):
        """As with a chat: null before, and an event without choices at the end."""
        async with edge.client() as client:
            reply = await client.post(PATH, json=asking(stream=True, stream_options={"include_usage": True}))
        *parts, last, usage = events(reply.text)
        assert all(part["usage"] is None for part in parts)
        assert (usage["choices"], usage["usage"]) == ([], last["usage"])

    async def test_a_failure_in_mid_stream_is_said_in_the_stream(self, edge):
        """After text has gone out, the error is an event, and the stream still ends with the mark."""
        async with edge.client() as client:
            text, failure = events((await client.post(PATH, json=asking("breaks", stream=True))).text)
        assert text["choices"][0]["text"] == "so far"
        assert (failure["code"], failure["error"]["code"]) == (1007, "model_error")

    async def test_who_leaves_ends_the_job(self, edge):
        """A client that goes away leaves no job computing for nobody."""
        async with edge.client() as client:
            waiting = asyncio.create_task(client.post(PATH, json=asking("silent", stream=True)))
            name = await asyncio.wait_for(edge.dispatcher.watched.get(), 10)
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
        assert await asyncio.wait_for(edge.dispatcher.cancelled.get(), 10) == name


class TestRefused:
    @pytest.mark.parametrize(
        ("more", "param", "says"),
        [
            ({"prompt": [1, 2]}, "prompt", "token ids"),
            ({"prompt": [[1, 2]]}, "prompt", "token ids"),
            ({"prompt": ["a", 1]}, "prompt", "a list of at least one string"),
            ({"prompt": []}, "prompt", "a list of at least one string"),
            ({"prompt": {}}, "prompt", "a list of at least one string"),
            ({"prompt": ["a", ""]}, "prompt", "must not be empty"),
            ({"prompt": ["a"] * 3, "n": 6}, "prompt", "makes 18 answers; at most 16"),
            ({"prompt": None}, "prompt", "is missing"),
            ({"prompt": ""}, "prompt", "must not be empty"),
            ({"echo": True}, "echo", "must be False"),
            ({"suffix": "end"}, "suffix", "must be ''"),
            ({"best_of": 2}, "best_of", "at most 1"),
            ({"n": 9}, "n", "at most 8"),
            ({"n": 2, "seed": 2**63 - 1}, "seed", "must leave a number"),
            ({"logprobs": 21}, "logprobs", "at most 20"),
            ({"messages": []}, "messages", "is not known here"),
            ({"max_tokens": 0}, "max_tokens", "at least 1"),
            ({"temperature": 3}, "temperature", "from 0 to 2"),
            ({"stream_options": {"include_usage": True}}, "stream_options", "only for streams"),
        ],
    )
    async def test_what_would_have_no_effect(self, edge, more, param, says):
        """A field that is not understood, or asks for what there is not, is 400 with its name."""
        async with edge.client() as client:
            reply = await client.post(PATH, json=asking() | more)
        body = reply.json()
        assert (reply.status_code, body["code"], body["error"]["param"]) == (400, 1001, param)
        assert says in body["message"]
        assert not edge.dispatcher.jobs

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        ("model", "status", "name", "param"),
        [
            ("nobody", 404, "model_not_found", "model"),
            ("full", 429, "rate_limit_exceeded", None),
            ("long", 400, "context_length_exceeded", "prompt"),
            ("fails", 502, "model_error", None),
        ],
    )
    async def test_a_failure_before_the_first_word_has_its_status(self, edge, model, status, name, param, stream):
        """The same bodies as a chat's; what is too long is the prompt."""
        async with edge.client() as client:
            reply = await client.post(PATH, json=asking(model, stream=stream))
        error = reply.json()["error"]
        assert (reply.status_code, error["code"], error["param"]) == (status, name, param)

    async def test_the_edge_speaks_the_dialect(self, edge):
        """What Envoy itself refuses has the dialect's shape, too."""
        async with edge.client() as client:
            reply = await client.get(PATH)
        assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
        assert reply.json()["error"]["code"] == "method_not_supported"

    @given(
        st.fixed_dictionaries(
            {"model": st.text(min_size=1), "prompt": st.text() | VALUES},
            optional=dict.fromkeys(set(completions.CompletionRequest.model_fields) - {"model", "prompt"}, VALUES),
        )
    )
    def test_a_completion_is_an_order_or_a_refusal(self, fields):
        """And an order can be sent."""
        with contextlib.suppress(InvalidField):
            body = without_nulls(parse(json.dumps(fields).encode()).fields)
            for order in completions.orders_of(check(completions.CompletionRequest, body)):
                assert CreateJobRequest.FromString(CreateJobRequest(order=order).SerializeToString()).order == order


class TestOpenAisClient:
    async def test_it_works_unmodified(self, edge):
        """Whole and streamed, and its exceptions."""
        async with openai.AsyncOpenAI(base_url=f"{edge.url}/v1", api_key=scripted.TOKEN, max_retries=0) as client:
            whole = await client.completions.create(model="echo", prompt="one two")
            streamed = [one async for one in await client.completions.create(model="echo", prompt="one two", stream=True)]
            with pytest.raises(openai.BadRequestError, match="token ids"):
                await client.completions.create(model="echo", prompt=[1, 2])
            with pytest.raises(openai.APIError, match="could not go on"):
                async for _ in await client.completions.create(model="breaks", prompt="x", stream=True):
                    pass
        assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("one two", "stop")
        assert whole.usage is not None
        assert whole.usage.total_tokens == 5
        assert "".join(one.choices[0].text for one in streamed) == "one two"
        assert streamed[-1].choices[0].finish_reason == "stop"
