"""The Operator service: asking one operator directly."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
import pytest_asyncio

from aos.clock import SystemClock
from aos.operator.pool import Pool
from aos.operator.runner import Runner
from aos.order import digest_order
from aos.testing.harness import PRICE, running_aos
from aos.testing.scripted import ScriptedModel
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.v1.operator_pb2 import Chunk, DescribeOperatorRequest, GenerateRequest
from aos.v1.types_pb2 import Order, VectorClock
from aos.verification.clock import NODES
from aos.verification.keys import OperatorKey
from aos.verification.receipts import check_bundle
from tests.operator.orders import asking
from tests.refusals import refused

MODEL = "scripted"


@pytest_asyncio.fixture
async def operated(script):
    async with running_aos(script) as network:
        yield network


async def generate(network, order: Order, *, job: bytes = b""):
    """Return the chunks' text and tokens, and the finish."""
    text, tokens, finish = "", [], None
    async for response in network.operator.Generate(GenerateRequest(order=order, job=job)):
        assert finish is None, "the finish is the last message"
        if response.HasField("finish"):
            finish = response.finish
        text += response.chunk.text
        tokens += response.chunk.tokens
    return text, tokens, finish


class TestDescribe:
    async def test_models(self, operated, script):
        """The operator says who it is, what it runs, and how busy it is."""
        idle = await operated.operator.DescribeOperator(DescribeOperatorRequest())
        hold = script.hold()
        calls = [asyncio.create_task(generate(operated, asking(model=MODEL))) for _ in range(script.slots + 1)]
        await hold.reached()
        async with asyncio.timeout(20):
            while True:
                busy = await operated.operator.DescribeOperator(DescribeOperatorRequest())
                if busy.models[0].waiting:
                    break
        hold.release()
        await asyncio.gather(*calls)

        (model,) = idle.models
        assert idle.address == operated.operators[0]
        assert (model.name, model.digest, model.profile) == (MODEL, script.digest, script.profile)
        assert (model.context_length, model.chat, model.slots) == (script.context, True, script.slots)
        assert (model.running, model.waiting) == (0, 0)
        assert (busy.models[0].running, busy.models[0].waiting) == (script.slots, 1)


class TestGenerate:
    async def test_answer(self, operated):
        """Text streams, and the last message is a receipt that holds, defaults filled in."""
        job = hashlib.sha256(b"mine").digest()
        text, tokens, finish = await generate(operated, asking(model=MODEL, temperature=0.5), job=job)

        receipt = finish.receipt
        order = asking(model=MODEL, temperature=0.5, top_p=1.0, top_k=0, seed=receipt.seed)
        bundle = ReceiptBundle(receipt=receipt, order=order, output=text, output_tokens=tokens, price=PRICE, trace=finish.trace)
        assert text == "It is mathematics."
        assert receipt.job == job
        assert all(finding.good for finding in check_bundle(bundle)), list(check_bundle(bundle))

    async def test_job_from_the_order(self, operated):
        """Without a job's id, the same order has the same one, and so the same seed."""
        first = (await generate(operated, asking(model=MODEL)))[2].receipt
        second = (await generate(operated, asking(model=MODEL)))[2].receipt

        assert first.job == second.job == digest_order(asking(model=MODEL))
        assert first.seed == second.seed

    @pytest.mark.parametrize(
        ("request_", "reason", "facts"),
        [
            (GenerateRequest(order=asking(model="other")), "MODEL_NOT_FOUND", {"model": "other", "offered": MODEL}),
            (GenerateRequest(order=asking(model=MODEL), job=b"short"), "INVALID_FIELD", {"field": "job"}),
            (GenerateRequest(order=asking(model=MODEL, top_p=2.0)), "INVALID_FIELD", {"field": "order.sampling.top_p"}),
            (GenerateRequest(order=asking("x" * 20_000, model=MODEL)), "CONTEXT_OVERFLOW", {"limit": "16384"}),
            (GenerateRequest(), "MODEL_NOT_FOUND", {}),
        ],
    )
    async def test_refused(self, operated, script, request_, reason, facts):
        """What cannot be run is refused with its reason, before any work."""
        with refused(reason, **facts):
            await operated.operator.Generate(request_).read()

        assert script.steps == 0

    async def test_cancelled(self, operated, script):
        """Cancelling the call stops the engine: the next one finds all slots free."""
        hold = script.hold(after="It")
        call = operated.operator.Generate(GenerateRequest(order=asking(model=MODEL)))
        await call.read()
        await hold.reached()
        call.cancel()
        async with asyncio.timeout(20):
            while (await operated.operator.DescribeOperator(DescribeOperatorRequest())).models[0].running:
                pass
        hold.release()

        assert (await generate(operated, asking(model=MODEL)))[0] == "It is mathematics."

    async def test_engine_failed(self, operated, script):
        """A failure in mid-answer ends the stream with its reason."""
        hold = script.hold(after="It")
        call = operated.operator.Generate(GenerateRequest(order=asking(model=MODEL)))
        await call.read()
        await hold.reached()
        script.fail()
        hold.release()

        with refused("ENGINE_FAILED", model=MODEL):
            async for _ in call:
                pass

    async def test_two_models(self, script):
        """An operator with several models runs each order on the one that it names."""
        async with Pool({"a": script, "b": ScriptedModel("B")}) as pool:
            runner = Runner(OperatorKey.create(), pool, price=PRICE, clock=SystemClock())
            said = [[event async for event in runner.run(asking(model=name), job=bytes(32))] for name in "ab"]

        texts = ["".join(event.text for event in events if isinstance(event, Chunk)) for events in said]
        assert texts == ["It is mathematics.", "B"]


class TestClock:
    def test_boundless_counts(self, key):
        """A clock that claims impossible counts does not carry the operator's own beyond what a clock can hold."""
        runner = Runner(key, Pool({}), price=PRICE, clock=SystemClock())
        for _ in range(3):
            runner.tick(VectorClock(counts={key.address.lower(): 2**64 - 1, "1": 2**64 - 1, "2": 7}))

        assert dict(runner.clock.counts) == {key.address.lower(): 3, "2": 7}

    def test_boundless_nodes(self, key):
        """A clock of very many nodes does not make the operator's grow without end."""
        runner = Runner(key, Pool({}), price=PRICE, clock=SystemClock())
        for batch in range(3):
            runner.tick(VectorClock(counts={f"{batch}-{node}": 1 for node in range(1000)}))

        assert len(runner.clock.counts) <= NODES
        assert runner.clock.counts[key.address.lower()] == 3
