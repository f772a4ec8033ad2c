"""The model interface's and OpenAI's dialect: `/v1/chat/completions` and `/v1/models`."""

from __future__ import annotations

import asyncio
import json

import httpx
import openai
import pytest
import pytest_asyncio

from aos.v1.dispatcher_pb2 import GetReceiptRequest, JobState, ListJobsRequest
from aos.verification.receipts import digest

pytestmark = pytest.mark.asyncio(loop_scope="module")

HI = [{"role": "user", "content": "What is AI?"}]


@pytest_asyncio.fixture(loop_scope="module")
async def client(aos_rest):
    """OpenAI's own client, unmodified."""
    async with openai.AsyncOpenAI(base_url=f"{aos_rest.url}/v1", api_key=aos_rest.token, max_retries=0) as opened:
        yield opened


def events(text: str) -> list[dict]:
    """The stream's data events as JSON, the mark checked and left out."""
    *lines, mark, rest = text.split("\n\n")
    assert (mark, rest) == ("data: [DONE]", "")
    return [json.loads(line.removeprefix("data: ")) for line in lines if not line.startswith(":")]


async def last_job(aos):
    return (await aos.dispatcher.ListJobs(ListJobsRequest(page_size=1))).jobs[0]


class TestWhole:
    async def test_both_readers_find_their_fields(self, rest):
        """The model interface's code and message, and OpenAI's id and object, in one answer."""
        body = (await rest.post("/v1/chat/completions", json={"model": "scripted", "messages": HI})).json()
        assert (body["code"], body["message"], body["object"], body["model"]) == (0, "success", "chat.completion", "scripted")
        assert isinstance(body["created"], int)
        (choice,) = body["choices"]
        assert choice["message"] == {"role": "assistant", "content": "Scripted."}
        assert (choice["index"], choice["finish_reason"], choice["logprobs"], choice["stop_reason"]) == (0, "stop", None, None)
        usage = body["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0

    async def test_it_names_its_receipt(self, aos_rest, rest):
        """`aos` has the job, the operator and the digest of the receipt that anyone can check."""
        body = (await rest.post("/v1/chat/completions", json={"model": "scripted", "messages": HI})).json()
        bundle = await aos_rest.dispatcher.GetReceipt(GetReceiptRequest(name=body["aos"]["job"]))
        assert body["aos"]["receipt_digest"] == f"0x{digest(bundle.receipt).hex()}"
        assert body["aos"]["operator"] == f"0x{bundle.receipt.operator.hex()}"
        assert body["id"] == f"cmpl-{body['aos']['job'].removeprefix('jobs/')}"

    async def test_a_limit_is_said(self, rest):
        """An answer that max_tokens ends has finish_reason length."""
        for name in ("max_tokens", "max_completion_tokens"):
            body = (await rest.post("/v1/chat/completions", json={"model": "scripted", "messages": HI, name: 3})).json()
            assert body["choices"][0]["finish_reason"] == "length"
            assert body["choices"][0]["message"]["content"] == "Scr"
            assert body["usage"]["completion_tokens"] == 3

    @pytest.mark.parametrize("stop", ["ipt", ["nothing", "ipt"]])
    async def test_a_stop_string_is_said(self, rest, stop):
        """stop may be a string or a list; stop_reason is the one that came."""
        body = (await rest.post("/v1/chat/completions", json={"model": "scripted", "messages": HI, "stop": stop})).json()
        (choice,) = body["choices"]
        assert (choice["message"]["content"], choice["finish_reason"], choice["stop_reason"]) == ("Scr", "stop", "ipt")

    async def test_everything_asked_reaches_the_operator(self, aos_rest, rest):
        """Roles, parts and every parameter are in the job's order; nothing is dropped."""
        asked = {
            "model": "scripted",
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "What"}, {"type": "text", "text": "is AI?"}]},
                {"role": "assistant", "content": "Mathematics.", "refusal": None},
                {"role": "user", "content": "More."},
            ],
            "temperature": 1,
            "top_p": 0.5,
            "top_k": 40,
            "max_tokens": 7,
            "seed": 2**53 + 1,
            "stop": ["x", "y"],
            "user": "someone",
            "stream": None,
            "n": 1,
            "store": False,
            "logprobs": True,
            "top_logprobs": 2,
            "frequency_penalty": 0.5,
            "presence_penalty": -1,
            "repetition_penalty": 1.1,
            "min_p": 0.05,
            "typical_p": 0.9,
            "logit_bias": {"1": -100, "65": 2.5},
            "response_format": {"type": "text"},
            "metadata": {"trace": "1"},
            "wallet": "0x01",
            "signature": "0x02",
            "hash": "0x03",
        }
        reply = await rest.post("/v1/chat/completions", json=asked)
        assert reply.status_code == 200, reply.text
        job = await last_job(aos_rest)
        assert [(turn.role, turn.content) for turn in job.order.chat.messages] == [
            ("system", "Be brief."),
            ("user", "What\nis AI?"),
            ("assistant", "Mathematics."),
            ("user", "More."),
        ]
        sampling = job.order.sampling
        assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens) == (1, 0.5, 40, 7)
        assert (sampling.frequency_penalty, sampling.presence_penalty, sampling.repetition_penalty) == (0.5, -1, 1.1)
        assert (sampling.min_p, sampling.typical_p, dict(sampling.logit_bias)) == (0.05, 0.9, {1: -100, 65: 2.5})
        assert (sampling.logprobs, sampling.top_logprobs) == (True, 2)
        assert (sampling.seed, list(sampling.stop), job.user) == (2**53 + 1, ["x", "y"], "someone")


class TestStream:
    async def test_the_events_are_as_documented(self, rest):
        """One id; the role first; text; the end with reason and usage; the mark."""
        reply = await rest.post("/v1/chat/completions", json={"model": "scripted", "messages": HI, "stream": True})
        first, *texts, last = events(reply.text)
        assert reply.headers["content-type"] == "text/event-stream"
        assert reply.headers["cache-control"] == "no-cache"
        every = [first, *texts, last]
        assert len({event["id"] for event in every}) == 1
        assert {event["object"] for event in every} == {"chat.completion.chunk"}
        assert first["choices"] == [{"index": 0, "delta": {"role": "assistant"}, "logprobs": None, "finish_reason": None}]
        assert "".join(event["choices"][0]["delta"]["content"] for event in texts) == "Scripted."
        assert all("usage" not in event for event in (first, *texts))
        (choice,) = last["choices"]
        assert choice == {"index": 0, "delta": {"content": ""}, "logprobs": None, "finish_reason": "stop", "stop_reason": None}
        assert last["usage"]["total_tokens"] > 0
        assert last["aos"]["receipt_digest"].startswith("0x")

    async def test_openais_usage_comes_on_request(self, rest):
        """With include_usage, one more event without choices; the totals agree."""
        asked = {"model": "scripted", "messages": HI, "stream": True, "stream_options": {"include_usage": True}}
        *others, last, usage = events((await rest.post("/v1/chat/completions", json=asked)).text)
        assert usage["choices"] == []
        assert usage["usage"] == last["usage"]
        assert all(event["usage"] is None for event in others)

    async def test_text_comes_as_it_is_made(self, aos_rest, rest):
        """Words reach the client while the model still speaks."""
        aos_rest.model.say("First. Second.", to="slowly")
        hold = aos_rest.model.hold(after="First.")
        asked = {"model": "scripted", "messages": [{"role": "user", "content": "slowly"}], "stream": True}
        heard = ""
        async with asyncio.timeout(20), rest.stream("POST", "/v1/chat/completions", json=asked) as reply:
            async for line in reply.aiter_lines():
                if line.startswith("data: {"):
                    heard += json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get("content", "")
                if heard == "First.":
                    hold.release()
        assert heard == "First. Second."

    async def test_characters_are_never_split(self, aos_rest, rest):
        """A character of several tokens comes whole."""
        aos_rest.model.say("Grüße, 世界 😀", to="greet")
        asked = {"model": "scripted", "messages": [{"role": "user", "content": "greet"}], "stream": True}
        texts = [
            event["choices"][0]["delta"].get("content", "")
            for event in events((await rest.post("/v1/chat/completions", json=asked)).text)
        ]
        assert "".join(texts) == "Grüße, 世界 😀"

    @pytest.mark.parametrize("stream", [True, False])
    async def test_who_leaves_ends_the_job(self, aos_rest, stream):
        """A client that goes away, streaming or waiting, leaves no job computing."""
        said = f"leaving {stream}"
        aos_rest.model.say("Once upon a time.", to=said)
        hold = aos_rest.model.hold(after="Once")
        asked = {"model": "scripted", "messages": [{"role": "user", "content": said}], "stream": stream}
        headers = {"authorization": f"Bearer {aos_rest.token}"}
        async with httpx.AsyncClient(base_url=aos_rest.url, headers=headers, timeout=20) as leaving:
            waiting = asyncio.create_task(leaving.post("/v1/chat/completions", json=asked))
            await hold.reached()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        job = await last_job(aos_rest)
        async with asyncio.timeout(20):
            *_, last = [event async for event in aos_rest.client.watch(job)]
        hold.release()
        assert last.outcome.state == JobState.JOB_STATE_CANCELLED


class TestOpenAIsClient:
    async def test_create(self, client):
        """The usual call gives the usual object."""
        answer = await client.chat.completions.create(model="scripted", messages=HI)
        assert answer.choices[0].message.content == "Scripted."
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.total_tokens > 0
        assert answer.system_fingerprint.startswith("fp_")

    async def test_stream(self, client):
        """Streaming, with its usage."""
        options = {"include_usage": True}
        stream = await client.chat.completions.create(model="scripted", messages=HI, stream=True, stream_options=options)
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Scripted."
        assert chunks[-1].usage.total_tokens > 0

    async def test_the_helper_for_streams(self, client):
        """The client's own accumulator, which checks more, accepts the stream."""
        async with client.chat.completions.stream(model="scripted", messages=HI) as stream:
            final = await stream.get_final_completion()
        assert final.choices[0].message.content == "Scripted."

    async def test_models(self, client):
        """The list, and one."""
        assert [model.id async for model in client.models.list()] == ["scripted"]
        assert (await client.models.retrieve("scripted")).object == "model"
        with pytest.raises(openai.NotFoundError, match="There is no model 'nobody'"):
            await client.models.retrieve("nobody")

    async def test_a_wrong_field_is_named(self, client):
        """BadRequestError with the param."""
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="scripted", messages=HI, temperature=3)
        assert caught.value.param == "temperature"

    async def test_a_wrong_key(self, aos_rest):
        """AuthenticationError."""
        async with openai.AsyncOpenAI(base_url=f"{aos_rest.url}/v1", api_key="wrong", max_retries=0) as stranger:
            with pytest.raises(openai.AuthenticationError) as caught:
                await stranger.chat.completions.create(model="scripted", messages=HI)
        assert caught.value.code == "invalid_api_key"


class TestModels:
    async def test_both_readers_find_their_fields(self, aos_rest, rest):
        """OpenAI's list and the model interface's in one object."""
        body = (await rest.get("/v1/models")).json()
        assert (body["object"], body["project"]) == ("list", "aos")
        (model,) = body["data"]
        assert (model["id"], model["model"], model["object"], model["owned_by"]) == ("scripted", "scripted", "model", "aos")
        assert (model["type"], model["state"], model["url"]) == (0, "ready", "")
        assert model["weight_hash"] == aos_rest.model.digest
        assert isinstance(model["created"], int)
        assert (await rest.get("/v1/models/scripted")).json() == model

    async def test_by_project(self, rest):
        """`?project=` shows that project's only."""
        assert len((await rest.get("/v1/models", params={"project": "aos"})).json()["data"]) == 1
        assert (await rest.get("/v1/models", params={"project": "another"})).json()["data"] == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "param", "name"),
        [
            ({"model": 5}, "model", "invalid_value"),
            ({"model": ""}, "model", "invalid_value"),
            ({"messages": "hi"}, "messages", "invalid_value"),
            ({"messages": []}, "messages", "invalid_value"),
            ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid_value"),
            ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "invalid_value"),
            ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_value"),
            ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content", "invalid_value"),
            ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "messages[0].name", "unknown_parameter"),
            ({"stream": "yes"}, "stream", "invalid_value"),
            ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
            ({"temperature": "1"}, "temperature", "invalid_value"),
            ({"temperature": -0.1}, "temperature", "invalid_value"),
            ({"top_p": 0}, "top_p", "invalid_value"),
            ({"top_k": 1.5}, "top_k", "invalid_value"),
            ({"max_tokens": 0}, "max_tokens", "invalid_value"),
            ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", "invalid_value"),
            ({"seed": -1}, "seed", "invalid_value"),
            ({"stop": [1]}, "stop[0]", "invalid_value"),
            ({"stop": ["x"] * 17}, "stop", "invalid_value"),
            ({"n": 9}, "n", "invalid_value"),
            ({"user": "x" * 300}, "user", "invalid_value"),
            ({"logprobs": 1}, "logprobs", "invalid_value"),
            ({"top_logprobs": 1}, "top_logprobs", "invalid_value"),
            ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
            ({"presence_penalty": 2.1}, "presence_penalty", "invalid_value"),
            ({"frequency_penalty": -2.1}, "frequency_penalty", "invalid_value"),
            ({"repetition_penalty": 0}, "repetition_penalty", "invalid_value"),
            ({"min_p": 1.1}, "min_p", "invalid_value"),
            ({"typical_p": 0}, "typical_p", "invalid_value"),
            ({"logit_bias": [1]}, "logit_bias", "invalid_value"),
            ({"logit_bias": {"x": 1}}, "logit_bias", "invalid_value"),
            ({"logit_bias": {"01": 1}}, "logit_bias", "invalid_value"),
            ({"logit_bias": {"4294967296": 1}}, "logit_bias", "invalid_value"),
            ({"logit_bias": {"5": "1"}}, "logit_bias[5]", "invalid_value"),
            ({"logit_bias": {"5": 101}}, "logit_bias[5]", "invalid_value"),
            ({"logit_bias": {"4294967295": 1}}, "logit_bias[4294967295]", "invalid_value"),
            ({"logit_bias": {f"{token}": 1 for token in range(301)}}, "logit_bias", "invalid_value"),
            ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
            ({"tools": [{"type": "function"}]}, "tools[0].function", "invalid_value"),
            ({"no_such_thing": 1}, "no_such_thing", "unknown_parameter"),
        ],
    )
    async def test_a_wrong_field_is_named(self, rest, change, param, name):
        """400 with `param`, for wrong values and for fields that would have no effect."""
        reply = await rest.post("/v1/chat/completions", json={"model": "scripted", "messages": HI} | change)
        body = reply.json()
        assert reply.status_code == 400, body
        assert body["error"] == {"message": body["message"], "type": "invalid_request_error", "param": param, "code": name}
        assert body["code"] == 1001

    @pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"model":"a","model":"b"}', b"// comment\n{}"])
    async def test_junk_is_refused_in_the_dialects_shape(self, rest, data):
        """What is no JSON object gets 400 and the interface's code for what it cannot parse."""
        reply = await rest.post("/v1/chat/completions", content=data)
        assert (reply.status_code, reply.json()["code"], reply.json()["error"]["param"]) == (400, 1002, "body")

    @pytest.mark.parametrize("token", ["", "wrong"])
    async def test_a_missing_or_wrong_token_is_401(self, bare, token):
        """Everywhere in the dialect."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        chat = await bare.post("/v1/chat/completions", json={"model": "scripted", "messages": HI}, headers=headers)
        for reply in (chat, await bare.get("/v1/models", headers=headers), await bare.get("/v1/models/x", headers=headers)):
            assert (reply.status_code, reply.json()["code"], reply.json()["error"]["code"]) == (401, 1010, "invalid_api_key")
