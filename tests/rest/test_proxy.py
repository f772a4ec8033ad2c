"""`/v1/proxy`: what a wallet signs for is answered, paid and signed; by the stock `openai` client."""

from __future__ import annotations

import asyncio
import hashlib

import httpx
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from aos.rpc.channel import channel
from aos.testing.harness import MODEL
from aos.v1.broker_pb2 import GetAccountRequest, GetSubAccountRequest
from aos.v1.dispatcher_pb2 import GetJobRequest
from aos.v1.requests_pb2_grpc import RequestsStub
from aos.verification.requests import exchange_signer
from tests.rest.paying import FUNDS, Wallet, a_wallet

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/v1/proxy/chat/completions"
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "What is AI?"}], "max_tokens": 16}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wallet(aos_rest) -> Wallet:
    async with channel(aos_rest.address, aos_rest.token) as opened:
        return await a_wallet(aos_rest, RequestsStub(opened))


@pytest_asyncio.fixture(loop_scope="module")
async def sdk(aos_rest):
    async with AsyncOpenAI(base_url=f"{aos_rest.url}/v1/proxy", api_key="anything", max_retries=0) as client:
        yield client


async def at_rest(aos) -> int:
    """What the sub-account has, once no job holds anything of it."""
    async with asyncio.timeout(10):
        while (await aos.broker.GetAccount(GetAccountRequest(name="accounts/-"))).held != "0":
            pass
    found = await aos.broker.GetSubAccount(GetSubAccountRequest(provider=aos.operators[0], service="inference"))
    return int(found.balance)


async def signature(bare: httpx.AsyncClient, chat: str) -> dict[str, str]:
    reply = await bare.get(f"/v1/proxy/signature/{chat}")
    assert reply.status_code == 200, reply.text
    return reply.json()


class TestPaidChats:
    async def test_a_client_that_knows_nothing_of_it(self, aos_rest, sdk, wallet):
        """OpenAI's client with the headers beside gets its answer, from the provider that was to be paid."""
        answer = await sdk.chat.completions.create(**ASKED, extra_headers=wallet.headers(ASKED))
        assert answer.choices[0].message.content
        job = await aos_rest.dispatcher.GetJob(GetJobRequest(name=f"jobs/{answer.id.removeprefix('cmpl-')}"))
        assert (job.provider, job.operator) == (wallet.provider.lower(), wallet.provider.lower())

    async def test_streams(self, sdk, wallet):
        """The same, with text as it comes."""
        body = ASKED | {"stream": True}
        stream = await sdk.chat.completions.create(**body, extra_headers=wallet.headers(body))
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    async def test_the_model_in_the_path(self, bare, wallet):
        """Where clients put a service's name into the path, it is the model."""
        reply = await bare.post(f"/v1/proxy/{MODEL}/chat/completions", json=ASKED, headers=wallet.headers(ASKED))
        assert reply.status_code == 200
        other = await bare.post("/v1/proxy/another/chat/completions", json=ASKED, headers=wallet.headers(ASKED))
        assert (other.status_code, other.json()["error"]["param"]) == (400, "X-AOS-Service")

    async def test_the_sub_account_pays_what_the_receipt_says(self, aos_rest, bare, wallet):
        """Not a neuron more is gone, and none from what is available."""
        before = await at_rest(aos_rest)
        account = await aos_rest.broker.GetAccount(GetAccountRequest(name="accounts/-"))
        reply = await bare.post(PATH, json=ASKED, headers=wallet.headers(ASKED))
        receipt = (await aos_rest.client.outcome(reply.json()["aos"]["job"])).receipt
        assert await at_rest(aos_rest) == before - int(receipt.price)
        assert int(receipt.price) > 0
        after = await aos_rest.client.broker.GetAccount(GetAccountRequest(name="accounts/-"))
        assert (after.available, after.held) == (account.available, "0")
        assert before <= FUNDS


class TestSignatures:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_are_over_the_bytes_that_went(self, bare, wallet, stream):
        """SHA-256 of what was sent and of what came back, events included, signed by EIP-191."""
        body = ASKED | {"stream": stream}
        request = bare.build_request("POST", PATH, json=body, headers=wallet.headers(body))
        reply = await bare.send(request)
        found = await signature(bare, reply.headers["zg-res-key"])
        hashes = [hashlib.sha256(data).hexdigest() for data in (request.content, reply.content)]
        assert found["text"] == ":".join(hashes)
        assert list(found) == ["text", "signature", "signing_address", "signing_algo"]
        assert exchange_signer(found["text"], found["signature"]) == found["signing_address"]

    async def test_are_found_by_the_answers_id_too(self, bare, wallet):
        """The key is in the header; who kept only the body has the id."""
        reply = await bare.post(PATH, json=ASKED, headers=wallet.headers(ASKED))
        by_key = await signature(bare, reply.headers["ZG-Res-Key"])
        assert await signature(bare, reply.json()["id"]) == by_key

    async def test_of_nothing_there_is_none(self, bare):
        """An answer that nobody knows, or that went too long ago."""
        reply = await bare.get("/v1/proxy/signature/cmpl-1")
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")
