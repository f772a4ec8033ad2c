"""Controllers that are Python functions, and a model for them: the real engine runs both.

def twice(it: Instance) -> Decision | Choice:                  # asked once a step and branch; a fork has a copy of ``memory``
    it.memory["asked"] = it.memory.get("asked", 0) + 1
    return splice(b"AB") if it.memory["asked"] <= 2 else STOP

session = ScriptedControl(twice)
engine.generate(order, steering=Steering(session.opened))
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Condition
from typing import Any, Final

import numpy as np

from aos.operator.controllers import Applied, Ask, Choice, Decision, Setup, Splice, packed
from aos.operator.model import Model
from aos.operator.sampling import Logits
from aos.operator.variables import Write
from aos.testing.scripted import VOCABULARY, ScriptedModel
from aos.v1.types_pb2 import Control

STOP: Final = Decision((), "", (), 0)
"""The branch stops."""
NOOP: Final = Choice(None, (Splice(0, ()),))
"""A pass in which nothing is done."""


@dataclass(slots=True)
class Instance:
    """A controller of one branch, as its function sees it."""

    index: int
    told: Applied = field(default_factory=Applied)
    group: tuple[int, ...] = ()
    memory: dict[str, Any] = field(default_factory=dict[str, Any])
    logs: str = ""
    writes: list[Write] = field(default_factory=list[Write])

    @property
    def asked(self) -> int:
        """How often it was asked, this time included; those that it comes from count."""
        return self.memory["asked"]


Answer = Decision | Choice | Sequence[Choice]
Script = Callable[[Instance], Answer]


def splice(tokens: bytes | Sequence[int], backtrack: int = 0) -> Choice:
    """Return a decision to put tokens there."""
    return Choice(None, (Splice(backtrack, tuple(tokens)),))


def draw(
    allowed: bytes | Sequence[int] | None = None, *, splices: Sequence[Splice] = (), temperature: float | None = None
) -> Choice:
    """Return a decision to draw one of these tokens of a ScriptedModel; None: any."""
    tokens = range(VOCABULARY) if allowed is None else allowed
    return Choice(packed(list(tokens), VOCABULARY), tuple(splices), temperature)


def fail(error: str) -> Decision:
    """Return what comes of a controller that fails."""
    return Decision((), "", (), 0, error)


class ScriptedControl:
    """A ControlSession whose controllers are a function."""

    def __init__(self, script: Script, *, prompt: Callable[[list[int]], Sequence[int]] | None = None, error: str = "") -> None:
        """``prompt`` gives the prompt in place of the order's; ``error`` is why it cannot be set up."""
        self._script, self._prompt, self._error = script, prompt, error
        self._instances = {0: Instance(0)}
        self._work = ThreadPoolExecutor(1, "aos-scripted-control")
        self._asked = Condition()
        self.told: list[list[Ask]] = []
        """Everything that was asked, step by step."""
        self.closed = False

    async def opened(self, _control: Control, _model: Model) -> ScriptedControl:
        """Be what opens it, for ``Steering``."""
        return self

    def setup(self, prompt: Sequence[int]) -> Setup:
        """Return the prompt, or the script's own."""
        chosen = prompt if self._prompt is None else self._prompt(list(prompt))
        return Setup(tuple(chosen), "", (), self._error)

    def step(self, asks: Sequence[Ask], done: Callable[[list[tuple[int, Decision]]], None]) -> None:
        """Ask the function about each, on a thread."""
        if not self.closed:
            with self._asked:
                self.told.append(list(asks))
                self._asked.notify_all()
            self._work.submit(lambda: done([(branch, self._ask(branch, told, group)) for branch, told, group in asks]))

    def reached(self, count: int, seconds: float = 10.0) -> None:
        """Return once it was asked so often. The test's, on a thread. Raises TimeoutError."""
        with self._asked:
            if not self._asked.wait_for(lambda: len(self.told) >= count, seconds):
                raise TimeoutError(f"asked {len(self.told)} times, not {count}")

    def fork(self, parent: int, children: Sequence[int]) -> None:
        """Copy the branch's memory."""

        def work() -> None:
            for child in children:
                self._instances[child] = Instance(child, memory=copy.deepcopy(self._instances[parent].memory))

        self._work.submit(work)

    def drop(self, branch: int) -> None:
        """Forget the branch."""
        self._work.submit(lambda: self._instances.pop(branch))

    def close(self) -> None:
        """Take no more."""
        self.closed = True
        self._work.shutdown(wait=False)

    def _ask(self, branch: int, told: Applied, group: tuple[int, ...]) -> Decision:
        instance = self._instances[branch]
        instance.told, instance.group, instance.logs, instance.writes = told, group, "", []
        instance.memory["asked"] = instance.memory.get("asked", 0) + 1
        answer = self._script(instance)
        if isinstance(answer, Decision):
            return answer
        choices = (answer,) if isinstance(answer, Choice) else tuple(answer)
        return Decision(choices, instance.logs, tuple(instance.writes), 0)


class WanderingModel(ScriptedModel):
    """A model whose logits are a function of all tokens of a sequence: whoever loses or doubles one draws another."""

    def _logits(self, slot: int) -> Logits:
        said = np.asarray(self._sequences[slot], "<u4").tobytes()
        seed = int.from_bytes(hashlib.sha256(said).digest()[:8], "big")
        return np.random.Generator(np.random.Philox(seed)).standard_normal(VOCABULARY, np.float32)
