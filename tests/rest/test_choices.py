"""Several answers to one request: `n`, and several prompts."""

from __future__ import annotations

import asyncio
import json

import httpx
import openai
import pytest
import pytest_asyncio

from aos.clock import SystemClock
from aos.operator.llama import loaded
from aos.operator.modes import BLOCK
from aos.settings import bundled_model
from aos.testing.harness import running_aos
from aos.v1.dispatcher_pb2 import GetJobRequest, GetReceiptRequest, JobState, ListJobsRequest
from aos.verification.receipts import check_bundle, digest

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASK = [{"role": "user", "content": "What is AI?"}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network():
    async with loaded(bundled_model()) as model, running_aos(model, name="demo", envoy=True, clock=SystemClock()) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(network):
    async with openai.AsyncOpenAI(base_url=f"{network.url}/v1", api_key=network.token, max_retries=0) as opened:
        yield opened


def streamed(text: str) -> list[dict]:
    """The stream's data events as JSON, the mark checked and left out."""
    *lines, mark, rest = text.split("\n\n")
    assert (mark, rest) == ("data: [DONE]", "")
    return [json.loads(line.removeprefix("data: ")) for line in lines if not line.startswith(":")]


def choice(events: list[dict], index: int) -> list[dict]:
    return [one for event in events for one in event["choices"] if one["index"] == index]


class TestTheModel:
    async def test_each_answer_is_that_of_its_seed(self, client):
        """Answer i is what the seed s + i gives by itself."""
        asked = {"model": "demo", "messages": ASK, "temperature": 2, "max_tokens": 12}
        several = await client.chat.completions.create(**asked, n=3, seed=40)
        texts = [one.message.content for one in several.choices]
        alone = [(await client.chat.completions.create(**asked, seed=40 + index)).choices[0].message.content for index in range(3)]
        assert [one.index for one in several.choices] == [0, 1, 2]
        assert texts == alone
        assert len(set(texts)) == 3

    async def test_the_prompt_is_computed_once(self, client):
        """All answers but one reuse what was computed for it, at least whole blocks; all of it is paid for, as each job says."""
        words = " ".join(f"word{number}" for number in range(40))
        answer = await client.completions.create(model="demo", prompt=words, n=4, max_tokens=4, temperature=1, seed=1)
        each = answer.usage.prompt_tokens // 4
        assert answer.usage.prompt_tokens == 4 * each
        assert answer.usage.prompt_tokens_details.cached_tokens >= 3 * (each - each % BLOCK)

    async def test_each_has_its_receipt(self, client, network):
        """`aos` stands with each choice, and the totals are what the receipts add up to."""
        answer = await client.chat.completions.create(model="demo", messages=ASK, n=2, max_tokens=5, temperature=1)
        assert "aos" not in answer.model_extra
        spent = 0
        for one in answer.choices:
            facts = one.model_extra["aos"]
            bundle = await network.dispatcher.GetReceipt(GetReceiptRequest(name=facts["job"]))
            assert all(finding.good for finding in check_bundle(bundle))
            assert facts["receipt_digest"] == f"0x{digest(bundle.receipt).hex()}"
            assert bundle.output == one.message.content
            spent += bundle.receipt.usage.prompt_tokens + bundle.receipt.usage.completion_tokens
        assert answer.usage.total_tokens == spent

    async def test_streamed(self, client):
        """The interleaved pieces make the same texts that the whole answer has, and the totals agree."""
        asked = {"model": "demo", "messages": ASK, "n": 3, "seed": 5, "temperature": 2, "max_tokens": 12}
        texts, total = ["", "", ""], 0
        async for chunk in await client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
            for one in chunk.choices:
                texts[one.index] += one.delta.content or ""
            total = chunk.usage.total_tokens if chunk.usage else total
        whole = await client.chat.completions.create(**asked)
        assert texts == [one.message.content for one in whole.choices]
        assert total == whole.usage.total_tokens

    async def test_several_prompts(self, client):
        """Their answers come in their order, n for each."""
        answer = await client.completions.create(
            model="demo", prompt=["A model is", "A token is"], n=2, temperature=0, max_tokens=6
        )
        alone = [(await client.completions.create(model="demo", prompt=one, max_tokens=6)) for one in ("A model is", "A token is")]
        first, second = (one.choices[0].text for one in alone)
        assert [(one.index, one.text) for one in answer.choices] == [(0, first), (1, first), (2, second), (3, second)]

    async def test_log_probabilities_of_a_completion(self, client):
        """Lists with an entry for each token; the offsets say where in the text it begins; streamed they are the same."""
        asked = {"model": "demo", "prompt": "A model is", "max_tokens": 6, "logprobs": 2}
        whole = (await client.completions.create(**asked)).choices[0]
        said = whole.logprobs
        assert "".join(said.tokens) == whole.text
        assert said.text_offset == [len("".join(said.tokens[:index])) for index in range(6)]
        assert all(value <= 0 for value in said.token_logprobs)
        assert all(len(top) == 2 and token in top for token, top in zip(said.tokens, said.top_logprobs, strict=True))
        parts = [one.choices[0].logprobs async for one in await client.completions.create(**asked, stream=True)]
        assert [token for part in parts if part for token in part.tokens] == said.tokens
        assert [offset for part in parts if part for offset in part.text_offset] == said.text_offset
        bare = await client.completions.create(**asked | {"logprobs": 0})
        assert (bare.choices[0].logprobs.top_logprobs, bare.choices[0].logprobs.tokens) == (None, said.tokens)


class TestTheStream:
    async def test_events(self, rest):
        """Each choice has its role, its text and its end; one id; the usage of all at the last end, and nowhere else."""
        asked = {"model": "scripted", "messages": ASK, "n": 2, "stream": True}
        events = streamed((await rest.post("/v1/chat/completions", json=asked)).text)
        assert len({event["id"] for event in events}) == 1
        for index in (0, 1):
            first, *texts, last = choice(events, index)
            assert first["delta"] == {"role": "assistant"}
            assert "".join(one["delta"]["content"] for one in texts) == "Scripted."
            assert (last["finish_reason"], set(last["aos"])) == ("stop", {"job", "receipt_digest", "operator"})
        assert [index for index, event in enumerate(events) if "usage" in event] == [len(events) - 1]

    @pytest.mark.parametrize("stream", [True, False])
    async def test_who_leaves_ends_all_jobs(self, aos_rest, stream):
        """No answer is computed for nobody."""
        said = f"three of them {stream}"
        for _ in range(3):
            aos_rest.model.say("Once upon a time.", to=said)
        hold = aos_rest.model.hold(after="Once")
        asked = {"model": "scripted", "messages": [{"role": "user", "content": said}], "n": 3, "stream": stream}
        headers = {"authorization": f"Bearer {aos_rest.token}"}
        async with httpx.AsyncClient(base_url=aos_rest.url, headers=headers, timeout=20) as leaving:
            waiting = asyncio.create_task(leaving.post("/v1/chat/completions", json=asked))
            await hold.reached()  # the first of them: the others may still be made
            jobs, about = [], ListJobsRequest(page_size=3)
            async with asyncio.timeout(20):
                while len(jobs) < 3:
                    found = (await aos_rest.dispatcher.ListJobs(about)).jobs
                    jobs = [job for job in found if job.order.chat.messages[0].content == said]
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        async with asyncio.timeout(20):
            for job in jobs:
                *_, last = [event async for event in aos_rest.client.watch(job)]
                assert last.outcome.state == JobState.JOB_STATE_CANCELLED
        hold.release()

    async def test_an_answer_alone_is_as_ever(self, aos_rest, rest):
        """Its `aos` is at the top, and names the job that the id is of."""
        body = (await rest.post("/v1/chat/completions", json={"model": "scripted", "messages": ASK, "n": 1})).json()
        job = await aos_rest.dispatcher.GetJob(GetJobRequest(name=body["aos"]["job"]))
        assert job.order.sampling.HasField("seed")
        assert "aos" not in body["choices"][0]
