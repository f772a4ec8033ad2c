"""A model that is told how a controlled answer went, and the rounds that it is told."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, cast

import pytest

from aos.operator.controllers import Choice, Splice, packed
from aos.operator.engine import Engine
from aos.operator.foretold_run import Course, ForetoldRun
from aos.operator.llama import LlamaModel
from aos.operator.model import Model
from aos.operator.steering import Steering
from aos.operator.stream import End
from aos.order import with_defaults
from aos.testing.controlled import STOP, Answer, Instance, Script, ScriptedControl, splice
from aos.v1.types_pb2 import BranchStep, Order, RunStep
from tests.operator.steered import controlled

SLOTS = 4


class Scripts:
    """What controllers do on a real model."""

    def __init__(self, model: LlamaModel) -> None:
        self._any = packed(range(model.vocabulary), model.vocabulary)

    def draw(self, *splices: Splice) -> Choice:
        return Choice(self._any, splices)

    def plain(self, it: Instance) -> Answer:
        return self.draw() if it.asked < 40 else STOP

    def leading(self, it: Instance) -> Answer:
        """Put something before the first pass, and behind every seventh token."""
        if it.asked == 1 or it.asked % 7 == 0:
            return splice([300, 301, 302, 303])
        return self.plain(it)

    def backing(self, it: Instance) -> Answer:
        """Take some back now and then: with something in its place, without, and in place of what is drawn."""
        if it.asked % 9 == 5:
            return splice([310, 311], backtrack=3)
        if it.asked % 9 == 8:
            return splice([], backtrack=2)
        if it.asked % 9 == 3:
            return self.draw(Splice(2, (320,), tuple(range(400))))
        return self.plain(it)

    def forking(self, it: Instance) -> Answer:
        """Go on in three ways, and one of them in two."""
        if it.asked == 5:
            return [splice([330]), splice([331]), self.draw()]
        if it.asked == 9 and it.index == 1:
            return [self.draw(), splice([340], backtrack=1)]
        return self.plain(it) if it.asked < 25 else STOP


async def ran(model: Model, order: Order, script: Script) -> tuple[End, bytes]:
    """Return how an answer ends, and all of its steps."""
    control = ScriptedControl(script)
    async with (
        Engine("m", model, slots=SLOTS) as engine,
        aclosing(engine.generate(order, steering=Steering(control.opened))) as stream,
    ):
        async for one in stream:
            if isinstance(one, End):
                assert one.steps is not None
                return one, one.steps.packed()
    raise AssertionError("it ends")


def an_order(**sampling: Any) -> Order:
    return with_defaults(controlled("The network", temperature=0.9, seed=5, max_tokens=60, **sampling), job=bytes(32))


NAMES = ["plain", "leading", "backing", "forking"]


class TestForetoldRun:
    @pytest.mark.parametrize("name", NAMES)
    async def test_same(self, demo: LlamaModel, name: str):
        """Told its rounds, a model gives them with the same logits, and computes a few times instead of once a round."""
        script, order = getattr(Scripts(demo), name), an_order()
        end, steps = await ran(demo, order, script)
        assert end.record is not None
        told = ForetoldRun(demo, Course(end.prompt, end.record.steps), slots=SLOTS)
        again, same = await ran(cast("Model", told), order, script)

        assert same == steps
        assert again.record == end.record
        assert (again.text, again.tokens) == (end.text, end.tokens)
        assert told.computed < end.record.sampled_tokens / 2

    @pytest.mark.parametrize("name", NAMES)
    async def test_lie(self, demo: LlamaModel, name: str):
        """Told the rounds of another answer, it gives its own all the same."""
        script = getattr(Scripts(demo), name)
        other, _ = await ran(demo, an_order(top_k=3), script)
        assert other.record is not None
        expected = await ran(demo, an_order(), script)
        told = ForetoldRun(demo, Course(other.prompt, other.record.steps), slots=SLOTS)
        end, steps = await ran(cast("Model", told), an_order(), script)

        assert (end.record, steps) == (expected[0].record, expected[1])


class TestCourse:
    def test_each_way_in_turn(self):
        """Where a run went on in two ways, each is told in turn, up to where something was taken back."""
        first = RunStep(branches=[BranchStep(index=0, tokens=[5]), BranchStep(index=1, forked_from=0, tokens=[6, 7])])
        then = RunStep(branches=[BranchStep(index=0, tokens=[8]), BranchStep(index=1, backtrack=1, tokens=[9])])
        course = Course([1, 2], [first, then])
        state = hash((hash((0, 1)), 2))

        assert [course.ahead(state, 10) for _ in range(3)] == [[5, 8], [6, 7], [5, 8]]
        assert course.ahead(hash((state, 6)), 1) == [7]
        assert course.ahead(hash((state, 6)), 1) == [9]
        assert course.ahead(12345, 10) == []

    @pytest.mark.parametrize(
        "wrong",
        [
            BranchStep(index=3, tokens=[4]),
            BranchStep(index=0, backtrack=9),
            BranchStep(index=1, forked_from=1, tokens=[4]),
            BranchStep(index=2, forked_from=0, tokens=[4]),
        ],
        ids=["no branch", "too much taken", "from itself", "a number left out"],
    )
    def test_nonsense(self, wrong: BranchStep):
        """Rounds that cannot be are not looked at, and what came before them is told."""
        good = RunStep(branches=[BranchStep(index=0, tokens=[5])])
        course = Course([1], [good, RunStep(branches=[wrong]), good])

        assert course.ahead(hash((0, 1)), 10) == [5]
