"""What a controlled answer's receipt commits to beside its steps: what its controllers decided, round by round. Pure.

Layouts: docs/reference/receipt.md. The rounds say how each branch came to be and how it ended, so the answer, the counts and the
reason follow from them; whether the model and the controller really give them takes running both again.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aos.control_order import FORKS
from aos.errors import BadReceipt, InvalidField
from aos.v1.operator_pb2 import Trace
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import BranchEnd, BranchStep, FinishReason, RunStep, VariableWrite
from aos.verification.trace import STEP, node, root

RUN_TAG: Final = b"OPMLRUN1"
RUN_DEPTH: Final = 15
"""Of the tree over rounds."""
MOST_ROUNDS: Final = 1 << RUN_DEPTH
RECORD_BYTES: Final = 1 << 20
"""From so many bytes of rounds on, as messages, a run has no further one. One round is at most as much again."""
NEVER: Final = 255
"""For the branch that a round's branch was forked from, where it was not."""
_HEAD: Final = struct.Struct(">8sIIIB")
_BRANCH: Final = struct.Struct(">BBBBIIH")
_WRITE: Final = struct.Struct(">BQHI")


def run_root(context: int, run: Sequence[RunStep]) -> bytes:
    """Return the root over a run's rounds. Raises InvalidField for too many, or a number that no run has."""
    try:
        return root([_packed(context, step) for step in run], RUN_DEPTH)
    except struct.error as error:
        raise InvalidField("trace.run", f"has a number that no run has: {error}") from error


def trace_root(steps: bytes, trace: Trace) -> bytes:
    """Return what a controlled answer's header has for its steps, whose own root is ``steps``. Raises InvalidField."""
    return node(steps, run_root(trace.context, trace.run))


def _packed(context: int, step: RunStep) -> bytes:
    parts = [_HEAD.pack(RUN_TAG, context, step.sampled_tokens, step.ff_tokens, len(step.branches))]
    for one in step.branches:
        origin = one.forked_from if one.HasField("forked_from") else NEVER
        flags = one.sampled | one.timed_out << 1
        counts = one.backtrack, len(one.tokens), len(one.writes)
        parts += [_BRANCH.pack(one.index, origin, flags, one.end, *counts), struct.pack(f">{len(one.tokens)}I", *one.tokens)]
        parts += [_write(write) for write in one.writes]
    return b"".join(parts)


def _write(write: VariableWrite) -> bytes:
    flags = write.append | write.HasField("when_version_is") << 1
    name = write.name.encode()
    return _WRITE.pack(flags, write.when_version_is, len(name), len(write.value)) + name + write.value


@dataclass(slots=True)
class _Branch:
    tokens: list[int]
    start: int
    end: int = 0
    told: int = 0
    """How many tokens the last round put there, at most."""
    led: bool = False
    """Whether some of them may have been there before its pass, and computed in that."""


class _Replayed:
    """What a run's rounds come to. Each that cannot follow from those before raises ValueError."""

    def __init__(self, trace: Trace) -> None:
        self.context = trace.context
        self.branches = [_Branch(list(trace.prompt_tokens), len(trace.prompt_tokens))]
        self.sampled = self.computed = self.drawn = 0
        for at, step in enumerate(trace.run):
            self._take(step, first=not at)
        if any(not one.end for one in self.branches):
            raise ValueError("it breaks off while a branch goes on")

    def _take(self, step: RunStep, *, first: bool) -> None:
        live = [index for index, one in enumerate(self.branches) if not one.end]
        old = [one for one in step.branches if not one.HasField("forked_from")]
        if [one.index for one in old] != live or not live or list(step.branches[: len(old)]) != old:
            raise ValueError("a round is not of the branches that go on")
        if not first:
            self.sampled += len(live)
            least = self.computed + sum(self.branches[index].told for index in live if not self.branches[index].led)
            most = self.computed + sum(self.branches[index].told for index in live)
            self.computed = min(max(least, step.ff_tokens), most)
        elif step.sampled_tokens:
            # the prompt, as it is by then; what was put there before the first pass and taken back behind it is not told
            self.sampled, self.computed = 1, min(step.ff_tokens, self.context)
        elif len(step.branches) != 1 or not step.branches[0].end:
            raise ValueError("only what ends before the first pass has none")
        if (step.sampled_tokens, step.ff_tokens) != (self.sampled, self.computed):
            raise ValueError("a round's counts do not follow from those before")
        origins = [(list(one.tokens), one.start) for one in self.branches]
        for one in step.branches:
            if one.HasField("forked_from"):
                if one.forked_from not in live or one.index != len(self.branches) or one.index >= FORKS:
                    raise ValueError("a branch comes from none that goes on")
                self.branches.append(_Branch(*(list(origins[one.forked_from][0]), origins[one.forked_from][1])))
            self._apply(self.branches[one.index], one, first=first)

    def _apply(self, branch: _Branch, step: BranchStep, *, first: bool) -> None:
        kept = len(branch.tokens) - step.backtrack
        if kept < 0 or kept + len(step.tokens) > self.context:
            raise ValueError("a branch has fewer tokens than none, or more than the context")
        branch.tokens[kept:] = step.tokens
        branch.start, branch.told, branch.end = min(branch.start, kept), len(step.tokens), step.end
        branch.led = first
        self.drawn += step.sampled
        if step.late or step.text or step.logs or step.error or step.micros:
            raise ValueError("a round has what may differ from one time to the next")


def answer_of(receipt: Receipt, trace: Trace) -> list[int]:
    """Return the tokens of the answer that the rounds come to.

    Raises BadReceipt for rounds that cannot be, and unless the receipt's counts and reason are theirs.
    """
    job = f"jobs/{receipt.job.hex()}"
    try:
        run = _Replayed(trace)
    except ValueError as error:
        raise BadReceipt(job, "trace.run", str(error)) from error
    first = run.branches[0]
    if run.drawn != len(trace.steps) // STEP.size:
        raise BadReceipt(job, "trace", f"has {len(trace.steps) // STEP.size} steps for {run.drawn} tokens that were drawn")
    if (receipt.usage.prompt_tokens, receipt.usage.completion_tokens) != (run.computed, run.sampled):
        raise BadReceipt(job, "usage", f"must be {run.computed} and {run.sampled} tokens, as the rounds have it")
    stopped = first.end == BranchEnd.BRANCH_END_STOP
    wanted = FinishReason.FINISH_REASON_STOP if stopped else FinishReason.FINISH_REASON_LENGTH
    if receipt.finish_reason != wanted:
        raise BadReceipt(job, "finish_reason", "is not how the first branch ended")
    return first.tokens[first.start :]
