"""Leases of controlled jobs on an operator's stream: what is sent of a run, and what must not be."""

from __future__ import annotations

import asyncio
import hashlib

import pytest_asyncio

from aos.control_logs import LOG_BYTES, STEP_BYTES
from aos.control_order import argument_digest, solid_steps
from aos.operator.controllers import Decision
from aos.operator.steering import Steering
from aos.operator.variables import Write
from aos.order import with_defaults
from aos.testing.controlled import STOP, Instance, ScriptedControl, draw, splice
from aos.v1.dispatcher_pb2 import OperatorMessage
from aos.v1.errors_pb2 import ErrorReason
from aos.v1.types_pb2 import Control, Order, RunStep, Sampling
from tests.operator.dispatching import JOB, Session, running_network

CONTROL = Control(controller=hashlib.sha256(b"script").digest(), argument="x")


@pytest_asyncio.fixture
async def network(tmp_path, key):
    async with running_network(tmp_path, key) as network:
        yield network


def an_order() -> Order:
    return with_defaults(Order(model="m", prompt="Say it.", control=CONTROL, sampling=Sampling(max_tokens=40)), job=JOB)


async def told(session: Session, lease: str = "l1") -> tuple[list[RunStep], str, list[int], OperatorMessage]:
    """The steps of a lease, the answer behind them, and its end; what is said of other leases is passed over."""
    steps, text, tokens = [], "", []
    while (message := await session.hear()) is not None:
        match message.WhichOneof("message"):
            case "chunks":
                for one in message.chunks.chunks:
                    if one.lease == lease:
                        assert not (one.chunk.HasField("run") and one.chunk.text)
                        steps += [one.chunk.run] if one.chunk.HasField("run") else []
                        text, tokens = text + one.chunk.text, [*tokens, *one.chunk.tokens]
            case "chunk":
                steps += [message.chunk.chunk.run] if message.chunk.lease == lease else []
            case "finished" | "failed" if getattr(message, str(message.WhichOneof("message"))).lease == lease:
                return steps, text, tokens, message
            case _:
                pass
    raise AssertionError("the stream ended before the lease")


class TestALease:
    async def test_sends_each_step_then_the_answer(self, network, script):
        """A chunk has one step and nothing else; behind the last comes the answer's text, and the receipt for all of it."""

        def twice(it: Instance):
            it.logs = f"asked {it.asked}\n"
            return {1: splice(b"> "), 2: draw(b"I"), 3: splice(b"!", backtrack=1)}.get(it.asked, STOP)

        async with network.attached(script) as (node, session):
            node.runner.steering = Steering(ScriptedControl(twice).opened)
            session.lease(an_order())
            steps, text, tokens, end = await told(session)

        receipt = end.finished.finish.receipt
        assert text == bytes(tokens).decode() == "> !"
        assert "".join(step.branches[0].text for step in steps) == "> I ↩ !"
        assert "".join(step.branches[0].logs for step in steps) == "".join(f"asked {number}\n" for number in range(1, 4))
        assert list(end.finished.finish.trace.run) == solid_steps(steps)
        assert (receipt.controller_digest, receipt.argument_digest) == (CONTROL.controller, argument_digest(CONTROL))
        assert receipt.usage.completion_tokens == steps[-1].sampled_tokens

    async def test_cuts_what_is_too_long_to_be_told(self, network, script):
        """A log that is longer than is kept is cut here, and not sent."""

        def loud(_: Instance):
            return Decision((), "x" * (2 * LOG_BYTES), (), 0)

        async with network.attached(script) as (node, session):
            node.runner.steering = Steering(ScriptedControl(loud).opened)
            session.lease(an_order())
            steps, _, _, end = await told(session)

        assert end.HasField("finished")
        assert steps[0].branches[0].logs == "x" * LOG_BYTES

    async def test_ends_alone_if_a_step_fits_into_no_message(self, network, script):
        """A step that the dispatcher would not take ends its own lease, for good, and no other on the stream."""

        def heavy(it: Instance):
            return Decision((draw(),), "", (Write("v", bytes(STEP_BYTES)),), 0) if it.asked == 2 else draw()

        async with network.attached(script) as (node, session):
            node.runner.steering = Steering(ScriptedControl(heavy).opened)
            hold = script.hold(after="It is")
            session.lease(with_defaults(Order(model="m", prompt="Other.", sampling=Sampling(max_tokens=40)), job=JOB), lease="l2")
            await hold.reached()
            session.lease(an_order(), lease="l1")
            hold.release()
            ends = {}
            while len(ends) < 2:
                message = await session.hear()
                kind = message.WhichOneof("message")
                if kind in {"finished", "failed"}:
                    ends[getattr(message, kind).lease] = message

        failed = ends["l1"].failed
        assert failed.error.reason == ErrorReason.ERROR_REASON_ANSWER_BROKEN
        assert not failed.retryable
        assert str(STEP_BYTES) in failed.error.message
        assert ends["l2"].HasField("finished")

    async def test_stops_when_it_is_cancelled(self, network, script):
        """A cancelled run asks its controller nothing more."""
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def waiting(it: Instance):
            loop.call_soon_threadsafe(asked.set)
            return draw() if it.asked < 3 else splice(b"")

        control = ScriptedControl(waiting)
        async with network.attached(script) as (node, session):
            node.runner.steering = Steering(control.opened)
            session.lease(an_order())
            async with asyncio.timeout(20):
                await asked.wait()
                session.cancel()
                while not control.closed:
                    await asyncio.sleep(0.002)

    async def test_may_go_elsewhere_if_its_module_cannot_be_had(self, network, script):
        """An operator that cannot get a module gives the lease back for another to try: it is not the job's fault."""
        async with network.attached(script) as (_, session):
            session.lease(an_order())
            *_, end = await told(session)
        assert end.failed.error.reason == ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE
        assert end.failed.retryable
