"""Controlled answers in the dispatcher: how much may come, what was shown before, whether the receipt fits. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from aos.control_logs import STEP_BYTES, RunLogs
from aos.control_order import FORKS, argument_digest, solid, solid_steps
from aos.dispatcher.output import Output
from aos.errors import AnswerBroken, BadReceipt
from aos.v1.operator_pb2 import Chunk, Finish
from aos.v1.types_pb2 import BranchEnd, Control, FinishReason, RunStep

RUN_BYTES: Final = 64 << 20
"""Most bytes of all steps of one run."""
PASS_STEPS: Final = 11
"""Most steps for each forward pass: a controller is late ten times at most before it acts or fails."""
FREE_STEPS: Final = 1024
"""Most steps beside those: texts put in before the first pass, waits, ends."""


class RunMeter:
    """Counts one operator's run of a controlled job against what it may have at most, and cuts its logs."""

    def __init__(self, job: str, passes: int, run: Sequence[RunStep] = ()) -> None:
        """``passes`` is how many forward passes the job may have, ``run`` what its log has."""
        self._job = job
        self._steps_left = passes * PASS_STEPS + FREE_STEPS
        self._bytes_left, self._logs = RUN_BYTES, RunLogs()
        self._branches = 0
        for step in run:
            self.count(step)

    def count(self, step: RunStep) -> None:
        """Count a step, and leave out of its logs what is too much. Raises BadReceipt if the rest is too much, or cannot be."""
        self._logs.cut(step)
        size = step.ByteSize()
        self._steps_left -= 1
        self._bytes_left -= size
        if size > STEP_BYTES or min(self._steps_left, self._bytes_left) < 0:
            raise BadReceipt(self._job, "run", "more came than a run can have")
        self._branches = max([self._branches, *(one.index + 1 for one in step.branches)])
        if self._branches > FORKS or [one.index for one in step.branches] != sorted({one.index for one in step.branches}):
            raise BadReceipt(self._job, "run", f"has a step whose branches are not different ones of {FORKS}, in order")
        if any(one.end not in BranchEnd.values() for one in step.branches):
            raise BadReceipt(self._job, "run", "has a branch with an end that is unknown")


class Shown:
    """What of a controlled answer the log had when its operator began: each begins anew, and what was shown is not shown again."""

    def __init__(self, model: str, output: Output) -> None:
        self._model, self._output = model, output
        self._left = deque(solid_steps(output.run))

    def new(self, chunk: Chunk) -> bool:
        """Say whether the chunk is not in the log. Raises AnswerBroken if it is another than what is there in its place."""
        if not chunk.HasField("run"):
            if self._left:
                raise self._other("it ended earlier")
            if not self._output.tokens and not self._output.text:
                return True
            if (chunk.text, list(chunk.tokens)) != (self._output.text, self._output.tokens):
                raise self._other("it ended otherwise")
            return False
        if not self._left:
            return not self._output.tokens or self._refuse()
        step = solid(chunk.run)
        if step is not None and step != self._left.popleft():
            raise self._other("a step was another")
        return False

    def _refuse(self) -> bool:
        raise self._other("it went on behind its end")

    def check_end(self) -> None:
        """Raise AnswerBroken unless all that the log had came again."""
        if self._left:
            raise self._other("it ended earlier")

    def _other(self, how: str) -> AnswerBroken:
        return AnswerBroken(self._model, f"an operator was lost, and run again from its beginning {how} than what was shown")


def check_run(finish: Finish, run: Sequence[RunStep], control: Control, *, job: str) -> int:
    """Return how many forward passes a controlled answer took.

    Raises BadReceipt unless the run that the log has is whole, and what the receipt speaks of.
    """
    receipt = finish.receipt
    if receipt.controller_digest != control.controller:
        raise BadReceipt(job, "controller_digest", "is not that of the order")
    if receipt.argument_digest != argument_digest(control):
        raise BadReceipt(job, "argument_digest", "is not that of the order")
    ends: dict[int, BranchEnd] = {}
    for step in run:
        for branch in step.branches:
            if ends.get(branch.index):
                raise BadReceipt(job, "run", f"goes on with branch {branch.index} behind its end")
            ends[branch.index] = branch.end
    if not ends or not all(ends.values()) or sorted(ends) != list(range(len(ends))):
        raise BadReceipt(job, "run", "has branches that did not end")
    last = run[-1]
    if receipt.usage.prompt_tokens != last.ff_tokens:
        raise BadReceipt(job, "usage.prompt_tokens", "is not that of the run's last step")
    stopped = ends[0] == BranchEnd.BRANCH_END_STOP
    if finish.reason != (FinishReason.FINISH_REASON_STOP if stopped else FinishReason.FINISH_REASON_LENGTH):
        raise BadReceipt(job, "finish_reason", "is not that of the run's first branch")
    if list(finish.trace.run) != solid_steps(run):
        raise BadReceipt(job, "trace.run", "is not the run that was shown")
    return last.sampled_tokens
