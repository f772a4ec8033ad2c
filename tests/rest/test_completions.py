"""`/v1/completions` on the whole network, with the bundled model."""

from __future__ import annotations

import openai
import pytest
import pytest_asyncio

from aos.clock import SystemClock
from aos.operator.llama import loaded
from aos.settings import bundled_model
from aos.testing.harness import running_aos
from aos.v1.dispatcher_pb2 import GetReceiptRequest
from aos.verification.receipts import check_bundle

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPT = "Inference is running a trained model"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network():
    async with loaded(bundled_model()) as model, running_aos(model, name="demo", envoy=True, clock=SystemClock()) as running:
        yield running


class TestOpenAisClient:
    async def test_streamed_or_whole_it_is_one_text(self, network):
        """The official client gets the same text both ways, 16 tokens of it where it asks for nothing, and a receipt that holds."""
        async with openai.AsyncOpenAI(base_url=f"{network.url}/v1", api_key=network.token, max_retries=0) as client:
            whole = await client.completions.create(model="demo", prompt=PROMPT)
            stream = await client.completions.create(model="demo", prompt=PROMPT, stream=True)
            streamed = [one async for one in stream]
        assert whole.choices[0].text == "".join(one.choices[0].text for one in streamed) != ""
        assert whole.usage is not None
        assert (whole.choices[0].finish_reason, whole.usage.completion_tokens) == ("length", 16)
        job = f"jobs/{whole.id.removeprefix('cmpl-')}"
        bundle = await network.dispatcher.GetReceipt(GetReceiptRequest(name=job))
        assert bundle.order.prompt == PROMPT
        assert all(finding.good for finding in check_bundle(bundle))

    async def test_a_prompt_beyond_the_context_is_refused(self, network):
        """With the field's name."""
        async with openai.AsyncOpenAI(base_url=f"{network.url}/v1", api_key=network.token, max_retries=0) as client:
            with pytest.raises(openai.BadRequestError) as refusal:
                await client.completions.create(model="demo", prompt="word " * 5000)
        assert (refusal.value.code, refusal.value.param) == ("context_length_exceeded", "prompt")
