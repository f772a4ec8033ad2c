"""The node face over REST: `/api/v0/ai/project/register`, `/unregister`, and what `/v1/models` says of it."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import AsyncGenerator

import httpx
import pytest
import pytest_asyncio

from aos.client import Client
from aos.clock import SystemClock
from aos.rpc.channel import channel
from aos.testing.harness import Aos, running_aos
from aos.v1 import registry_pb2 as pb
from aos.v1.types_pb2 import Price
from aos.verification.keys import OperatorKey, prove
from aos.verification.projects import prove_request

pytestmark = pytest.mark.asyncio(loop_scope="module")

REGISTER, UNREGISTER = "/api/v0/ai/project/register", "/api/v0/ai/project/unregister"
API = "http://127.0.0.1:1088/v1/chat/completions"
SEED = {
    "project": "DecentralGPT",
    "models": [
        {"model": "Llama3-70B", "api": "http://127.0.0.1:1042/v1/chat/completions", "type": 0},
        {"model": "SuperImage", "api": "http://127.0.0.1:1088/v1/images/generations", "type": 1},
    ],
}
"""The body that the model interface documents: no `cid`."""
ROW = ["id", "project", "model", "api", "type", "cid", "operator", "state", "reason", "capabilities", "running", "checked",
       "next_probe", "expires_at", "result"]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dev() -> AsyncGenerator[Aos]:
    """A network in loopback development mode, behind Envoy."""
    async with running_aos(envoy=True, clock=SystemClock(), open_to_all=True) as network:
        yield network


@pytest_asyncio.fixture(loop_scope="module")
async def node(dev: Aos) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=dev.url, timeout=20) as client:
        yield client


def proof(key: OperatorKey, request) -> dict[str, object]:
    made = prove_request(key, request, issued_at=int(time.time()))
    return {"operator": made.operator, "issued_at": made.issued_at, "signature": made.signature.hex()}


def signed(key: OperatorKey, project: str, *models: str, api: str = API) -> dict[str, object]:
    """A registration's body with its proof."""
    replicas = [pb.ReplicaSpec(model=model, api=api) for model in models]
    said = pb.RegisterProjectRequest(project=project, replicas=replicas)
    return {"project": project, "models": [{"model": model, "api": api} for model in models], "proof": proof(key, said)}


def ended(key: OperatorKey, project: str) -> dict[str, object]:
    return {"project": project, "proof": proof(key, pb.UnregisterProjectRequest(project=project))}


async def listed(client: httpx.AsyncClient, **query: str) -> dict[str, dict]:
    reply = await client.get("/v1/models", params=query)
    assert reply.status_code == 200, reply.text
    return {one["id"]: one for one in reply.json()["data"]}


class TestDevelopment:
    async def test_the_documented_body_is_taken(self, node):
        """Code 0 and `ok`, with the lease, its end, and a row for each model."""
        reply = await node.post(REGISTER, json=SEED)
        told = reply.json()
        assert (reply.status_code, told["code"], told["message"]) == (200, 0, "ok")
        assert len(told["lease_id"]) == 32
        assert time.time() < told["expires_at"] < time.time() + 60
        assert [list(one) for one in told["replicas"]] == [ROW, ROW]
        assert [(one["model"], one["type"], one["cid"], one["result"]) for one in told["replicas"]] == [
            ("Llama3-70B", 0, "", "added"),
            ("SuperImage", 1, "", "added"),
        ]
        again = (await node.post(REGISTER, json=SEED)).json()
        assert [one["result"] for one in again["replicas"]] == ["kept", "kept"]
        assert [one["id"] for one in again["replicas"]] == [one["id"] for one in told["replicas"]]

    async def test_a_shorter_list_takes_the_missing_model_away(self, node):
        """From the list of models too."""
        body = {"project": "shrinks", "models": [{"model": name, "api": API} for name in ("stays", "leaves")]}
        await node.post(REGISTER, json=body)
        assert set(await listed(node, project="shrinks")) == {"stays", "leaves"}
        told = (await node.post(REGISTER, json=body | {"models": body["models"][:1]})).json()
        assert {one["model"]: one["result"] for one in told["replicas"]} == {"stays": "kept", "leaves": "removed"}
        assert set(await listed(node, project="shrinks")) == {"stays"}

    async def test_unregistered_twice(self, node):
        """`ok`, then `not existed`, both with code 0."""
        await node.post(REGISTER, json=SEED | {"project": "twice"})
        first = await node.post(UNREGISTER, json={"project": "twice", "force": True})
        assert (first.status_code, first.json()["code"], first.json()["message"]) == (200, 0, "ok")
        assert first.json()["state"] == "gone"
        second = await node.post(UNREGISTER, json={"project": "twice"})
        assert (second.status_code, second.json()) == (200, {"code": 0, "message": "not existed", "project": "twice"})
        assert await listed(node, project="twice") == {}


class TestRefusals:
    @pytest.mark.parametrize(
        ("models", "field"),
        [
            ([{"model": "m", "api": "http://10.0.0.1:1088/v1"}], "models[0].api"),
            ([{"model": "m", "api": "http://example.com@127.0.0.1/"}], "models[0].api"),
            ([{"model": "m", "api": "http://169.254.169.254/latest"}], "models[0].api"),
            ([{"model": "m", "api": "http://[::ffff:10.0.0.1]/"}], "models[0].api"),
            ([{"model": "m", "api": API, "type": 3}], "models[0].type"),
            ([{"model": "m", "api": API, "type": "0"}], "models[0].type"),
            ([{"model": "m", "api": API}, {"model": "", "api": API}], "models[1].model"),
            ([{"model": "m"}], "models[0].api"),
            ([{"model": "m", "api": API, "nonsense": 1}], "models[0].nonsense"),
            ([{"model": "m", "api": API}] * 2, "models[1]"),
            ([], "models"),
            ([{}] * 20_000, "models"),
        ],
    )
    async def test_a_wrong_field_is_1001_and_400(self, node, models, field):
        """It is named, with its value and limit where it has them, and nothing is registered."""
        reply = await node.post(REGISTER, json={"project": "refused", "models": models})
        told = reply.json()
        assert (reply.status_code, told["code"], told["field"]) == (400, 1001, field)
        assert told["message"].startswith(f"{field}: ")
        assert told["error"]["param"] == field
        assert {"value", "limit"} <= told.keys()
        assert await listed(node, project="refused") == {}

    async def test_a_hundred_thousand_models_are_refused_before_they_are_read(self, dev):
        """By the size of the body, whose limit is named."""
        body = json.dumps({"project": "flood", "models": [{"model": f"m{index}", "api": API} for index in range(100_000)]})
        url = httpx.URL(dev.url)
        with contextlib.closing(socket.create_connection((url.host, url.port), timeout=10)) as raw:
            raw.sendall(f"POST {REGISTER} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode())
            head, _, answer = raw.recv(65536).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413")
        told = json.loads(answer)
        assert (told["code"], told["error"]["type"]) == (5000, "invalid_request_error")
        assert "at most 2097152 bytes" in told["message"]

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"project":"p","project":"q"}'])
    async def test_what_is_no_object_is_1002(self, node, body):
        """Parsing and parameters are told apart."""
        for path in (REGISTER, UNREGISTER):
            reply = await node.post(path, content=body, headers={"content-type": "application/json"})
            assert (reply.status_code, reply.json()["code"]) == (400, 1002)

    @pytest.mark.parametrize("path", [REGISTER, UNREGISTER])
    async def test_another_method_is_1011(self, node, path):
        """405, and which one is right."""
        reply = await node.get(path)
        assert (reply.status_code, reply.headers["allow"], reply.json()["code"]) == (405, "POST", 1011)

    async def test_outside_development_a_proof_is_needed(self, rest):
        """1010 and 401, whatever token is sent."""
        for path, body in ((REGISTER, SEED), (UNREGISTER, {"project": "p"})):
            reply = await rest.post(path, json=body)
            assert (reply.status_code, reply.json()["code"]) == (401, 1010)
            assert reply.json()["error"]["code"] == "invalid_signature"

    async def test_another_keys_project_is_1010(self, rest):
        """403: it is known who asks, and that is not the owner."""
        assert (await rest.post(REGISTER, json=signed(OperatorKey.create(), "owned", "m"))).status_code == 200
        reply = await rest.post(REGISTER, json=signed(OperatorKey.create(), "owned", "m"))
        assert (reply.status_code, reply.json()["code"]) == (403, 1010)

    async def test_a_signature_over_something_else_is_1010(self, rest):
        """Whoever changes a body on its way is found out."""
        body = signed(OperatorKey.create(), "mine", "m") | {"project": "theirs"}
        reply = await rest.post(REGISTER, json=body)
        assert (reply.status_code, reply.json()["code"]) == (401, 1010)


class TestModels:
    async def test_each_says_how_it_is_and_where(self, aos_rest, rest):
        """From registered over checked to ready, and gone at once when it is unregistered."""
        key, registry = OperatorKey.create(), aos_rest.registry
        told = (await rest.post(REGISTER, json=signed(key, "shop", "Qwen2"))).json()
        one = (await listed(rest))["Qwen2"]
        assert (one["object"], one["owned_by"], one["url"], one["type"]) == ("model", "shop", API, 0)
        assert (one["state"], one["reason"]) == ("registered", "its operator has not checked it yet")
        assert (one["weight_hash"], one["context_length"], one["price"]) == (None, None, None)

        identity = told["replicas"][0]["id"]
        await report(registry, key, identity)
        assert (await listed(rest))["Qwen2"]["state"] == "unavailable"
        offer = pb.Offer(model="Qwen2", digest="ab" * 32, context_length=8, chat=True, slots=1, replicas=[identity],
                         price=Price(prompt_token="1", completion_token="2"))  # fmt: skip
        offered = pb.RegisterOperatorRequest(proof=prove(key, "register", [offer], issued_at=int(time.time())), offers=[offer])
        await registry.RegisterOperator(offered)
        one = (await rest.get("/v1/models/Qwen2")).json()
        assert (one["state"], one["reason"], one["weight_hash"], one["context_length"]) == ("ready", "", "ab" * 32, 8)
        assert one["price"] == {"prompt_token": "1", "completion_token": "2"}
        assert [(row["state"], row["capabilities"]) for row in one["replicas"]] == [("healthy", ["chat"])]

        assert (await rest.post(UNREGISTER, json=ended(key, "shop"))).json()["message"] == "ok"
        assert (await rest.get("/v1/models/Qwen2")).status_code == 404
        assert "Qwen2" not in await listed(rest)

    async def test_the_list_can_be_of_one_project(self, aos_rest, rest):
        """`aos` are the network's own; one that is not there has none."""
        await rest.post(REGISTER, json=signed(OperatorKey.create(), "one", "a", "b"))
        whole = (await rest.get("/v1/models")).json()
        assert (whole["object"], whole["project"]) == ("list", "aos")
        assert {"a", "b", "scripted"} <= {one["id"] for one in whole["data"]}
        mine = (await rest.get("/v1/models", params={"project": "one"})).json()
        assert (mine["project"], [one["id"] for one in mine["data"]]) == ("one", ["a", "b"])
        assert set(await listed(rest, project="aos")) == {"scripted"}
        assert await listed(rest, project="nobody") == {}

    async def test_a_registered_model_is_found_by_its_name(self, rest):
        """Before any operator offers it."""
        await rest.post(REGISTER, json=signed(OperatorKey.create(), "named", "org/model:7b"))
        assert (await rest.get("/v1/models/org/model:7b")).json()["id"] == "org/model:7b"

    async def test_the_shape_is_the_same_for_all(self, rest):
        """What operators run themselves and what is registered have the same keys in the same order."""
        await rest.post(REGISTER, json=signed(OperatorKey.create(), "shape", "z"))
        models = await listed(rest)
        assert list(models["z"]) == list(models["scripted"])


async def report(registry, key: OperatorKey, identity: str) -> None:
    request = pb.ReportReplicasRequest(
        reports=[pb.ReplicaReport(id=identity, state=pb.REPLICA_STATE_HEALTHY, capabilities=["chat"])]
    )
    request.proof.CopyFrom(prove_request(key, request, issued_at=int(time.time())))
    await registry.ReportReplicas(request)


class TestNative:
    async def test_the_log_is_the_administrators(self, aos_rest, rest):
        """Through Envoy as well."""
        key = OperatorKey.create()
        await rest.post(REGISTER, json=signed(key, "logged", "m"))
        async with channel(aos_rest.address, aos_rest.admin_token) as opened:
            log = await Client(opened).registry.ListAudit(pb.ListAuditRequest(page_size=1000))
        assert (key.address.lower(), "register-project", "logged") in {(one.actor, one.action, one.subject) for one in log.entries}
