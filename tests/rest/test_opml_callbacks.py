"""The dispatcher's route for OPML callbacks: `/api/opml_callback`."""

from __future__ import annotations

import asyncio
import json

import pytest
import pytest_asyncio

from aos.clock import SystemClock
from aos.operator.node import running_operator
from aos.rpc.channel import channel
from aos.testing.harness import PRICE, running_aos
from aos.testing.scripted import ScriptedModel
from aos.v1.types_pb2 import Order
from aos.verification.callback import callback_body, sign_callback
from aos.verification.keys import OperatorKey
from tests.rest.test_opml import client_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "worker"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network():
    """A network with one more operator, whose key the tests hold and which alone runs `worker`."""
    key = OperatorKey.create()
    async with (
        running_aos(envoy=True, clock=SystemClock()) as running,
        channel(running.address) as outward,
        running_operator(
            key,
            {MODEL: ScriptedModel("It is mathematics.")},
            registry=outward,
            dispatcher=outward,
            price=PRICE,
            clock=SystemClock(),
            random=lambda: 0.0,
            grace=0,
        ) as operator,
    ):
        async with asyncio.timeout(20):
            await operator.attached()
        yield running, key


async def done(network) -> tuple[str, str, str]:
    """A job of the worker's, once it is done: its id, its answer and its state root."""
    running, _ = network
    job = await running.client.submit(Order(model=MODEL, prompt="What is AI?"))
    outcome = await running.client.outcome(job)
    return job.name.removeprefix("jobs/"), outcome.text, f"0x{outcome.receipt.state_root.hex()}"


def said(key: OperatorKey, job: str, answer: str, root: str) -> bytes:
    said = {"node_id": key.address, "model": MODEL, "prompt": "What is AI?"}
    return callback_body(**said, req_id=job, answer=answer, state_root=root)


async def post(network, body: bytes, signature: str | None):
    running, _ = network
    headers = {} if signature is None else {"x-aos-signature": signature}
    async with client_of(running, "") as worker:
        return await worker.post("/api/opml_callback", content=body, headers=headers)


class TestCallback:
    async def test_what_the_dispatcher_has_is_confirmed(self, network):
        """A signed callback that says what came with the job's receipt is confirmed with the job's id, again and again."""
        _, key = network
        job, answer, root = await done(network)
        body = said(key, job, answer, root)
        replies = [await post(network, body, sign_callback(body, key)) for _ in range(2)]

        assert answer == "It is mathematics."
        assert [(one.status_code, one.json()) for one in replies] == [(200, {"code": 200, "result": job})] * 2

    @pytest.mark.parametrize(
        ("answer", "root", "field"), [("Another.", None, "answer"), (None, "", "state_root"), (None, f"0x{'0' * 64}", "state_root")]
    )
    async def test_another_answer_is_refused(self, network, answer, root, field):
        """An answer or a root other than the receipt's is refused with the field that differs."""
        _, key = network
        job, right, right_root = await done(network)
        body = said(key, job, right if answer is None else answer, right_root if root is None else root)
        reply = await post(network, body, sign_callback(body, key))

        assert (reply.status_code, reply.json()["result"]) == (400, None)
        assert f"{field}: is not" in reply.json()["message"]

    async def test_unsigned_is_refused(self, network):
        """Without a signature, with another's, or with one of other bytes, nothing is said of the job."""
        _, key = network
        job, answer, root = await done(network)
        body = said(key, job, answer, root)
        for signature in (None, "", "0x00", sign_callback(body, OperatorKey.create()), sign_callback(body + b" ", key)):
            reply = await post(network, body, signature)
            assert (reply.status_code, reply.json()["code"]) == (401, 401), signature

    async def test_strangers_are_refused(self, network):
        """A key that is no registered operator's is refused, however good its signature."""
        stranger = OperatorKey.create()
        job, answer, root = await done(network)
        body = said(stranger, job, answer, root)
        reply = await post(network, body, sign_callback(body, stranger))

        assert reply.status_code == 404
        assert "no operator" in reply.json()["message"]

    @pytest.mark.parametrize("job", ["0" * 64, "question-1", ""])
    async def test_unknown_ids_are_refused(self, network, job):
        """An id that is no job's is 404."""
        _, key = network
        body = said(key, job, "It is mathematics.", "")
        reply = await post(network, body, sign_callback(body, key))

        assert (reply.status_code, reply.json()["code"]) == (404, 404)

    async def test_of_another_operators_job(self, network):
        """An operator cannot speak for another's job."""
        running, key = network
        job = await running.client.submit(Order(model="scripted", prompt="What is AI?"))
        outcome = await running.client.outcome(job)
        body = said(key, job.name.removeprefix("jobs/"), outcome.text, f"0x{outcome.receipt.state_root.hex()}")
        reply = await post(network, body, sign_callback(body, key))

        assert reply.status_code == 403

    @pytest.mark.parametrize(
        ("body", "begins"),
        [
            (b"", "body: is not JSON"),
            (b"[" * 5000, "body: is nested"),
            (b"[]", "body: must be"),
            (b"{}", "node_id: must be a string"),
            (json.dumps({"node_id": "me", "req_id": "", "answer": "", "state_root": ""}).encode(), "node_id: must be 0x"),
        ],
        ids=range(5),
    )
    async def test_junk_is_refused(self, network, body, begins):
        """What is no callback is 400, with the field."""
        reply = await post(network, body, "0x00")

        assert reply.status_code == 400
        assert reply.json()["message"].startswith(begins)
