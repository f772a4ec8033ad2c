"""Answers that must have a form, through OpenAI's client, on the whole network with the bundled model."""

from __future__ import annotations

import json
import re

import openai
import pytest
import pytest_asyncio

from aos.clock import SystemClock
from aos.operator.llama import load, loaded
from aos.operator.replay import replay_on
from aos.settings import bundled_model
from aos.testing.harness import running_aos
from aos.v1.dispatcher_pb2 import GetReceiptRequest
from aos.verification.receipts import check_bundle

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASK = [{"role": "user", "content": "Who are you?"}]
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string", "maxLength": 20}, "sure": {"type": "boolean"}, "why": {"const": None}},
    "required": ["answer", "sure", "why"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "reply", "schema": SCHEMA, "strict": True}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network():
    async with loaded(bundled_model()) as model, running_aos(model, name="demo", envoy=True, clock=SystemClock()) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(network):
    async with openai.AsyncOpenAI(base_url=f"{network.url}/v1", api_key=network.token, max_retries=0) as opened:
        yield opened


def fits(text: str) -> bool:
    """Say whether a text has SCHEMA's form."""
    value = json.loads(text)
    return (
        [*value] == SCHEMA["required"] and len(value["answer"]) <= 20 and isinstance(value["sure"], bool) and value["why"] is None
    )


class TestResponseFormat:
    async def test_a_schema_streamed_or_whole(self, client):
        """`response_format` with a schema gives JSON that fits it, the same both ways."""
        asked = {"model": "demo", "messages": ASK, "response_format": FORMAT, "max_tokens": 200, "temperature": 1.0, "seed": 4}
        whole = await client.chat.completions.create(**asked)
        stream = await client.chat.completions.create(**asked, stream=True)
        chunks = [one async for one in stream if one.choices]
        assert whole.choices[0].finish_reason == chunks[-1].choices[0].finish_reason == "stop"
        assert "".join(one.choices[0].delta.content or "" for one in chunks) == whole.choices[0].message.content
        assert fits(whole.choices[0].message.content)

    async def test_the_receipt_covers_it(self, client, network):
        """The form is part of what was asked for, and whoever runs the order again gets the same answer."""
        asked = {"model": "demo", "messages": ASK, "max_tokens": 200, "temperature": 1.0, "seed": 4}
        reply = await client.chat.completions.create(**asked, response_format=FORMAT)
        bundle = await network.dispatcher.GetReceipt(GetReceiptRequest(name=reply.aos["job"]))
        assert all(finding.good for finding in check_bundle(bundle))
        assert json.loads(bundle.order.constraint.json_schema) == SCHEMA
        model = load(bundled_model(), slots=1)
        try:
            assert (await replay_on(bundle, model)).good
        finally:
            model.close()
        bundle.order.constraint.json_schema = "{}"
        assert not all(finding.good for finding in check_bundle(bundle))

    async def test_json_mode(self, client):
        """`json_object` gives an object."""
        reply = await client.chat.completions.create(
            model="demo", messages=ASK, response_format={"type": "json_object"}, max_tokens=40
        )
        assert reply.choices[0].message.content.startswith("{")


class TestOtherDialects:
    async def test_vllms_structured_outputs(self, client):
        """A regex and a choice, on chats and completions."""
        extra = {"structured_outputs": {"regex": "[0-9]{4}-[0-9]{2}"}}
        reply = await client.chat.completions.create(model="demo", messages=ASK, extra_body=extra)
        assert re.fullmatch("[0-9]{4}-[0-9]{2}", reply.choices[0].message.content)
        extra = {"structured_outputs": {"choice": ["Yes.", "No."]}}
        text = (await client.completions.create(model="demo", prompt="Is AI maths?", extra_body=extra)).choices[0].text
        assert text in {"Yes.", "No."}

    async def test_llama_servers_fields(self, client):
        """`grammar` takes GBNF, `json_schema` a schema."""
        gbnf = 'root ::= "I am " ("a" | "the") " " [a-z]{3,5} "."'
        reply = await client.completions.create(model="demo", prompt="Say:", extra_body={"grammar": gbnf})
        assert re.fullmatch(r"I am (a|the) [a-z]{3,5}\.", reply.choices[0].text)
        extra = {"json_schema": {"type": "array", "items": {"const": None}, "minItems": 2, "maxItems": 2}}
        reply = await client.completions.create(model="demo", prompt="Say:", extra_body=extra, max_tokens=40)
        assert json.loads(reply.choices[0].text) == [None, None]


class TestRefused:
    @pytest.mark.parametrize(
        ("extra", "param", "reason"),
        [
            ({"structured_outputs": {"regex": "(a"}}, "structured_outputs.regex", "unclosed group"),
            ({"grammar": "root ::= other"}, "grammar", "other"),
            ({"json_schema": {"not": {}}}, "json_schema", "not"),
            ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "objekt"}}}},
             "response_format.json_schema.schema", "objekt"),
            ({"grammar": 'root ::= "a"', "structured_outputs": {"regex": "a"}}, "grammar", "contradicts structured_outputs.regex"),
        ],
    )  # fmt: skip
    async def test_by_the_field_that_was_sent(self, client, extra, param, reason):
        """What cannot be a form is refused with 400, under the dialect's own name for the field, with the reason."""
        with pytest.raises(openai.BadRequestError) as refusal:
            await client.chat.completions.create(model="demo", messages=ASK, extra_body=extra)
        assert (refusal.value.param, refusal.value.code) == (param, "invalid_value")
        assert reason in refusal.value.message
        assert "order." not in refusal.value.message
