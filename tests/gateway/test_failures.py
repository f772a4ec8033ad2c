"""How the network's failures look in each dialect, through a real Envoy."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest

from aos.errors import REASONS
from aos.testing.clock import ManualClock
from gateway.http import HTTP
from gateway.model_errors import OTHERS, row
from gateway.models import PING_SECONDS
from tests.gateway import scripted_network as scripted
from tests.gateway.conftest import running_edge

HI = [{"role": "user", "content": "hi"}]


def job(model: str, **more) -> dict[str, object]:
    return {"from": "demo", "verify": scripted.TOKEN, "job": {"prompt": "hi", "model": model}, **more}


class TestTables:
    def test_every_failure_has_an_http_status(self):
        """No class of failure is without a status in either dialect."""
        for kind in REASONS.values():
            assert kind.code in HTTP
            assert 400 <= row(kind.rebuild("", {})).status < 600

    def test_nobody_meets_an_internal_error_for_their_own_mistake(self):
        """What a caller can cause has a row of its own, not the one for surprises."""
        callers = ("INVALID_ARGUMENT", "UNAUTHENTICATED", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAVAILABLE")
        # what operators say, and what calls about ledgers meet, which this dialect has none of
        elsewhere = {"BAD_RECEIPT", "BAD_SIGNATURE", "BAD_PROOF", "BAD_EVIDENCE"}
        elsewhere |= {"LEDGER_LIMIT", "TRANSACTION_PENDING", "BAD_SETTLEMENT"}
        for kind in REASONS.values():
            if kind.code in callers and kind.reason not in elsewhere:
                assert row(kind.rebuild("", {})) is not OTHERS, kind


class TestModelsDialect:
    @pytest.mark.parametrize(
        ("model", "status", "code", "kind", "name", "param"),
        [
            ("nobody", 404, 1017, "invalid_request_error", "model_not_found", "model"),
            ("poor", 402, 1010, "insufficient_quota", "insufficient_quota", None),
            ("full", 429, 1017, "rate_limit_error", "rate_limit_exceeded", None),
            ("away", 503, 1017, "server_error", "model_unavailable", "model"),
            ("long", 400, 1001, "invalid_request_error", "context_length_exceeded", "messages"),
            ("fails", 502, 1007, "server_error", "model_error", None),
        ],
    )
    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_failure_before_the_first_word_has_its_status(self, edge, model, status, code, kind, name, param, stream):
        """HTTP status, the interface's code, and OpenAI's error object say the same, streamed or not."""
        async with edge.client() as client:
            reply = await client.post("/v1/chat/completions", json={"model": model, "messages": HI, "stream": stream})
        body = reply.json()
        assert (reply.status_code, body["code"]) == (status, code)
        assert body["error"] == {"message": body["message"], "type": kind, "param": param, "code": name}
        assert reply.headers["content-type"] == "application/json"
        assert ("retry-after" in reply.headers) is (status in {429, 503})
        assert "x-aos-status" not in reply.headers

    async def test_a_failure_in_mid_stream_is_said_in_the_stream(self, edge):
        """After text has gone out, the error is an event, and the stream still ends with the mark."""
        async with edge.client() as client:
            reply = await client.post("/v1/chat/completions", json={"model": "breaks", "messages": HI, "stream": True})
        *_, text, failure, mark, rest = reply.text.split("\n\n")
        assert json.loads(text.removeprefix("data: "))["choices"][0]["delta"] == {"content": "so far"}
        body = json.loads(failure.removeprefix("data: "))
        assert (body["code"], body["error"]["code"]) == (1007, "model_error")
        assert (reply.status_code, mark, rest) == (200, "data: [DONE]", "")

    async def test_openais_client_raises_what_its_users_expect(self, edge):
        """Each failure is the exception class that OpenAI's own service causes."""
        expected = {
            "nobody": openai.NotFoundError,
            "full": openai.RateLimitError,
            "long": openai.BadRequestError,
            "away": openai.InternalServerError,
        }
        async with openai.AsyncOpenAI(base_url=f"{edge.url}/v1", api_key=scripted.TOKEN, max_retries=0) as client:
            for model, error in expected.items():
                with pytest.raises(error):
                    await client.chat.completions.create(model=model, messages=HI)
            with pytest.raises(openai.APIError, match="could not go on"):
                async for _ in await client.chat.completions.create(model="breaks", messages=HI, stream=True):
                    pass
        async with openai.AsyncOpenAI(base_url=f"{edge.url}/v1", api_key="wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()

    async def test_a_job_that_someone_cancels_ends_the_answer(self, edge):
        """Who waits for a job that another call cancels is told so."""
        async with edge.client() as client:
            waiting = asyncio.create_task(client.post("/v1/chat/completions", json={"model": "silent", "messages": HI}))
            name = await asyncio.wait_for(edge.dispatcher.watched.get(), 10)
            assert (await client.post(f"/v1/{name}:cancel")).json()["state"] == "JOB_STATE_CANCELLED"
            reply = await waiting
        assert (reply.status_code, reply.json()["error"]["code"]) == (409, "job_cancelled")


class TestJobsDialect:
    @pytest.mark.parametrize(
        ("model", "status", "says"),
        [
            ("nobody", 404, "There is no model 'nobody'"),
            ("poor", 402, "has 1 neurons available"),
            ("full", 429, "The queue 'jobs' is full"),
            ("away", 503, "No operator can run 'away' now"),
            ("long", 400, "The prompt has 9000 tokens"),
        ],
    )
    async def test_a_refused_job_says_why(self, edge, model, status, says):
        """`code` is the HTTP status, `message` the reason, `result` null."""
        async with edge.client("") as client:
            reply = await client.post("/api/job/submit", json=job(model))
        body = reply.json()
        assert set(body) == {"code", "message", "result"}
        assert (reply.status_code, body["code"], body["result"]) == (status, status, None)
        assert says in body["message"]
        assert ("retry-after" in reply.headers) is (status in {429, 503})

    async def test_a_job_that_failed_has_one_row_with_the_reason(self, edge):
        """Failing is a result, too: no text, no signature, and why."""
        async with edge.client("") as client:
            made = (await client.post("/api/job/submit", json=job("fails"))).json()["result"]
            asked = {"job_id": made, "verify": scripted.TOKEN}
            (row_,) = (await client.post("/api/job/result", json=asked)).json()["result"]
            detail = (await client.post("/api/job/detail", json=asked)).json()["result"]
        assert (row_["result"], row_["signature"]) == ("", "")
        assert row_["reason"] == "Running 'fails' failed: the engine could not go on."
        assert detail["status"] == "failed"

    async def test_a_model_without_a_template_gets_the_bare_prompt(self, edge):
        """The prompt is a user's turn where the model can chat, else the text to go on with."""
        async with edge.client("") as client:
            for model in ("echo", "raw"):
                reply = await client.post("/api/job/submit", json=job(model))
                assert reply.status_code == 200, reply.text
        chat, raw = (one.order for one in edge.dispatcher.jobs.values())
        assert [(turn.role, turn.content) for turn in chat.chat.messages] == [("user", "hi")]
        assert (raw.prompt, raw.HasField("chat")) == ("hi", False)


class TestStreams:
    async def test_a_silent_stream_gets_comments(self):
        """While a model says nothing, comments keep the connection open, and readers skip them."""
        clock = ManualClock()
        async with running_edge(clock=clock) as edge, edge.client() as client, asyncio.timeout(20):
            asked = {"model": "silent", "messages": HI, "stream": True}
            waiting = asyncio.create_task(client.post("/v1/chat/completions", json=asked))
            name = await edge.dispatcher.watched.get()
            for _ in range(2):
                await clock.until_asleep()
                clock.advance(seconds=PING_SECONDS)
            await clock.until_asleep()
            edge.dispatcher.say(name, "late")
            edge.dispatcher.finish(name)
            first, second, role, *_ = (await waiting).text.split("\n\n")
        assert (first, second) == (": ping", ": ping")
        assert json.loads(role.removeprefix("data: "))["choices"][0]["delta"] == {"role": "assistant"}

    async def test_who_leaves_ends_the_job(self, edge):
        """A client that goes away in mid-stream leaves no job computing for nobody."""
        async with edge.client() as client:
            asked = {"model": "silent", "messages": HI}
            waiting = asyncio.create_task(client.post("/v1/chat/completions", json=asked))
            name = await asyncio.wait_for(edge.dispatcher.watched.get(), 10)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert await asyncio.wait_for(edge.dispatcher.cancelled.get(), 10) == name

    async def test_an_answer_that_came_is_not_cancelled(self, edge):
        """Only jobs that have not ended are."""
        async with edge.client() as client:
            await client.post("/v1/chat/completions", json={"model": "echo", "messages": HI})
            await client.post("/v1/chat/completions", json={"model": "fails", "messages": HI})
            await client.post("/v1/chat/completions", json={"model": "echo", "messages": HI, "stream": True})
        assert edge.dispatcher.cancelled.empty()
