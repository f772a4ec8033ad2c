"""Controlled orders and their runs as the pure rules see them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.control_logs import CUT, LOG_BYTES, RUN_LOG_BYTES, STEP_BYTES, RunLogs
from aos.control_order import FORKS, FUEL, argument_digest, bounds, fuel, solid, solid_steps
from aos.dispatcher.controlled import FREE_STEPS, PASS_STEPS, RunMeter, Shown, check_run
from aos.dispatcher.output import Output
from aos.errors import AnswerBroken, BadReceipt, InvalidField
from aos.order import MAX_TOKENS, canonical_order, check_order, with_defaults
from aos.v1.operator_pb2 import Chunk, Finish
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import BranchStep, Chat, ChatMessage, Constraint, Control, FinishReason, Order, RunStep, Sampling, Usage
from tests.dispatcher.runs import CONTEXT, FAIL, STOP, Run, a_run, an_order

DIGEST = bytes(range(32))
CONTROL = Control(controller=DIGEST)
TALK = Chat(messages=[ChatMessage(role="user", content="hi")])


class TestAnOrder:
    """What may be ordered with a controller."""

    def test_may_have_an_empty_prompt(self):
        """A controller may bring the prompt itself, so none is needed; without one it is."""
        check_order(an_order(DIGEST, prompt=""))
        with pytest.raises(InvalidField, match=r"order\.prompt"):
            check_order(Order(model="m", prompt=""))

    @pytest.mark.parametrize(
        ("order", "field"),
        [
            (an_order(b"short"), "order.control.controller"),
            (an_order(DIGEST, argument="x" * ((1 << 20) + 1)), "order.control.argument"),
            (an_order(DIGEST, constraint=Constraint(regex="a")), "order.constraint"),
            (Order(model="m", chat=TALK, control=CONTROL), "order.control"),
            (Order(model="m", prompt="x", control=CONTROL, sampling=Sampling(min_p=0.1)), "order.sampling.min_p"),
            (Order(model="m", prompt="x", control=CONTROL, sampling=Sampling(stop=["a"])), "order.sampling.stop"),
        ],
    )  # fmt: skip
    def test_names_what_it_cannot_have(self, order, field):
        """What means nothing beside a controller, or is too large, is refused by its field."""
        with pytest.raises(InvalidField) as refused:
            check_order(order)
        assert refused.value.violations[0].field == field

    def test_is_another_order_with_another_argument(self):
        """Controller and argument are a part of what is signed for."""
        texts = {canonical_order(an_order(controller, argument=told)) for controller in (DIGEST, DIGEST[::-1]) for told in "ab"}
        assert len(texts) == 4
        assert f'"controller":"{DIGEST.hex()}"'.encode() in min(texts)

    def test_takes_what_the_context_leaves_unless_it_says_less(self):
        """Without max_tokens the answer may be as long as there is room."""
        order = an_order(DIGEST)
        order.sampling.ClearField("max_tokens")
        assert with_defaults(order, job=bytes(32)).sampling.max_tokens == MAX_TOKENS

    def test_has_fuel_for_its_longest_answer_ten_times(self):
        """The fuel follows from what the answer can be at most, and never from more than the context."""
        short = an_order(DIGEST, prompt="abc", argument="de", max_tokens=7)
        assert fuel(short, 1 << 20) == FUEL * (3 + 2 + 7 + 256)
        assert fuel(short, 100) == FUEL * 100

    @pytest.mark.parametrize("sampled", [0, 1, 900, 1340])
    def test_is_bounded_however_its_fuel_is_spent(self, sampled):
        """No run that keeps to its fuel is charged for more than the bounds from which the hold is made."""
        order = an_order(DIGEST, prompt="abc", argument="de", max_tokens=7)
        computed, passes = bounds(order, CONTEXT)
        assert sampled <= passes
        assert fuel(order, CONTEXT) - 2 * sampled <= computed


class TestWhatIsTheSameEachTime:
    """What of a step a second run has to repeat."""

    def test_is_neither_text_nor_log_nor_time(self):
        """What was written to logs, and how long it took, may differ."""
        said = BranchStep(tokens=[5], sampled=True, text="five", logs="log", error="no", micros=9)
        assert solid(RunStep(branches=[said], sampled_tokens=1)) == RunStep(
            branches=[BranchStep(tokens=[5], sampled=True)], sampled_tokens=1
        )

    def test_is_not_that_a_controller_was_late(self):
        """A step in which nothing happened but that somebody was late is none."""
        assert solid(RunStep(branches=[BranchStep(late=True, logs="timeout")])) is None


class TestMeasuringARun:
    """How much of a run is kept."""

    def test_cuts_a_long_log(self):
        """One callback's log is kept up to its limit, in whole characters."""
        step = RunStep(branches=[BranchStep(logs="é" * LOG_BYTES)])
        RunMeter("jobs/1", 5).count(step)
        assert len(step.branches[0].logs.encode()) == LOG_BYTES
        assert set(step.branches[0].logs) == {"é"}

    def test_cuts_the_logs_of_a_talkative_run(self):
        """All logs of a run together have a limit; where it is reached the log says so, once."""
        meter = RunMeter("jobs/1", 1000)
        steps = [RunStep(branches=[BranchStep(logs="x" * LOG_BYTES)]) for _ in range(RUN_LOG_BYTES // LOG_BYTES + 2)]
        for step in steps:
            meter.count(step)
        mark = CUT.format(RUN_LOG_BYTES)
        assert steps[-3].branches[0].logs == "x" * LOG_BYTES
        assert [step.branches[0].logs for step in steps[-2:]] == [mark, ""]

    def test_leaves_what_was_cut_as_it_is(self):
        """An operator cuts as the dispatcher does, so nothing is marked twice."""
        steps = [RunStep(branches=[BranchStep(logs="x" * LOG_BYTES)]) for _ in range(RUN_LOG_BYTES // LOG_BYTES + 2)]
        cut, meter = RunLogs(), RunMeter("jobs/1", 1000)
        for step in steps:
            cut.cut(step)
        once = [step.branches[0].logs for step in steps]
        for step in steps:
            meter.count(step)
        assert [step.branches[0].logs for step in steps] == once

    def test_refuses_a_step_that_no_operator_sends(self):
        """A step is bounded by itself, too."""
        with pytest.raises(BadReceipt, match="more came"):
            RunMeter("jobs/1", 5).count(RunStep(branches=[BranchStep(text="x" * STEP_BYTES)]))

    def test_refuses_more_steps_than_passes_allow(self):
        """An operator cannot fill the log with steps in which nothing is computed."""
        meter = RunMeter("jobs/1", 2)
        for _ in range(2 * PASS_STEPS + FREE_STEPS):
            meter.count(RunStep())
        with pytest.raises(BadReceipt, match="more came"):
            meter.count(RunStep())

    @pytest.mark.parametrize("indexes", [[FORKS], [1, 0], [2, 2]])
    def test_refuses_branches_that_cannot_be(self, indexes):
        """Branches are named once a step, in order, and there are not too many."""
        with pytest.raises(BadReceipt, match="branches"):
            RunMeter("jobs/1", 5).count(RunStep(branches=[BranchStep(index=index) for index in indexes]))


class TestRunningAgain:
    """What comes from a second operator, compared with what was shown."""

    def shown(self, run: Run, steps: int, *, whole: bool = False) -> Shown:
        output = Output(run.text, run.tokens, run=run.steps[:steps]) if whole else Output("", [], run=run.steps[:steps])
        return Shown("m", output)

    def test_shows_only_what_is_new(self):
        """Steps that the log has are dropped, whatever their logs and times; those behind are new."""
        run = a_run("a", "b", "c")
        again = Run(steps=[RunStep.FromString(step.SerializeToString()) for step in run.steps])
        again.steps[0].branches[0].logs = "other"
        shown = self.shown(run, 2)
        assert [shown.new(Chunk(run=step)) for step in again.steps] == [False, False, True, True]

    def test_does_not_mind_who_was_late(self):
        """Notes that a controller was late differ from time to time: while steps are repeated they are dropped."""
        shown = self.shown(a_run("a", "b"), 2)
        assert not shown.new(Chunk(run=RunStep(branches=[BranchStep(late=True)])))

    def test_breaks_off_where_a_step_is_another(self):
        """What was shown cannot be taken back."""
        with pytest.raises(AnswerBroken, match="a step was another"):
            self.shown(a_run("a", "b"), 1).new(Chunk(run=Run().round("a", [99]).steps[0]))

    @given(words=st.lists(st.sampled_from("abc"), min_size=1, max_size=8), seen=st.integers(0, 9), late=st.integers(0, 9))
    def test_shows_each_step_once_wherever_it_was_lost(self, words, seen, late):
        """Whatever was shown, and whoever is late when it runs again: the caller sees the run, no step twice or left out."""
        run = a_run(*words)
        had, again = run.steps[:seen], list(run.steps)
        again.insert(late, RunStep(branches=[BranchStep(late=True)]))
        shown = self.shown(run, seen)
        new = [step for step in again if shown.new(Chunk(run=step))]
        shown.check_end()
        assert solid_steps([*had, *new]) == solid_steps(run.steps)

    @given(seen=st.integers(1, 6), other=st.integers(0, 5))
    def test_notices_any_step_that_is_another(self, seen, other):
        """A step that was shown and comes out otherwise is found, wherever it is; what comes out otherwise behind it is new."""
        run = a_run(*"abcde")
        again = [RunStep.FromString(step.SerializeToString()) for step in run.steps]
        again[other].branches[0].sampled = not again[other].branches[0].sampled
        shown = self.shown(run, seen)
        if other < seen:
            with pytest.raises(AnswerBroken):
                [shown.new(Chunk(run=step)) for step in again]
        else:
            assert sum(shown.new(Chunk(run=step)) for step in again) == len(again) - seen

    def test_breaks_off_if_it_ends_before(self):
        """A run that is over earlier than what was shown is another."""
        shown = self.shown(a_run("a", "b"), 2)
        with pytest.raises(AnswerBroken, match="earlier"):
            shown.check_end()
        with pytest.raises(AnswerBroken, match="earlier"):
            shown.new(Chunk(text="a", tokens=[10]))

    def test_knows_the_answer_that_was_shown(self):
        """The answer itself is shown once, too, and has to be the same."""
        run = a_run("a", "b")
        shown = self.shown(run, 3, whole=True)
        assert not any(shown.new(Chunk(run=step)) for step in run.steps)
        assert not shown.new(Chunk(text=run.text, tokens=run.tokens))
        with pytest.raises(AnswerBroken, match="otherwise"):
            shown.new(Chunk(text="x", tokens=run.tokens))
        with pytest.raises(AnswerBroken, match="behind its end"):
            shown.new(Chunk(run=run.steps[0]))


class TestTheReceiptOfARun:
    """Whether a receipt speaks of the run that was shown."""

    def finish(self, run: Run, **changes) -> Finish:
        control = an_order(DIGEST).control
        fields = {"controller_digest": DIGEST, "argument_digest": argument_digest(control), "usage": run.usage} | changes
        finish = Finish(reason=FinishReason.FINISH_REASON_STOP, receipt=Receipt(**fields))
        finish.trace.run.extend(solid_steps(run.steps))
        return finish

    def check(self, run: Run, finish: Finish) -> int:
        return check_run(finish, run.steps, an_order(DIGEST).control, job="jobs/1")

    def test_counts_forward_passes(self):
        """A whole run with a receipt of its own is taken; what it is charged for are its passes."""
        run = a_run("a", "b")
        assert self.check(run, self.finish(run)) == 3

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"controller_digest": DIGEST[::-1]}, "controller_digest"),
            ({"argument_digest": DIGEST}, "argument_digest"),
            ({"usage": Usage(prompt_tokens=1, completion_tokens=3)}, "usage.prompt_tokens"),
        ],
    )
    def test_is_of_this_controller_and_run(self, changes, field):
        """Another controller, another argument or other counts are refused."""
        run = a_run("a", "b")
        with pytest.raises(BadReceipt, match=field):
            self.check(run, self.finish(run, **changes))

    def test_is_of_a_run_that_ended(self):
        """Each branch ends once, as the receipt says of the first."""
        broken = Run().round("a", [1])
        with pytest.raises(BadReceipt, match="did not end"):
            self.check(broken, self.finish(broken))
        behind = Run().round("a", [1], end=STOP).round("b", [2], end=STOP)
        with pytest.raises(BadReceipt, match="behind its end"):
            self.check(behind, self.finish(behind))
        failed = Run().round(end=FAIL)
        with pytest.raises(BadReceipt, match="finish_reason"):
            self.check(failed, self.finish(failed))

    def test_commits_to_what_was_shown(self):
        """A record of another run than the caller saw is refused."""
        run = a_run("a", "b")
        finish = self.finish(run)
        finish.trace.run[0].branches[0].tokens[0] = 77
        with pytest.raises(BadReceipt, match=r"trace\.run"):
            self.check(run, finish)
