"""What the receipt of a controlled answer commits to, and the lies about it that need no model to be found."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.errors import BadReceipt, InvalidField
from aos.operator.control_run import Limits, Record, Run
from aos.operator.controllers import Choice, Decision, Setup, Splice, packed
from aos.operator.steering import Steering
from aos.testing.controlled import NOOP, STOP, Answer, Instance, ScriptedControl, WanderingModel, draw, splice
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.v1.operator_pb2 import Trace
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import BranchEnd, BranchStep, RunStep, VariableWrite
from aos.verification.controlled import MOST_ROUNDS, answer_of, run_root
from aos.verification.receipts import check_bundle
from aos.verification.states import check_state, state_root
from aos.verification.trace import STEP, TOP, Step, leaf, node
from tests.operator.steered import bundle, controlled


def script(it: Instance) -> Answer:
    """Text, a fork, draws, something taken back, ends."""
    if it.asked == 1:
        return splice(b"It is ")
    if it.asked == 2:
        return [draw(), splice(b"!", 1)]
    return (draw(), splice(b"so", 2), NOOP, STOP)[min(it.asked - 3, 3)]


async def made() -> ReceiptBundle:
    order = controlled("Why?", argument="be brief", temperature=1.0, seed=2)
    return await bundle(WanderingModel(), order, Steering(ScriptedControl(script).opened))


class TestLayout:
    def test_known(self):
        """A round's leaf is laid out as the reference says."""
        write = VariableWrite(name="é", value=b"v", append=True, when_version_is=9)
        first = BranchStep(index=0, backtrack=1, tokens=[5, 6], sampled=True, writes=[write])
        second = BranchStep(index=1, forked_from=0, end=BranchEnd.BRANCH_END_FAIL, timed_out=True)
        step = RunStep(branches=[first, second], sampled_tokens=3, ff_tokens=4)
        data = b"OPMLRUN1" + struct.pack(">IIIB", 100, 3, 4, 2)
        data += struct.pack(">BBBBIIH", 0, 255, 1, 0, 1, 2, 1) + struct.pack(">II", 5, 6)
        data += struct.pack(">BQHI", 3, 9, 2, 1) + "é".encode() + b"v" + struct.pack(">BBBBIIH", 1, 0, 2, 3, 0, 0, 0)
        expected = leaf(data)
        empty = leaf(b"")
        for _ in range(15):
            expected, empty = node(expected, empty), node(empty, empty)

        assert run_root(100, [step]) == expected

    def test_too_many_rounds(self):
        """There are not more rounds than the tree has room for."""
        with pytest.raises(InvalidField):
            run_root(1, [RunStep()] * (MOST_ROUNDS + 1))

    def test_numbers_that_no_run_has(self):
        """A branch whose number does not fit is refused, not wrapped around."""
        with pytest.raises(InvalidField):
            run_root(1, [RunStep(branches=[BranchStep(index=256)])])


def shorten(made: ReceiptBundle) -> None:
    del made.trace.run[-1]


def swallow(made: ReceiptBundle) -> None:
    made.trace.run[2].branches[0].tokens.append(1)


def undrawn(made: ReceiptBundle) -> None:
    made.trace.run[1].branches[0].sampled = False


def overcharged(made: ReceiptBundle) -> None:
    for step in made.trace.run:
        step.ff_tokens += 20
    made.receipt.usage.prompt_tokens += 20


def more_passes(made: ReceiptBundle) -> None:
    for step in made.trace.run[1:]:
        step.sampled_tokens += 1
    made.receipt.usage.completion_tokens += 1


def other_counts(made: ReceiptBundle) -> None:
    made.receipt.usage.prompt_tokens += 1


def other_reason(made: ReceiptBundle) -> None:
    made.receipt.finish_reason = 2


def nobodys_child(made: ReceiptBundle) -> None:
    made.trace.run[0].branches[1].forked_from = 1


def risen(made: ReceiptBundle) -> None:
    made.trace.run.append(made.trace.run[-1])


def small_context(made: ReceiptBundle) -> None:
    made.trace.context = 10


def other_write(made: ReceiptBundle) -> None:
    made.trace.run[1].branches[0].writes.add(name="x", value=b"y")


def timed(made: ReceiptBundle) -> None:
    made.trace.run[1].branches[0].micros = 5


def none(made: ReceiptBundle) -> None:
    del made.trace.run[:]


LIES: list[Callable[[ReceiptBundle], None]] = [
    shorten, swallow, undrawn, overcharged, more_passes, other_counts, other_reason, nobodys_child, risen, small_context,
    other_write, timed, none,
]  # fmt: skip


class TestBundle:
    async def test_honest(self):
        """All that a controlled answer's bundle says of itself holds, controller and argument by name."""
        findings = list(check_bundle(await made()))

        assert [one for one in findings if not one.good] == []
        assert {"the controller is the one that was asked for", "its argument is the request's"} <= {one.what for one in findings}

    @pytest.mark.parametrize("lie", LIES)
    async def test_lies_about_rounds(self, lie: Callable[[ReceiptBundle], None]):
        """Whatever is changed in the rounds, or in what follows from them, is found, even if nobody looks at the signature."""
        told = await made()
        lie(told)
        with pytest.raises(BadReceipt):
            check_state(told.receipt, told.trace, embeds=False)

        assert any(one.good is False and one.what.startswith("state_root") for one in check_bundle(told))

    @pytest.mark.parametrize("lie", [shorten, undrawn, nobodys_child, risen, timed, none, more_passes])
    async def test_no_receipt_for_what_cannot_be(self, lie: Callable[[ReceiptBundle], None]):
        """There is no state_root for rounds that cannot have been."""
        told = await made()
        lie(told)
        with pytest.raises(BadReceipt):
            state_root(told.receipt, told.trace)

    async def test_other_controller(self):
        """Another controller or argument than was asked for is found."""
        told = await made()
        told.receipt.controller_digest = bytes([8]) * 32
        told.receipt.argument_digest = hashlib.sha256(b"be long").digest()
        bad = {one.what for one in check_bundle(told) if one.good is False}

        assert {"the controller is the one that was asked for", "its argument is the request's"} <= bad

    async def test_unasked_controller(self):
        """A controller that nobody asked for is found."""
        told = await made()
        told.order.ClearField("control")
        bad = [one.why for one in check_bundle(told) if one.good is False]

        assert "the request names none" in bad

    async def test_rounds_without_a_controller(self):
        """A plain answer has no rounds."""
        told = await made()
        told.receipt.controller_digest = told.receipt.argument_digest = b""
        with pytest.raises(BadReceipt):
            check_state(told.receipt, told.trace, embeds=False)


def a_leaf(position: int, token: int) -> bytes:
    return Step(position, token, bytes(32), tuple((at, 0) for at in range(TOP))).packed()


CHOICE = st.one_of(
    st.builds(
        lambda back, tokens: Choice(None, (Splice(back, tuple(tokens)),)),
        st.sampled_from([0, 0, 1, 3]),
        st.lists(st.integers(60, 70), max_size=4),
    ),
    st.builds(
        lambda back, tokens: Choice(packed([65], 99), (Splice(back, tuple(tokens), (65,)),) if tokens else ()),
        st.integers(0, 2),
        st.lists(st.integers(60, 70), max_size=2),
    ),
)
DECISION = st.one_of(
    st.lists(CHOICE, max_size=3).map(lambda choices: Decision(tuple(choices), "", (), 0)),
    st.lists(CHOICE, min_size=1, max_size=1).map(lambda choices: Decision(tuple(choices), "", (), 0)),
)


class TestAnyRun:
    @settings(max_examples=60, deadline=None)
    @given(data=st.data(), context=st.integers(5, 60), fuel=st.integers(20, 400))
    def test_rounds_tell_the_answer(self, data: st.DataObject, context: int, fuel: int):
        """The rounds of any run come to its answer, its counts and its reason."""
        run = Run(Setup((1, 2, 3), "", ()), Limits(context, 40, fuel, 99), lambda token: bytes([token]))
        while run.leading and run.live:
            if not run.lead(data.draw(DECISION)) and run.live:
                run.begin()
        drawn = 0
        turn = None
        while turn is None or run.live:
            turn = run.decide({one.index: data.draw(DECISION) for one in run.live}, lambda _branch, _choice: 65)
            drawn += sum(one.sampled for one in turn.step.branches)
        record: Record = run.record
        steps = b"".join(a_leaf(at, 65) for at in range(drawn))
        trace = Trace(prompt_tokens=[1, 2, 3], steps=steps, run=record.steps, context=record.context)
        receipt = Receipt(finish_reason=run.finish_reason)
        receipt.usage.prompt_tokens, receipt.usage.completion_tokens = record.ff_tokens, record.sampled_tokens

        assert len(steps) == drawn * STEP.size
        assert answer_of(receipt, trace) == run.answer()[1]
