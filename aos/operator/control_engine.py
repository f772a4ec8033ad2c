"""Controlled answers inside the engine: their branches are sequences among the others, their controllers work beside the batch.

A run has a round as soon as all its branches have both their logits and their controllers' decisions; nothing else waits for it.
Branches for which there is no slot take turns: one that has what it needs for the round gives its slot to another of its run, and
all but one of a run's slots go to others who wait.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Final

from aos.errors import AosError, EngineFailed
from aos.operator.batch import Batcher
from aos.operator.control_draw import checked, draw_masked
from aos.operator.control_run import Branch, Run
from aos.operator.controllers import STEP_MILLISECONDS, Ask, Choice, ControlSession, Decision
from aos.operator.sampling import Draw, Logits
from aos.operator.steps import Steps
from aos.operator.stream import End, News, TokenStream
from aos.operator.timings import Timings
from aos.operator.waiting import Terms
from aos.v1.types_pb2 import RunStep

log = logging.getLogger(__name__)

LATE_SECONDS: Final = STEP_MILLISECONDS / 1000
"""Controllers that take longer lose their run's last slot, too, if others wait for one."""

Decisions = list[tuple[int, Decision]]


@dataclass(slots=True)
class Steered:
    """One controlled answer. Made beside the loop, then the engine thread's alone."""

    run: Run
    session: ControlSession
    how: Draw
    terms: Terms
    due: float
    timings: Timings
    steps: Steps
    keys: dict[int, int] = field(default_factory=dict[int, int])
    """Each live branch's sequence."""
    logits: dict[int, Logits] = field(default_factory=dict[int, Logits])
    """Those behind each branch's last token, where the model gave them."""
    decisions: dict[int, Decision] | None = None
    """What the controllers decided; None: they are at it."""
    asked: float = math.inf
    """When they were asked."""
    asks: list[Ask] = field(default_factory=list[Ask])
    """What they are to be asked."""
    given: list[int] | None = None
    """The tokens to take where they were drawn before; None: they are drawn."""
    cached: int | None = None

    @property
    def ready(self) -> bool:
        """Whether the round can be done."""
        return self.decisions is not None and all(one.index in self.logits for one in self.run.live)

    def end(self) -> End:
        """Return how it ended."""
        text, tokens = self.run.answer()
        return End(
            self.run.finish_reason, "", self.run.prompt, tokens, text, self.cached or 0,
            timings=self.timings, steps=self.steps, record=self.run.record,
        )  # fmt: skip


class SteeredAnswers:
    """All controlled answers of an engine. On the engine's thread, but for what sessions hand to ``put``."""

    def __init__(
        self,
        name: str,
        batcher: Batcher,
        keys: Iterator[int],
        put: Callable[[Callable[[], None]], None],
        clock: Callable[[], float],
    ) -> None:
        """``put`` lets the engine's thread call something; ``clock`` gives seconds."""
        self._name, self._batcher, self._keys, self._put, self._clock = name, batcher, keys, put, clock
        self._live: dict[int, tuple[Steered, TokenStream]] = {}
        self._owners: dict[int, tuple[int, int]] = {}
        self._fresh: list[int] = []
        self._asking: list[int] = []
        self._came: SimpleQueue[tuple[int, Decisions]] = SimpleQueue()
        self._called = False
        """Whether the engine's thread was asked to look for what came."""
        self._news: list[News] = []

    def __contains__(self, key: int) -> bool:
        return key in self._live

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._live))

    def owner(self, sequence: int) -> int | None:
        """Return the answer that a sequence is of; None if it is of none of these."""
        owner = self._owners.get(sequence)
        return None if owner is None else owner[0]

    def terms(self, key: int) -> Terms:
        """Return on what terms an answer is computed."""
        return self._live[key][0].terms

    def stream(self, key: int) -> TokenStream:
        """Return where an answer goes."""
        return self._live[key][1]

    def news(self) -> list[News]:
        """Return what came since this was called last."""
        news, self._news = self._news, []
        return news

    def add(self, key: int, steered: Steered, stream: TokenStream) -> None:
        """Begin an answer."""
        self._live[key] = steered, stream
        with self._guarded(key):
            if steered.run.live:
                self._ask(key, steered)
            else:  # its controller could not be set up
                self._round(key, steered, {})

    def drop(self, key: int) -> None:
        """Let an answer go, unless it is gone already."""
        steered, _ = self._live.pop(key, (None, None))
        if steered is None:
            return
        for sequence in steered.keys.values():
            self._batcher.drop(sequence)
            del self._owners[sequence]
        steered.session.close()

    def fail(self, key: int, error: AosError) -> None:
        """End an answer, unless it is gone already."""
        if key in self._live:
            self._news.append(News(self._live[key][1], "", [], error))
            self.drop(key)

    def computed(self, sequence: int, began: float) -> None:
        """Note that a step that begins now computes tokens of a sequence."""
        if (owner := self.owner(sequence)) is not None:
            self._live[owner][0].timings.computed(began)

    def take(self, sequence: int, logits: Logits) -> None:
        """Take what the model gave for a sequence. It is good until the next call of ``settle``."""
        key, branch = self._owners[sequence]
        steered, _ = self._live[key]
        if steered.cached is None:
            steered.cached = min(self._batcher.cached(sequence), len(steered.run.prompt))
        steered.logits[branch] = logits
        self._fresh.append(key)

    def settle(self) -> None:
        """Do the rounds of the answers that now have all; keep what the model gave to the others."""
        self._collect()
        fresh, self._fresh = dict.fromkeys(self._fresh), []
        for key in fresh:
            if key not in self._live:
                continue
            steered, _ = self._live[key]
            with self._guarded(key):
                if steered.ready:
                    self._round(key, steered, steered.decisions or {})
                else:
                    self._own(steered)
                    self._spread(steered)

    def make_room(self, now: float) -> None:
        """Let branches that need no computing now give their slots to others who wait, the last, too, if controllers are late."""
        for steered, _ in self._live.values():
            if not self._batcher.crowded:
                return
            late = steered.decisions is None and now - steered.asked >= LATE_SECONDS
            self._spread(steered, least=0 if late else 1)

    def decided(self, key: int, decisions: Decisions) -> None:
        """Take what an answer's controllers decided."""
        if key not in self._live:
            return
        steered, _ = self._live[key]
        with self._guarded(key):
            if (late := steered.run.late(decisions)) is not None:
                self._tell(key, late)
            if not steered.run.leading:
                steered.decisions = dict(decisions)
            elif steered.run.lead(decisions[0][1]):
                self._ask(key, steered)
                return
            else:
                self._begin(key, steered)
            if steered.ready:
                self._round(key, steered, steered.decisions or {})

    def _begin(self, key: int, steered: Steered) -> None:
        steered.decisions = {}
        if steered.run.live:
            steered.run.begin()
        for branch in steered.run.live:
            self._sequence(key, steered, branch)

    def _ask(self, key: int, steered: Steered) -> None:
        steered.asks = steered.run.asks()
        steered.decisions = None if steered.asks else {}
        if steered.asks:
            self._asking.append(key)

    def ask(self) -> None:
        """Ask all controllers that are to be asked: last of all, as that takes Python's lock from this thread."""
        asking, self._asking = self._asking, []
        now = self._clock() if asking else 0.0
        for key in asking:
            if key in self._live:
                with self._guarded(key):
                    self._ask_now(key, self._live[key][0], now)

    def _ask_now(self, key: int, steered: Steered, now: float) -> None:
        asks, steered.asks, steered.asked = steered.asks, [], now
        steered.session.step(asks, lambda decisions: self._come(key, decisions))

    def _come(self, key: int, decisions: Decisions) -> None:
        """Called on a session's thread."""
        self._came.put((key, decisions))
        if not self._called:
            self._called = True
            self._put(self._collect)

    def _collect(self) -> None:
        self._called = False  # before it looks: what comes later calls again
        while not self._came.empty():
            self.decided(*self._came.get())

    def _round(self, key: int, steered: Steered, decisions: dict[int, Decision]) -> None:
        run, session = steered.run, steered.session
        turn = run.decide(decisions, lambda branch, choice: self._draw(steered, branch, choice))
        for parent, children in turn.forks:
            session.fork(parent, children)
            for child in children:
                steered.logits[child] = steered.logits[parent]
        if not run.live:
            self._tell(key, turn.step, steered.end())
            self.drop(key)
            return
        self._tell(key, turn.step)
        for branch in run.live:
            if branch.told.tokens or branch.told.backtrack:
                steered.logits.pop(branch.index, None)
                self._sequence(key, steered, branch)
        self._own(steered)
        for index in turn.ended:
            session.drop(index)
            steered.logits.pop(index, None)
            self._leave(steered, index)
        self._ask(key, steered)
        self._spread(steered)
        if steered.ready:  # nobody is asked, and nothing is to be computed
            self._round(key, steered, {})

    def _draw(self, steered: Steered, branch: Branch, choice: Choice) -> int:
        of = branch.step.forked_from if branch.step.HasField("forked_from") else branch.index
        logits = steered.logits[of]
        given = steered.given.pop(0) if steered.given else None
        token = draw_masked(logits, steered.how, branch, choice) if given is None else checked(given, choice, len(logits))
        steered.steps.saw(token, logits)
        steered.timings.drew(self._clock())
        return token

    def _sequence(self, key: int, steered: Steered, branch: Branch) -> None:
        """Let the model compute what is new of a branch."""
        sequence = steered.keys.get(branch.index)
        if sequence is None:
            sequence = steered.keys[branch.index] = next(self._keys)
            self._owners[sequence] = key, branch.index
        if sequence in self._batcher:
            self._batcher.change(sequence, branch.told.backtrack, branch.told.tokens)
        else:
            self._batcher.add(sequence, branch.tokens, steered.terms, prompt=branch.prompt)

    def _leave(self, steered: Steered, index: int) -> None:
        """Let an ended branch's slot go, to another branch if one waits."""
        sequence = steered.keys.pop(index, None)
        if sequence is None:
            return
        del self._owners[sequence]
        waiting = self._waiting(steered)
        if waiting and self._batcher.seated(sequence):
            self._batcher.hand(sequence, waiting[0])
        else:
            self._batcher.drop(sequence)

    def _spread(self, steered: Steered, least: int = 1) -> None:
        """Let branches that need no computing now give their slots to those that do, and to others who wait."""
        idle = [steered.keys[index] for index in steered.logits if self._batcher.seated(steered.keys.get(index, -1))]
        for waiting in self._waiting(steered):
            if idle:
                self._batcher.hand(idle.pop(), waiting)
        held = sum(map(self._batcher.seated, steered.keys.values()))
        while idle and held > least and self._batcher.crowded:
            self._batcher.drop(idle.pop())
            held -= 1

    def _waiting(self, steered: Steered) -> list[int]:
        return [sequence for sequence in steered.keys.values() if self._batcher.waits(sequence)]

    def _own(self, steered: Steered) -> None:
        """Keep logits that are the model's, and good only until it computes again."""
        for index, logits in steered.logits.items():
            if logits.base is not None:
                steered.logits[index] = logits.copy()

    def _tell(self, key: int, step: RunStep, end: End | None = None) -> None:
        self._news.append(News(self._live[key][1], "", [], end, run=[step]))

    def _guarded(self, key: int) -> _Guard:
        return _Guard(self, key, self._name)


class _Guard:
    """Ends an answer whose round failed, and no other. Much is done in it, so it is no generator."""

    __slots__ = ("_answers", "_key", "_name")

    def __init__(self, answers: SteeredAnswers, key: int, name: str) -> None:
        self._answers, self._key, self._name = answers, key, name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        if not isinstance(error, AosError):
            log.error("a round of %s failed", self._name, exc_info=error)
            error = EngineFailed(self._name, str(error) or type(error).__name__)
        self._answers.fail(self._key, error)
        return True
