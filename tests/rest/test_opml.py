"""The OPML worker's dialect over a real Envoy: `/api/v1/status`, `/api/v1/question`, `/api/v1/answer`, `/healthcheck`."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest
import pytest_asyncio
from google.protobuf.json_format import ParseDict

from aos.clock import SystemClock
from aos.operator.llama import loaded
from aos.operator.settings import QuestionSettings
from aos.settings import bundled_model
from aos.testing.harness import ADMIN_TOKEN, running_aos
from aos.testing.scripted import ScriptedModel
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.verification.callback import check_callback
from aos.verification.receipts import check_bundle
from tests.operator.receiver import receiving

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = bundled_model().stem
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
ANSWER = [
    "node_id", "req_id", "status", "model", "prompt", "answer", "state_root", "reason", "receipt", "callback",
]  # fmt: skip
SECONDS = 60


def client_of(network, token: str = ADMIN_TOKEN) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(base_url=network.url, headers=headers, timeout=20)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network():
    """The demo model on the real llama.cpp."""
    async with loaded(bundled_model()) as model, running_aos(model, name=MODEL, envoy=True, clock=SystemClock()) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def worker(network):
    async with client_of(network) as client:
        yield client


async def answered(worker: httpx.AsyncClient, req_id: str) -> dict:
    """What is said of the question, once it has ended."""
    async with asyncio.timeout(SECONDS):
        while True:
            reply = await worker.get(f"/api/v1/answer/{req_id}")
            assert reply.status_code == 200, reply.text
            if (data := reply.json()["data"])["status"] != "pending":
                return data


class TestStatus:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_a_free_operator_says_so(self, network, worker, method):
        """Both methods that are in use: `msg` "0", and `data` as an object with the operator's address."""
        reply = await worker.request(method, "/api/v1/status")

        assert reply.status_code == 200
        assert reply.json() == {"code": 0, "msg": "0", "data": {"status": 0, "node_id": network.operators[0]}}

    async def test_a_body_that_is_no_json_does_not_matter(self, worker):
        """Some callers send an empty body, or a form."""
        for body in (b"", b"x=y", b"{"):
            assert (await worker.post("/api/v1/status", content=body)).json()["msg"] == "0"


class TestQuestion:
    async def test_its_callback_has_the_answer(self, network, worker):
        """The real model's answer comes signed, and is the same that `answer` gives, with a receipt that can be checked."""
        async with receiving() as receiver:
            body = {"model": MODEL, "prompt": "What is AI?", "callback": receiver.url, "req_id": "first-1"}
            reply = await worker.post("/api/v1/question", json=body)
            assert reply.json() == {"code": 0, "msg": "", "data": {"node_id": network.operators[0], "req_id": "first-1"}}
            (called,) = await receiver.calls(1)
        headers, raw = receiver.heard[0]
        kept = await answered(worker, "first-1")
        bundle = ParseDict(kept["receipt"], ReceiptBundle())

        assert list(called) == ["node_id", "req_id", "model", "prompt", "answer", "state_root"]
        assert len(called["answer"]) > 20
        assert re.fullmatch("0x[0-9a-f]{64}", called["state_root"])
        assert called == {name: kept[name] for name in called}
        assert check_callback(raw, headers["x-aos-signature"], network.operators[0]) == called["node_id"]
        assert list(kept) == ANSWER
        assert (kept["status"], kept["reason"]) == ("done", "")
        assert bundle.output == kept["answer"]
        assert all(finding.good is not False for finding in check_bundle(bundle)), list(check_bundle(bundle))

    async def test_an_id_is_made_if_none_comes(self, worker):
        """Without `req_id` and `callback`, the reply names the question, and the answer waits under that name."""
        reply = await worker.post("/api/v1/question", json={"model": MODEL, "prompt": "What is AI?"})
        req_id = reply.json()["data"]["req_id"]

        assert UUID.fullmatch(req_id)
        kept = await answered(worker, req_id)
        assert kept["callback"] == {"url": "", "status": "none", "attempts": 0, "reason": ""}

    async def test_a_retry_is_safe(self, worker):
        """The same question with the same id is one question; another one under that id is refused."""
        body = {"model": MODEL, "prompt": "What is AI?", "req_id": "retried"}
        first, second = [await worker.post("/api/v1/question", json=body) for _ in range(2)]
        other = await worker.post("/api/v1/question", json=body | {"prompt": "Why?"})

        assert first.json() == second.json()
        assert (other.status_code, other.json()["code"]) == (409, -503)

    @pytest.mark.parametrize(
        ("body", "status", "code", "begins"),
        [
            (b"", 400, -502, "body: is empty"),
            (b"{", 400, -502, "body: is not JSON"),
            (b"[]", 400, -502, "body: must be a JSON object"),
            (b'{"prompt": "hi"}', 400, -503, "model: is missing"),
            (b'{"model": "m"}', 400, -503, "prompt: is missing"),
            (b'{"model": "m", "prompt": ""}', 400, -503, "prompt: must not be empty"),
            (b'{"model": "m", "prompt": 1}', 400, -503, "prompt: must be a string"),
            (b'{"model": "m", "prompt": "hi"}', 404, -503, "model: There is no model 'm'"),
            (b'{"model": "m", "prompt": "hi", "req_id": "a b"}', 400, -503, "req_id: must have 1 to 128"),
            (b'{"model": "m", "prompt": "hi", "promt": "hi"}', 400, -503, "promt: is not known"),
            (b'{"model": "m", "prompt": "hi", "callback": "http://10.0.0.1/"}', 400, -503, "callback: leads to 10.0.0.1"),
            (b'{"model": "m", "prompt": "hi", "callback": "file:///etc/passwd"}', 400, -503, "callback: must begin with http"),
        ],
    )
    async def test_refused(self, worker, body, status, code, begins):
        """What cannot be asked is refused with a real status, the documented code and the field's name."""
        reply = await worker.post("/api/v1/question", content=body)

        assert reply.status_code == status
        assert set(reply.json()) == {"code", "msg", "data"}
        assert (reply.json()["code"], reply.json()["data"]) == (code, "")
        assert reply.json()["msg"].startswith(begins), reply.text

    async def test_too_large(self, worker):
        """A body above 2 MiB is refused unread."""
        reply = await worker.post("/api/v1/question", json={"model": MODEL, "prompt": "x" * (3 << 20)})

        assert (reply.status_code, reply.json()["code"]) == (413, -501)
        assert reply.json()["msg"].startswith("body: is too large")

    async def test_a_prompt_beyond_the_context_fails_with_its_reason(self, worker):
        """It was taken, because only the model counts tokens; the answer says why there is none."""
        body = {"model": MODEL, "prompt": "word " * 20_000, "req_id": "long"}
        assert (await worker.post("/api/v1/question", json=body)).status_code == 200
        kept = await answered(worker, "long")

        assert (kept["status"], kept["answer"], kept["receipt"]) == ("failed", "", None)
        assert "tokens" in kept["reason"]


class TestBusy:
    async def test_a_full_queue_refuses_at_once(self):
        """Busy while a question would have to wait; beyond the limit 429, `jobs exceed`, and when to come again."""
        model, limits = ScriptedModel("It is ", "mathematics."), QuestionSettings(unanswered=2, at_once=1)
        async with (
            running_aos(model, envoy=True, clock=SystemClock(), questions=limits) as network,
            client_of(network) as worker,
        ):
            hold = model.hold(after="It is ")
            said = [await worker.post("/api/v1/question", json={"model": "scripted", "prompt": "hi"}) for _ in range(3)]
            busy = await worker.get("/api/v1/status")
            hold.release()
            kept = [await answered(worker, one.json()["data"]["req_id"]) for one in said[:2]]
            free = await worker.get("/api/v1/status")

        assert [one.status_code for one in said] == [200, 200, 429]
        assert said[2].json() == {"code": -1, "msg": "jobs exceed", "data": ""}
        assert int(said[2].headers["retry-after"]) >= 1
        assert (busy.json()["msg"], busy.json()["data"]["status"]) == ("1", 1)
        assert [one["answer"] for one in kept] == ["It is mathematics."] * 2
        assert free.json()["msg"] == "0"


class TestAccess:
    @pytest.mark.parametrize("path", ["/api/v1/status", "/api/v1/answer/first-1"])
    @pytest.mark.parametrize("token", ["", "wrong"])
    async def test_without_the_operators_token_nothing_is_said(self, network, path, token):
        """Neither is a project's token one: questions are the operator's own, unpaid work."""
        for one in (token, network.token):
            async with client_of(network, one) as stranger:
                reply = await stranger.get(path)
            assert (reply.status_code, reply.json()["code"]) == (401, -500)

    async def test_without_the_operators_token_nothing_is_taken(self, network):
        """A question without it is refused."""
        async with client_of(network, "") as stranger:
            reply = await stranger.post("/api/v1/question", json={"model": MODEL, "prompt": "hi"})
        assert (reply.status_code, reply.json()["code"]) == (401, -500)

    async def test_health_is_for_anyone(self, network):
        """`/healthcheck` says `ok`, and nothing else."""
        async with client_of(network, "") as stranger:
            reply = await stranger.get("/healthcheck")
        assert (reply.status_code, reply.text) == (200, "ok")

    async def test_dev_mode_needs_no_token(self):
        """In loopback dev mode questions are taken from anyone; the operator's other powers stay closed."""
        async with running_aos(envoy=True, clock=SystemClock(), open_to_all=True) as network, client_of(network, "") as anyone:
            reply = await anyone.post("/api/v1/question", json={"model": "scripted", "prompt": "hi", "req_id": "open"})
            kept = await answered(anyone, "open")

        assert reply.status_code == 200
        assert kept["answer"] == "Scripted."


class TestPaths:
    async def test_another_method(self, worker):
        """A method that a path does not take is refused with those that it takes, in this dialect's shape."""
        status, question = await worker.delete("/api/v1/status"), await worker.get("/api/v1/question")

        assert (status.status_code, status.headers["allow"]) == (405, "GET, POST")
        assert (question.status_code, question.headers["allow"]) == (405, "POST")
        assert question.json() == {"code": -500, "msg": "This path takes POST.", "data": ""}

    @pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v1/answer/unheard-of", "/api/v1/answer/"])
    async def test_what_is_not_there(self, worker, path):
        """Unknown paths and unknown questions are 404 in this dialect's shape."""
        reply = await worker.get(path)
        assert (reply.status_code, reply.json()["code"], reply.json()["data"]) == (404, -500, "")
