"""Controlled orders for tests, and what an engine answers to them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass

from aos.clock import SystemClock
from aos.control_order import solid_steps
from aos.operator.engine import Engine
from aos.operator.model import Model
from aos.operator.pool import Pool
from aos.operator.runner import Runner
from aos.operator.steering import Steering
from aos.operator.stream import End
from aos.operator.waiting import Terms
from aos.order import with_defaults
from aos.testing.controlled import ScriptedControl
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.v1.operator_pb2 import Finish
from aos.v1.types_pb2 import Control, Order, Price, RunStep, Sampling
from aos.verification.keys import OperatorKey


def controlled(prompt: str = "Say it.", *, argument: str = "", **sampling) -> Order:
    """Return an order with a controller."""
    control = Control(controller=bytes([7]) * 32, argument=argument)
    return Order(model="m", prompt=prompt, control=control, sampling=Sampling(**sampling))


JOB = bytes(range(32))
PRICE = Price(prompt_token="1", completion_token="2")
DEADLINE = 60.0


async def bundle(model: Model, order: Order, steering: Steering) -> ReceiptBundle:
    """Return what an operator with this model makes of a controlled order."""
    made = ReceiptBundle(order=with_defaults(order, job=JOB), price=PRICE)
    shown: list[RunStep] = []
    async with asyncio.timeout(DEADLINE), Pool({order.model: model}) as pool:
        runner = Runner(OperatorKey.create(), pool, price=PRICE, clock=SystemClock())
        runner.steering = steering
        async for event in runner.run(order, job=JOB):
            if isinstance(event, Finish):
                made.receipt.CopyFrom(event.receipt)
                made.trace.CopyFrom(event.trace)
            elif event.HasField("run"):
                shown.append(event.run)
            else:
                made.output += event.text
                made.output_tokens.extend(event.tokens)
    assert solid_steps(shown) == list(made.trace.run)
    return made


@dataclass
class Ran:
    """A whole run, as its reader saw it."""

    steps: list[RunStep]
    end: End

    @property
    def usage(self) -> list[tuple[int, int]]:
        return [(step.sampled_tokens, step.ff_tokens) for step in self.steps]

    def texts(self, index: int = 0) -> list[str]:
        return [one.text for step in self.steps for one in step.branches if one.index == index]

    def last(self, index: int = 0):
        return [one for step in self.steps for one in step.branches if one.index == index][-1]


async def run(engine: Engine, order: Order, session: ScriptedControl, terms: Terms | None = None) -> Ran:
    """Read a run to its end."""
    steps: list[RunStep] = []
    async with aclosing(engine.generate(order, steering=Steering(session.opened), terms=terms)) as stream:
        async for one in stream:
            if isinstance(one, End):
                return Ran(steps, one)
            steps += one.run
    raise AssertionError("a run ended without saying so")
