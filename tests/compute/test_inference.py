"""The customer's whole way: fund, acknowledge, ask with the `openai` client, verify; real model, real Envoy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace

import httpx
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from aos.clock import SystemClock
from aos.compute import ComputeBroker, create_broker, createZGComputeNetworkBroker
from aos.errors import InvalidField, OtherProvider
from aos.operator.llama import loaded
from aos.settings import bundled_model
from aos.testing.harness import Aos, running_aos
from aos.verification.keys import OperatorKey

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = bundled_model().stem
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "What is AI?"}], "max_tokens": 12}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network() -> AsyncGenerator[Aos]:
    async with (
        loaded(bundled_model()) as model,
        running_aos(model, name=MODEL, envoy=True, clock=SystemClock()) as running,
    ):
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(network) -> AsyncGenerator[ComputeBroker]:
    async with create_broker(network.address, network.token, wallet=OperatorKey.create()) as made:
        await made.inference.authorize_wallet()
        await made.inference.ensure_acknowledged(network.operators[0])
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def sdk(network):
    async with AsyncOpenAI(base_url=f"{network.url}/v1/proxy", api_key="any", max_retries=0) as client:
        yield client


async def exchange(sdk, broker, provider, *, stream: bool = False) -> httpx.Response:
    body = ASKED | ({"stream": True} if stream else {})
    headers = await broker.inference.get_request_headers(provider, body)
    raw = await sdk.chat.completions.with_raw_response.create(**body, extra_headers=headers)
    await raw.http_response.aread()
    return raw.http_response


class TestAsking:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_an_answer_is_verified(self, network, broker, sdk, stream):
        """Every hash is recomputed from the bytes, and the provider's acknowledged signer stands for the text."""
        provider = network.operators[0]
        response = await exchange(sdk, broker, provider, stream=stream)
        found = await broker.inference.process_response(provider, response)
        assert (found.result, bool(found)) == ("verified", True), found.reason

    async def test_a_client_that_signs_by_itself(self, network, broker):
        """Given the broker's auth, an `openai` client is used as ever; each of its requests is signed for."""
        provider = network.operators[0]
        meta = await broker.inference.get_service_metadata(provider)
        async with (
            httpx.AsyncClient(auth=broker.inference.auth(provider)) as http,
            AsyncOpenAI(base_url=meta.endpoint, api_key="any", http_client=http, max_retries=0) as client,
        ):
            answers = [await client.chat.completions.create(**ASKED | {"model": meta.model}) for _ in range(2)]
        assert len({answer.id for answer in answers}) == 2

    async def test_only_what_is_missing_is_transferred(self):
        """Headers find the money there, or bring what is not; whoever asks for several at once does so once."""
        async with (
            running_aos(name=MODEL, clock=SystemClock()) as network,
            create_broker(network.address, network.token, wallet=OperatorKey.create()) as broker,
        ):
            await self._ask_again_and_again(broker, network.operators[0])

    @staticmethod
    async def _ask_again_and_again(broker: ComputeBroker, provider: str) -> None:
        await broker.inference.get_request_headers(provider, ASKED, max_fee=50_000)
        before = await broker.inference.get_account(provider)
        await asyncio.gather(*(broker.inference.get_request_headers(provider, ASKED, max_fee=50_000) for _ in range(5)))
        assert (await broker.inference.get_account(provider)).balance == before.balance
        wanted = before.spendable + 7
        await asyncio.gather(*(broker.inference.get_request_headers(provider, ASKED, max_fee=wanted) for _ in range(5)))
        assert (await broker.inference.get_account(provider)).spendable == wanted

    async def test_documented_names(self, network):
        """Whoever comes with the names of before finds the same."""
        async with createZGComputeNetworkBroker(network.address, network.token) as broker:
            inference = broker.inference
            services = await inference.listService()
            assert [(one.provider.lower(), one.model) for one in services] == [(network.operators[0].lower(), MODEL)]
            assert (await inference.getServiceMetadata(services[0].provider)).endpoint == f"{network.url}/v1/proxy"
            for name in ("getRequestHeaders", "processResponse", "acknowledgeProviderSigner"):
                assert callable(getattr(inference, name))

    async def test_what_cannot_be_signed_for(self, network, broker):
        """A body without its model, a provider that is none, a time that is too long, and no wallet."""
        provider = network.operators[0]
        for body in ('[{"role": "user"}]', "{", {}):
            with pytest.raises(InvalidField, match="body"):
                await broker.inference.get_request_headers(provider, body)
        with pytest.raises(OtherProvider):
            await broker.inference.get_request_headers("0x" + 40 * "a", ASKED)
        with pytest.raises(InvalidField, match="good_seconds"):
            await broker.inference.get_request_headers(provider, ASKED, good_seconds=100_000)
        async with create_broker(network.address, network.token) as bare:
            with pytest.raises(InvalidField, match="wallet"):
                await bare.inference.get_request_headers(provider, ASKED)


class TestVerifying:
    async def test_a_byte_that_was_changed(self, network, broker, sdk):
        """In what was sent or in what was received: it failed, and the reason says where to look."""
        provider = network.operators[0]
        response = await exchange(sdk, broker, provider)
        sent, received = response.request.content, response.content
        for one, other in (
            (sent.replace(b"AI", b"BI"), received),
            (sent, received.replace(b'"stop', b'"stpo').replace(b"A", b"B")),
        ):
            found = await broker.inference.verify(provider, one, other, response.headers["zg-res-key"])
            assert (found.result, "hashes" in found.reason) == ("failed", True)

    async def test_what_is_not_known_is_not_verified(self, network, broker, sdk):
        """No signature, no acknowledged signer, nothing that is a chat: none of them passes, and none is called a fraud."""
        provider = network.operators[0]
        response = await exchange(sdk, broker, provider)
        sent, received = response.request.content, response.content
        inference = broker.inference
        for found in (
            await inference.verify(provider, sent, received, "cmpl-1"),
            await inference.verify("0x" + 40 * "a", sent, received),
            await inference.verify(provider, sent, b"no chat"),
            await inference.verify(provider, sent, b"{}"),
        ):
            assert (found.result, bool(found)) == ("not verifiable", False)

    async def test_hashes_that_somebody_else_signed(self, network, broker, sdk):
        """Who knows which key signs answers accepts no other."""
        provider = network.operators[0]
        response = await exchange(sdk, broker, provider)
        signed = (await sdk.get(f"/signature/{response.headers['zg-res-key']}", cast_to=object))["signing_address"]
        for signer, result in ((signed, "verified"), ("0x" + 40 * "b", "failed")):
            async with create_broker(network.address, network.token, answers_signer=signer) as other:
                assert (await other.inference.process_response(provider, response)).result == result

    async def test_a_signer_who_did_not_answer(self, network, broker, sdk):
        """An answer counts as the acknowledged signer's only with its receipt."""
        from aos.compute.inference_check import check_answer, read_answer
        from aos.v1.dispatcher_pb2 import GetReceiptRequest

        provider = network.operators[0]
        response = await exchange(sdk, broker, provider)
        answer = read_answer(response.content)
        bundle = await network.dispatcher.GetReceipt(GetReceiptRequest(name=answer.job))
        assert check_answer(ASKED, answer, bundle, signer=provider).result == "verified"
        assert check_answer(ASKED, answer, bundle, signer="0x" + 40 * "a").result == "failed"
        other = ASKED | {"messages": [{"role": "user", "content": "What is OPML?"}]}
        assert check_answer(other, answer, bundle, signer=provider).result == "failed"
        told = SimpleNamespace(job=answer.job, text=f"{answer.text}!")
        assert check_answer(ASKED, told, bundle, signer=provider).result == "failed"
        parts = ASKED | {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is AI?"}]}]}
        assert check_answer(parts, answer, bundle, signer=provider).result == "not verifiable"
