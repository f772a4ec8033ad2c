"""One controlled answer: its branches, what is done with each, what that costs and how each ends. Pure: no model, clock or thread.

A run goes in rounds. In each, every live branch has one callback of its controller and one forward pass, of the tokens that the
callback is told about; then all that the callbacks decided is done, in the order of the branches. Before the first pass the first
branch's controller may put tokens behind the prompt without one. Nothing here depends on how long anything takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aos.control_order import solid
from aos.operator.control_text import BranchText, Piece, whole_text
from aos.operator.controllers import (
    FORKS,
    LATE,
    LATE_STEPS,
    SETUP_TIMEOUT,
    STEP_MILLISECONDS,
    TEMPERATURE,
    TIMEOUT,
    TOO_MANY_FORKS,
    Applied,
    Ask,
    Choice,
    Decision,
    Setup,
    Splice,
)
from aos.operator.variables import Write
from aos.v1.types_pb2 import BranchEnd, BranchStep, FinishReason, RunStep, VariableWrite
from aos.verification.controlled import MOST_ROUNDS, RECORD_BYTES
from aos.verification.trace import MOST_STEPS, MOST_TOKENS

LEADING: Final = 64
"""Most splices of a run that are done before its first forward pass."""


class Refused(Exception):
    """What a controller decided cannot be done. The text is for whoever wrote it."""


@dataclass(slots=True)
class Branch:
    """One of the sequences of a run."""

    index: int
    tokens: list[int]
    """Prompt and answer."""
    start: int
    """Where the answer begins: at the prompt's end, or where the prompt was cut off."""
    text: BranchText
    temperature: float | None = None
    """What its controller set; None: the order's."""
    drawn: int = 0
    """How many tokens were drawn in it, and in those that it comes from."""
    told: Applied = field(default_factory=Applied)
    """What its controller is to be told."""
    group: tuple[int, ...] = ()
    end: BranchEnd = BranchEnd.BRANCH_END_UNSPECIFIED
    backtrack: int = 0
    """Of this round: how many tokens were taken back, and then what came."""
    came: list[int] = field(default_factory=list[int])
    step: BranchStep = field(default_factory=BranchStep)
    prompt: int = 0
    """So many of the first tokens are those that it began with: what was there before the first pass, and was never taken back."""

    @property
    def output(self) -> list[int]:
        """The tokens of its answer."""
        return self.tokens[self.start :]


Draw = Callable[[Branch, Choice], int]
"""Draws the next token of a branch. Raises Refused."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a round came to."""

    step: RunStep
    forks: list[tuple[int, tuple[int, ...]]]
    """Which branch went on as which others, too."""
    ended: list[int]
    """Those that have ended."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use."""

    context: int
    """Tokens of a branch, prompt included."""
    max_tokens: int
    """Tokens of a branch behind the prompt."""
    fuel: int
    """Of all branches: twice the forward passes and, once, the tokens computed."""
    vocabulary: int


@dataclass(frozen=True, slots=True)
class Record:
    """All of a run that its receipt speaks of."""

    steps: list[RunStep]
    """Without what may differ when it is run again."""
    context: int
    sampled_tokens: int
    ff_tokens: int


class Run:
    """The branches of one answer."""

    def __init__(self, setup: Setup, limits: Limits, piece: Piece, *, timed_out: frozenset[tuple[int, int]] = frozenset()) -> None:
        """Begin with one branch; if its controller could not be set up, or its prompt is too long, it has ended already.

        ``timed_out``: of a run that is run again, rounds and branches whose controllers took too long then; they are not asked.
        """
        self.limits, self._piece, self._timed_out = limits, piece, timed_out
        self.prompt = list(setup.prompt)
        first = Branch(0, list(self.prompt), len(self.prompt), BranchText(piece), group=(0,))
        self.branches = [first]
        self.sampled_tokens = self.ff_tokens = 0
        self.leading = True
        """Whether no forward pass has begun yet."""
        self._held: Decision | None = None
        self._led = self._rounds = self._bytes = self._drawn = 0
        self._forks: list[tuple[int, tuple[int, ...]]] = []
        self._record: list[RunStep] = []
        _note(first, setup.logs, setup.writes, 0)
        if setup.error:
            _fail(first, setup.error)
        elif not self.prompt or len(self.prompt) >= limits.context:
            _fail(first, f"Worker: the prompt has {len(self.prompt)} tokens (max={limits.context - 1})")

    @property
    def live(self) -> list[Branch]:
        """Those that have not ended."""
        return [one for one in self.branches if not one.end]

    @property
    def finish_reason(self) -> FinishReason:
        """Why the first branch ended."""
        stopped = self.branches[0].end == BranchEnd.BRANCH_END_STOP
        return FinishReason.FINISH_REASON_STOP if stopped else FinishReason.FINISH_REASON_LENGTH

    @property
    def record(self) -> Record:
        """All rounds so far."""
        return Record(self._record, self.limits.context, self.sampled_tokens, self.ff_tokens)

    def answer(self) -> tuple[str, list[int]]:
        """Return the text and the tokens of the first branch."""
        tokens = self.branches[0].output
        return whole_text(tokens, self._piece), tokens

    def asks(self) -> list[Ask]:
        """Return what the controllers are to be asked."""
        late = {index for at, index in self._timed_out if at == self._rounds + 1}
        return [(one.index, one.told, one.group) for one in self.live if one.index not in late]

    def lead(self, decision: Decision) -> bool:
        """Take what the first branch's controller decided before the first pass; say whether it is to be asked again.

        If not, either the run has ended, or ``begin`` is next: the decision is done behind the first pass.
        """
        (branch,) = self.live
        choice = decision.branches[0] if len(decision.branches) == 1 else None
        if decision.error or not decision.branches:
            self._close(branch, decision)
            return False
        splice = _pure(choice) if choice is not None else None
        if choice is None or splice is None or not (splice.tokens or splice.backtrack) or self._led == LEADING:
            self._held = decision
            return False
        self._led += 1
        _note(branch, decision.logs, decision.writes, decision.micros)
        self._attempt(branch, choice, _draws_nothing)
        return not branch.end

    def late(self, decisions: Sequence[tuple[int, Decision]]) -> RunStep | None:
        """Return what is told of callbacks that took longer than a step, before what they decided; None if none did."""
        steps = [
            BranchStep(index=index, late=True, logs="".join(_late_note(step) for step in range(1, one.late + 1)))
            for index, one in decisions
            if one.late
        ]
        counts = self.sampled_tokens, self.ff_tokens
        return RunStep(branches=steps, sampled_tokens=counts[0], ff_tokens=counts[1]) if steps else None

    def begin(self) -> None:
        """Count the first pass. A run without the fuel for it ends."""
        self.leading = False
        (branch,) = self.live
        branch.told = Applied(0, tuple(branch.tokens))  # all of it is computed now; nobody is told so
        branch.prompt = len(branch.tokens)
        self._afford()

    def decide(self, decisions: Mapping[int, Decision], draw: Draw) -> Turn:
        """Do what was decided about the live branches, and count the next pass; of the first round, ``lead`` has the decision.

        Tokens are drawn in the order of the branches, those that are new last.
        """
        if self._held is not None:
            decisions, self._held = {0: self._held}, None
        self._rounds += 1
        counted = self.sampled_tokens, self.ff_tokens
        doing: list[tuple[Branch, Choice]] = []
        young: list[tuple[Branch, Choice]] = []
        active = self.live if self._rounds > 1 else [self.branches[0]]
        for branch in self.live:
            decision = decisions.get(branch.index) or Decision((), "", (), 0, TIMEOUT)
            _begin_round(branch, new=self._rounds == 1)
            if decision.error or not decision.branches:
                self._close(branch, decision)
                continue
            _note(branch, decision.logs, decision.writes, decision.micros)
            if len(self.branches) + len(decision.branches) - 1 > FORKS:
                _fail(branch, TOO_MANY_FORKS)
                continue
            doing.append((branch, decision.branches[0]))
            young += self._fork(branch, decision.branches[1:])
        for branch, choice in [*doing, *young]:
            self._attempt(branch, choice, draw)
        self._afford()
        active += [branch for branch, _ in young]
        steps = [self._said(branch) for branch in active]
        return self._turn(RunStep(branches=steps, sampled_tokens=counted[0], ff_tokens=counted[1]), active)

    def _turn(self, step: RunStep, active: Sequence[Branch]) -> Turn:
        kept = solid(step)
        if kept is not None:
            self._record.append(kept)
            self._bytes += kept.ByteSize()
        forks, self._forks = self._forks, []
        return Turn(step, forks, [one.index for one in active if one.end])

    def _close(self, branch: Branch, decision: Decision) -> None:
        _note(branch, decision.logs, decision.writes, decision.micros)
        if decision.error:
            _fail(branch, decision.error)
        else:
            branch.end = BranchEnd.BRANCH_END_STOP

    def _fork(self, parent: Branch, choices: Sequence[Choice]) -> list[tuple[Branch, Choice]]:
        if not choices:
            return []
        made: list[tuple[Branch, Choice]] = []
        for choice in choices:
            child = Branch(len(self.branches), list(parent.tokens), parent.start, BranchText(self._piece), prompt=parent.prompt)
            child.temperature, child.drawn, child.told = parent.temperature, parent.drawn, Applied()
            child.step = BranchStep(index=child.index, forked_from=parent.index)
            child.backtrack, child.came = parent.backtrack, list(parent.came)  # what was led is new to it, too
            self.branches.append(child)
            made.append((child, choice))
        children = tuple(child.index for child, _ in made)
        parent.group = (parent.index, *children)
        for child, _ in made:
            child.group = parent.group
        self._forks.append((parent.index, children))
        return made

    def _attempt(self, branch: Branch, choice: Choice, draw: Draw) -> None:
        try:
            self._do(branch, choice, draw)
        except Refused as refused:
            _fail(branch, str(refused))

    def _do(self, branch: Branch, choice: Choice, draw: Draw) -> None:
        if choice.temperature is not None:
            if not (math.isfinite(choice.temperature) and 0 <= choice.temperature <= TEMPERATURE):
                raise Refused(f"Worker: temperature {choice.temperature} (max={TEMPERATURE:g})")
            branch.temperature = choice.temperature
        splice = _pure(choice)
        if splice is not None:
            self._change(branch, splice.backtrack, splice.tokens, None)
            return
        if self._drawn == MOST_STEPS:
            branch.end = BranchEnd.BRANCH_END_LENGTH
            return
        token = draw(branch, choice)
        branch.drawn += 1
        self._drawn += 1
        branch.step.sampled = True
        then = next((one for one in choice.splices if token in one.when_sampled), None)
        if then is None:
            self._change(branch, 0, (token,), token)
        elif then.backtrack:  # what is taken back first is the token itself
            self._change(branch, then.backtrack - 1, then.tokens, token)
        else:
            self._change(branch, 0, (token, *then.tokens), token)

    def _change(self, branch: Branch, backtrack: int, tokens: tuple[int, ...], sampled: int | None) -> None:
        limits, kept = self.limits, len(branch.tokens) - backtrack
        if tokens and not (min(tokens) >= 0 and max(tokens) < limits.vocabulary):
            raise Refused(f"Worker: a token that the model does not have (max={limits.vocabulary - 1})")
        if kept < 0:
            raise Refused(f"Worker: backtrack past the beginning ({backtrack} of {len(branch.tokens)} tokens)")
        if kept + len(tokens) > limits.context:
            raise Refused(f"Worker: splice over the context ({kept} + {len(tokens)} tokens, max={limits.context})")
        if not kept + len(tokens):
            raise Refused("Worker: backtrack to the very beginning, and nothing put there")
        room = max(0, min(limits.max_tokens, MOST_TOKENS) - (kept - len(self.prompt)))
        tokens = tokens[:room]
        branch.tokens[kept:] = tokens
        branch.prompt = min(branch.prompt, kept)
        branch.start = min(branch.start, kept)
        branch.told = Applied(backtrack, tokens, sampled)
        # several before the first pass are told as one
        again = min(backtrack, len(branch.came))
        branch.came[len(branch.came) - again :] = tokens
        branch.backtrack += backtrack - again
        if len(tokens) == room or len(branch.tokens) >= limits.context:
            branch.end = BranchEnd.BRANCH_END_LENGTH

    def _afford(self) -> None:
        """Count a pass of each live branch. Those without the fuel for it end; so do all if there is no room for more rounds."""
        full = self._rounds >= MOST_ROUNDS - 1 or self._bytes >= RECORD_BYTES
        for branch in self.branches:
            if branch.end:
                continue
            sampled, computed = self.sampled_tokens + 1, self.ff_tokens + len(branch.told.tokens)
            if full or 2 * sampled + computed > self.limits.fuel:
                branch.end = BranchEnd.BRANCH_END_OUT_OF_FUEL
            else:
                self.sampled_tokens, self.ff_tokens = sampled, computed

    def _said(self, branch: Branch) -> BranchStep:
        step = branch.step
        new = step.HasField("forked_from")
        # all that was kept is looked at only where some of it was said and taken back
        kept = branch.tokens[branch.start : len(branch.tokens) - len(branch.came)] if branch.backtrack and not new else ()
        tokens, backtrack = (branch.output, 0) if new else (branch.came, branch.backtrack)
        if text := branch.text.say(kept, backtrack, tokens, ended=bool(branch.end)):
            step.text = text
        if branch.backtrack:
            step.backtrack = branch.backtrack
        if branch.end:
            step.end = branch.end
        step.tokens.extend(branch.came)
        return step


def _begin_round(branch: Branch, *, new: bool) -> None:
    branch.group = (branch.index,)
    branch.told = Applied()
    if not new:  # what was led is told with the first round
        branch.backtrack, branch.came, branch.step = 0, [], BranchStep(index=branch.index)


def _note(branch: Branch, logs: str, writes: Sequence[Write], micros: int) -> None:
    if logs:
        branch.step.logs += logs
    branch.step.micros += micros
    for one in writes:
        branch.step.writes.append(
            VariableWrite(name=one.name, value=one.value, append=one.append, when_version_is=one.when_version_is)
        )


def _late_note(step: int) -> str:
    return LATE.format(limit=STEP_MILLISECONDS, step=step, steps=LATE_STEPS)


def _fail(branch: Branch, error: str) -> None:
    branch.end = BranchEnd.BRANCH_END_FAIL
    branch.step.error = error
    logs = branch.step.logs
    if not logs.endswith(f"{error}\n"):  # the session says so itself of what the controller did
        branch.step.logs += f"{error}\n" if not logs or logs.endswith("\n") else f"\n{error}\n"
    branch.step.timed_out = error in (TIMEOUT, SETUP_TIMEOUT)


def _pure(choice: Choice) -> Splice | None:
    """Return what is done without a draw; None: a token is drawn."""
    if choice.mask is not None:
        return None
    return choice.splices[0] if choice.splices else Splice(0, ())


def _draws_nothing(_branch: Branch, _choice: Choice) -> int:
    raise AssertionError("a splice draws nothing")
