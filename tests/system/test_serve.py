"""A network whose services are processes of their own, behind Envoy, as its users and its administrator see it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import grpc
import httpx
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from aos.rpc.channel import channel
from aos.serving.processes import serving_gateway
from aos.serving.settings import GatewayProcess
from aos.v1 import broker_pb2, broker_pb2_grpc, dispatcher_pb2, dispatcher_pb2_grpc, registry_pb2, registry_pb2_grpc
from aos.v1.requests_pb2 import AuthorizeWalletRequest
from aos.v1.requests_pb2_grpc import RequestsStub
from aos.verification.requests import exchange_signer
from gateway.v1.zerog_pb2 import GetChatSignatureRequest
from gateway.v1.zerog_pb2_grpc import ZerogStub
from tests.refusals import refused
from tests.rest.paying import FUNDS, Wallet
from tests.system.serving import ADMIN, SERVICE, Network, network

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALL = ("registry", "broker", "dispatcher", "gateway", "envoy", "operator")
ASKED = {"model": "aos-demo", "messages": [{"role": "user", "content": "What is AI?"}], "max_tokens": 24}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory) -> Network:
    async with network(tmp_path_factory.mktemp("network"), *ALL) as running:
        await running.ready()
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(served):
    headers = {"authorization": f"Bearer {served.token}"}
    async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=60) as opened:
        yield opened


class TestCallers:
    async def test_the_stock_client_is_answered(self, served):
        """OpenAI's client gets the model's list, an answer, and the same answer as a stream."""
        async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key=served.token, max_retries=0) as sdk:
            models = [model.id async for model in sdk.models.list()]
            answer = await sdk.chat.completions.create(**ASKED, seed=1, temperature=0)
            parts = [part async for part in await sdk.chat.completions.create(**ASKED, seed=1, temperature=0, stream=True)]
        assert "aos-demo" in models
        text = answer.choices[0].message.content
        assert text
        assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == text

    async def test_every_service_is_on_the_port(self, served, client):
        """Jobs, accounts, models and the page are reached by REST, each where it is; so are they by gRPC."""
        job = (await client.post("/v1/jobs", json={"order": {"model": "aos-demo", "prompt": "AI is"}})).json()
        replies = [await client.get(path) for path in (f"/v1/{job['name']}", "/v1/accounts/-", "/v1/models", "/")]
        async with channel(served.address, served.token) as opened:
            operators = await registry_pb2_grpc.RegistryStub(opened).ListOperators(registry_pb2.ListOperatorsRequest())
        assert [reply.status_code for reply in replies] == [200, 200, 200, 200]
        assert len(operators.operators) == 1

    async def test_what_a_job_costs_is_paid_across_processes(self, served, client):
        """The dispatcher reserves at the broker, and settles there; nothing stays held."""
        before = int((await client.get("/v1/accounts/-")).json()["available"])
        assert (await client.post("/v1/chat/completions", json=ASKED)).status_code == 200
        async with asyncio.timeout(20):
            while (account := (await client.get("/v1/accounts/-")).json())["held"] != "0":
                await asyncio.sleep(0.05)
        assert 0 < before - int(account["available"]) < 10**15

    async def test_a_wallet_is_answered_as_the_project_that_pays(self, served):
        """The gateway acts for the project that a signature stands for, and signs the bytes it sent, which any gateway shows."""
        async with channel(served.address, served.token) as opened:
            (operator,) = (
                await registry_pb2_grpc.RegistryStub(opened).ListOperators(registry_pb2.ListOperatorsRequest())
            ).operators
            provider, broker = operator.name.removeprefix("operators/"), broker_pb2_grpc.BrokerStub(opened)
            wallet = Wallet("accounts/demo", provider, now=int(datetime.now(UTC).timestamp()))
            await RequestsStub(opened).AuthorizeWallet(AuthorizeWalletRequest(wallet=wallet.key.address))
            await broker.TransferFund(
                broker_pb2.TransferFundRequest(provider=provider, service="inference", amount=str(10**6 * FUNDS))
            )
            signer = broker_pb2.AcknowledgeSignerRequest(provider=provider, service="inference", signer=provider)
            await broker.AcknowledgeSigner(signer)
        headers = wallet.headers(ASKED, max_fee=str(10**14))
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as bare:
            reply = await bare.post("/v1/proxy/chat/completions", json=ASKED, headers=headers)
            assert reply.status_code == 200, reply.text
            ids = reply.json()["id"], reply.headers["zg-res-key"]
            signed = (await bare.get(f"/v1/proxy/signature/{ids[0]}")).json()
            unsigned = await bare.post("/v1/proxy/chat/completions", json=ASKED)
        assert hashlib.sha256(reply.content).hexdigest() in signed["text"]
        assert exchange_signer(signed["text"], signed["signature"])
        assert unsigned.status_code == 401
        # another gateway, which has sent nothing yet
        at = {name: served.running[name].listen[0] for name in ("dispatcher", "registry", "broker")}
        settings = GatewayProcess(
            listen=(f"unix:{served.folder}/other.socket",),
            dispatchers=at["dispatcher"],
            registry=at["registry"],
            broker=at["broker"],
            admin_token=ADMIN,
            service_token=SERVICE,
            answers_key=served.folder / "answers.key",
            notice=0,
        )
        async with serving_gateway(settings) as (address,), channel(address) as opened:
            stub = ZerogStub(opened)
            shown = [json.loads((await stub.GetChatSignature(GetChatSignatureRequest(chat=one))).data) for one in ids]
        assert shown == [signed, signed]


class TestTokens:
    @pytest.mark.parametrize(
        ("token", "reason"), [("", "UNAUTHENTICATED"), ("wrong-token-of-nobody", "UNAUTHENTICATED"), (None, "PERMISSION_DENIED")]
    )
    async def test_services_are_closed_to_others(self, served, token, reason):
        """What services alone may do is refused to nobody, to strangers, and to a project, at the broker's own address too."""
        for address in (served.address, served.running["broker"].listen[0]):
            async with channel(address, served.token if token is None else token) as opened:
                with refused(reason):
                    await broker_pb2_grpc.BrokerStub(opened).Reserve(broker_pb2.ReserveRequest())

    async def test_a_projects_token_is_known_where_projects_are_not(self, served):
        """Registry and broker ask the dispatchers; one project does not see another's account."""
        async with channel(served.address, ADMIN) as admin:
            request = dispatcher_pb2.CreateProjectRequest(project_id="other")
            other = (await dispatcher_pb2_grpc.DispatcherStub(admin).CreateProject(request)).token
        async with channel(served.address, other) as opened:
            broker = broker_pb2_grpc.BrokerStub(opened)
            with refused("PERMISSION_DENIED"):
                await broker.GetAccount(broker_pb2.GetAccountRequest(name="accounts/demo"))

    async def test_nobody_outside_acts_for_a_project(self, served):
        """Envoy takes the word for it from every call, whoever makes it."""
        async with channel(served.address, SERVICE) as opened:
            stub = dispatcher_pb2_grpc.DispatcherStub(opened)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetProject(
                    dispatcher_pb2.GetProjectRequest(name="projects/-"), metadata=(("x-aos-project", "projects/demo"),)
                )
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED

    async def test_no_secret_is_on_a_command_line_or_in_a_log(self, served):
        """Neither the tokens of the settings nor the project's are where other users or readers of logs see them."""
        said = "".join(one.log() for one in served.running.values())
        lines = "".join((Path("/proc") / str(one.process.pid) / "cmdline").read_text() for one in served.running.values())
        assert not any(secret in said + lines for secret in (ADMIN, SERVICE, served.token))


class TestMetrics:
    async def test_the_operators_are_told_with_the_gateways(self, served):
        """The administrator gets the gateway's metrics and those of the operators that it is told of."""
        async with httpx.AsyncClient(base_url=served.url, timeout=30) as client:
            refused_ = await client.get("/metrics", headers={"authorization": f"Bearer {served.token}"})
            text = (await client.get("/metrics", headers={"authorization": f"Bearer {ADMIN}"})).text
        assert refused_.status_code == 403
        assert "aos_operators_silent 0" in text
        assert 'operator="0x' in text
