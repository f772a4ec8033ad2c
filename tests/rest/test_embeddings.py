"""OpenAI's `/v1/embeddings`, on the real model: asked through REST and natively, and checked with `aos verify`."""

from __future__ import annotations

import base64
import math
from collections.abc import AsyncGenerator

import httpx
import numpy as np
import openai
import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToJson, Parse

from aos.client import told
from aos.clock import SystemClock
from aos.errors import ContextOverflow, InvalidField, ModelUnsuitable
from aos.operator.llama import loaded
from aos.order import digest_tokens
from aos.rpc.status import answered
from aos.settings import bundled_model
from aos.testing.harness import Aos, running_aos
from aos.testing.scripted import ScriptedModel
from aos.v1.dispatcher_pb2 import GetReceiptRequest, ReceiptBundle
from aos.v1.operator_pb2 import GenerateRequest, TokenizeRequest
from aos.v1.types_pb2 import EmbeddingInput, Order
from aos.verification.receipts import check_bundle, embeddings_digest
from tests.cli.conftest import run_aos

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/v1/embeddings"
TEXTS = ["What is AI?", "How is a receipt checked?", "x", "Inference is running a trained model. " * 12]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network() -> AsyncGenerator[Aos]:
    async with loaded(bundled_model(), slots=2) as model, running_aos(model, name="demo", envoy=True, clock=SystemClock()) as aos:
        yield aos


@pytest_asyncio.fixture(loop_scope="module")
async def rest(network: Aos) -> AsyncGenerator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {network.token}"}
    async with httpx.AsyncClient(base_url=network.url, headers=headers, timeout=20) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def client(network: Aos) -> AsyncGenerator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{network.url}/v1", api_key=network.token, max_retries=0) as client:
        yield client


class TestAnswer:
    async def test_official_client(self, network, client):
        """OpenAI's client, which asks for base64 unless told otherwise, gets the native API's numbers in the order of the texts."""
        got = await client.embeddings.create(model="demo", input=TEXTS)

        assert [one.index for one in got.data] == [0, 1, 2, 3]
        assert [one.embedding for one in got.data] == await network.client.embed("demo", *TEXTS)

    async def test_both_formats_are_the_same_bits(self, rest):
        """Numbers and base64 stand for the same 32-bit numbers, of a vector of length 1."""
        asked = {"model": "demo", "input": "What is AI?"}
        plain = (await rest.post(PATH, json=asked)).json()
        packed = (await rest.post(PATH, json=asked | {"encoding_format": "base64"})).json()

        numbers = np.array(plain["data"][0]["embedding"], np.float32)
        assert numbers.tobytes() == base64.b64decode(packed["data"][0]["embedding"])
        assert math.hypot(*numbers) == pytest.approx(1, abs=1e-6)

    async def test_shape(self, network, rest):
        """The reply has OpenAI's fields and says which job it was; what is counted is the tokens of all texts."""
        reply = await rest.post(PATH, json={"model": "demo", "input": ["What is AI?", "x"], "user": "ann", "dimensions": 256})

        body = reply.json()
        job = await network.client.outcome(body["aos"]["job"])
        used = job.usage.prompt_tokens
        assert reply.headers["content-type"] == "application/json"
        assert (body["object"], body["model"], body["usage"]) == ("list", "demo", {"prompt_tokens": used, "total_tokens": used})
        assert [(one["object"], one["index"], len(one["embedding"])) for one in body["data"]] == [
            ("embedding", 0, 256),
            ("embedding", 1, 256),
        ]
        assert job.receipt.usage.completion_tokens == 0
        assert job.receipt.price == str(used)

    async def test_many(self, network, rest):
        """The most texts that one request may have come back in order, each as it is alone."""
        texts = [f"Text number {number}." for number in range(256)]
        body = (await rest.post(PATH, json={"model": "demo", "input": texts})).json()

        alone = await network.client.embed("demo", texts[200])
        assert np.array_equal(np.array(body["data"][200]["embedding"], np.float32), np.array(alone[0], np.float32))
        assert len({tuple(one["embedding"]) for one in body["data"]}) == 256

    async def test_like_means_near(self, network):
        """Texts that say nearly the same are nearer to each other than to another."""
        a, b, c = [
            np.array(one)
            for one in await network.client.embed("demo", "What is AI?", "What is AI", "Settlement of 3 receipts: 9, 8, 7.")
        ]

        assert a @ b > a @ c


class TestRefused:
    @pytest.mark.parametrize(
        ("fields", "param", "says"),
        [
            ({"input": []}, "input", "must have 1 to 256 texts"),
            ({"input": "" }, "input[0]", "must not be empty"),
            ({"input": ["a", ""]}, "input[1]", "must not be empty"),
            ({"input": ["a"] * 257}, "input", "must have 1 to 256 texts"),
            ({"input": [1, 2]}, "input", "token ids are not taken"),
            ({"input": [[1, 2]]}, "input", "token ids are not taken"),
            ({"input": {"text": "a"}}, "input", "must be a string or a list of strings"),
            ({}, "input", "is missing"),
            ({"input": "a", "dimensions": 128}, "dimensions", "must be 256"),
            ({"input": "a", "encoding_format": "int8"}, "encoding_format", "must be 'float' or 'base64'"),
            ({"input": "a", "truncate": True}, "truncate", "is not known here"),
            ({"input": ["a", "word " * 2000]}, "input[1]", "tokens; 'demo' holds 1024"),
        ],
        ids=[
            "no text", "empty", "one empty", "too many", "tokens", "texts of tokens", "object", "missing", "dimensions", "format",
            "unknown", "too long",
        ],
    )  # fmt: skip
    async def test_field(self, rest, fields, param, says):
        """What cannot be computed is refused with 400, the field's name, and the limit."""
        reply = await rest.post(PATH, json={"model": "demo"} | fields)

        error = reply.json()["error"]
        assert (reply.status_code, error["param"]) == (400, param)
        assert says in error["message"]
        assert error["message"].startswith(param)

    async def test_no_token(self, network):
        """Without a token nothing is computed."""
        async with httpx.AsyncClient(base_url=network.url) as bare:
            reply = await bare.post(PATH, json={"model": "demo", "input": "a"})

        assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")

    async def test_native_names(self, network):
        """Native callers are told the native field, also by the operator."""
        with pytest.raises(ContextOverflow) as long:
            await network.client.embed("demo", "a", "b", "word " * 2000)
        with pytest.raises(InvalidField) as empty:
            await network.client.embed("demo", "a", "")

        assert long.value.facts["field"] == "order.embedding.texts[2]"
        assert empty.value.facts["field"] == "order.embedding.texts[1]"

    async def test_model_that_cannot(self):
        """A model that turns no texts into vectors is refused before anything is held or placed."""
        async with running_aos(ScriptedModel()) as aos:
            with pytest.raises(ModelUnsuitable, match="embeddings"):
                await aos.client.submit(Order(model="scripted", embedding=EmbeddingInput(texts=["a"])))


class TestOperator:
    async def test_asked_directly(self, network):
        """An operator's own service gives the vectors, the tokens that they are made of, and the receipt for both."""
        order = Order(model="demo", embedding=EmbeddingInput(texts=TEXTS))
        events = [event async for event in network.operator.Generate(GenerateRequest(order=order))]
        tokens = await network.operator.Tokenize(TokenizeRequest(order=order))

        vectors = [one for event in events for one in event.chunk.embeddings]
        assert [list(one.values) for one in vectors] == await network.client.embed("demo", *TEXTS)
        receipt = events[-1].finish.receipt
        assert receipt.output_digest == embeddings_digest(vectors)
        assert receipt.prompt_digest == digest_tokens(list(tokens.tokens))
        assert (receipt.parameters, receipt.output_tokens_digest) == ("{}", digest_tokens([]))

    async def test_model_that_cannot(self):
        """An operator whose model turns no texts into vectors says so to both questions."""
        order = Order(model="scripted", embedding=EmbeddingInput(texts=["a"]))
        async with running_aos(ScriptedModel()) as aos:
            for ask in (
                lambda: anext(aiter(aos.operator.Generate(GenerateRequest(order=order)))),
                lambda: answered(aos.operator.Tokenize(TokenizeRequest(order=order))),
            ):
                with pytest.raises(ModelUnsuitable, match="embeddings"), told():
                    await ask()


class TestReceipt:
    async def test_verified_offline(self, network, rest, tmp_path):
        """`aos verify --model` finds the same vectors again; a bit that was changed is found without the model."""
        body = (await rest.post(PATH, json={"model": "demo", "input": TEXTS})).json()
        text = (await rest.get(f"/v1/{body['aos']['job']}/receipt")).text
        bundle = Parse(text, ReceiptBundle())
        file = tmp_path / "receipt.json"
        file.write_text(text)

        held = await run_aos("verify", str(file), "--model", str(bundled_model()))
        assert "4, computed again, are the same" in held.out
        assert held.code == 0

        bundle.embeddings[1].values[7] = -bundle.embeddings[1].values[7]
        file.write_text(MessageToJson(bundle))
        forged = await run_aos("verify", str(file))
        assert "the vectors are the ones that were signed for: the receipt says" in forged.out
        assert forged.code == 1

    async def test_bundle(self, network):
        """The native receipt comes with the vectors that it speaks of."""
        job = await network.client.submit(Order(model="demo", embedding=EmbeddingInput(texts=TEXTS)))
        outcome = await network.client.outcome(job)
        bundle = await answered(network.dispatcher.GetReceipt(GetReceiptRequest(name=job.name)))

        assert bundle.embeddings == outcome.embeddings
        assert all(finding.good for finding in check_bundle(bundle))
