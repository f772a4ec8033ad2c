"""The controllers of one run over Wasm: an instance for each branch, asked one after the other on a worker thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from aos.operator.allowance import Allowance
from aos.operator.controllers import (
    FORKS,
    LATE_STEPS,
    NOOP,
    SETUP_MILLISECONDS,
    STEP_MILLISECONDS,
    TIMEOUT,
    TOO_MANY_FORKS,
    Applied,
    Ask,
    BadResult,
    Choice,
    Decision,
    Setup,
    Splice,
    Vocabulary,
    init_prompt_argument,
    mid_argument,
    old_mid_argument,
    post_argument,
    read_before,
    read_decision,
    read_old_decision,
    read_prompt,
    read_stop,
)
from aos.operator.variables import Variables, Write
from aos.operator.wasm import Instance
from aos.operator.wasm_host import Ended, Host
from aos.wasm_modules import MEMORY_BYTES, OLDEST

RUN_BYTES: Final = 512 << 20
"""Most memory of all instances of a run together."""
CLOSED: Final = "the session is closed"
"""Why a branch failed whose run was closed meanwhile."""
SLOW_SECONDS: Final = 0.002
"""A run whose last callbacks took longer together has its next ones on a thread of their own, where nobody waits behind them."""
DEAD: Final = "Previous WASM Error"
"""Why a branch failed that is asked again after it failed."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Branch:
    """One branch: its instance and, for the oldest ABI, how far it is in a step."""

    instance: Instance
    begun: bool = False
    forked: bool = False


class Session:
    """A ``ControlSession`` over Wasm."""

    def __init__(
        self,
        begin: Callable[[Host, Allowance], Instance],
        submit: Callable[..., bool],
        abi: str,
        argument: bytes,
        vocabulary: Vocabulary,
        trie: bytes,
        patience: float = 1.0,
    ) -> None:
        """``begin`` gives an instance after ``aici_create``; ``submit`` does something on a worker, ``apart`` from others if that
        is set, or says that it cannot.

        All time limits are ``patience`` times as long.
        """
        self._begin, self._submit, self._abi, self._argument = begin, submit, abi, argument
        self._vocabulary, self._trie, self._variables = vocabulary, trie, Variables()
        self._setup_seconds, self._step_seconds = patience * SETUP_MILLISECONDS / 1000, patience * STEP_MILLISECONDS / 1000
        self._branches: dict[int, _Branch] = {}
        self._failed: dict[int, str] = {}
        self._works: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._busy, self._closed, self._slow = False, False, False

    def setup(self, prompt: Sequence[int]) -> Setup:
        """Begin branch 0, and tell it the prompt."""
        host = Host(0, self._vocabulary, self._trie, self._argument, self._variables)
        allowance = Allowance(self._setup_seconds)
        if not self._enter():
            return Setup((), "", (), CLOSED)
        try:
            instance = self._begin(host, allowance)
            self._branches[0] = _Branch(instance)
            answer = instance.tell("aici_init_prompt", init_prompt_argument(prompt), allowance)
            return Setup(read_prompt(answer, prompt, self._vocabulary.size), *host.told())
        except (Ended, BadResult) as error:
            return Setup((), *_failure("setup", host, str(error)))
        finally:
            self._leave()

    def step(self, asks: Sequence[Ask], done: Callable[[list[tuple[int, Decision]]], None]) -> None:
        """Ask live branches."""
        works, self._works = self._works, []

        def work() -> None:
            began = time.monotonic()
            decisions = self._step(asks, works)
            self._slow = time.monotonic() - began > SLOW_SECONDS
            self._leave()
            done(decisions)

        entered = self._enter()
        if not entered or not self._submit(work, apart=self._slow):
            if entered:
                self._leave()
            done([(branch, _ended(CLOSED)) for branch, _, _ in asks])

    def fork(self, parent: int, children: Sequence[int]) -> None:
        """Let new branches go on from where ``parent`` is."""
        self._works.append(lambda: self._fork(parent, children))

    def drop(self, branch: int) -> None:
        """Forget a branch."""
        self._works.append(lambda: self._drop(branch))

    def close(self) -> None:
        """Let all go."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            busy = self._busy
        # whoever works for it releases it
        if not busy and not self._submit(self._release):
            self._release()

    def _enter(self) -> bool:
        """Say whether work may begin: instances are there until ``_leave``."""
        with self._lock:
            self._busy = not self._closed
            return self._busy

    def _leave(self) -> None:
        with self._lock:
            self._busy, closed = False, self._closed
        if closed:
            self._release()

    def _release(self) -> None:
        for branch in self._branches.values():
            branch.instance.close()
        self._branches.clear()

    def _step(self, asks: Sequence[Ask], works: Sequence[Callable[[], None]]) -> list[tuple[int, Decision]]:
        decisions: list[tuple[int, Decision]] = []
        try:
            for work in works:
                work()
            for branch, applied, group in asks:
                decisions.append((branch, _ended(CLOSED) if self._closed else self._ask(branch, applied, group)))
        except Exception:  # no controller's doing
            log.exception("a step of a controlled run failed")
            decisions += [(branch, _ended("Worker: internal error")) for branch, _, _ in asks[len(decisions) :]]
        return decisions

    def _ask(self, number: int, applied: Applied, group: tuple[int, ...]) -> Decision:
        branch = self._branches.get(number)
        if branch is None:
            return _ended(self._failed.get(number, DEAD))
        host, began = branch.instance.host, time.monotonic()
        allowance = Allowance(self._step_seconds * LATE_STEPS)
        try:
            choices = self._choices(branch, applied, group, allowance)
        except (Ended, BadResult) as error:
            self._failed[number] = DEAD
            self._drop(number)
            if str(error) == TIMEOUT:
                logs, writes = host.told()
                return Decision((), logs, writes, _micros(began), TIMEOUT, LATE_STEPS)
            logs, writes, reason = _failure("mid", host, str(error))
            return Decision((), logs, writes, _micros(began), reason)
        late = min(LATE_STEPS - 1, int(allowance.spent / self._step_seconds))
        logs, writes = host.told()
        return Decision(choices, logs, writes, _micros(began), late=late)

    def _choices(self, branch: _Branch, applied: Applied, group: tuple[int, ...], allowance: Allowance) -> tuple[Choice, ...]:
        host, size = branch.instance.host, self._vocabulary.size
        if self._abi == OLDEST:
            return self._oldest(branch, applied, group, allowance)
        result = branch.instance.tell("aici_mid_process", mid_argument(applied, group), allowance)
        return read_decision(result, host.masks, size)

    def _oldest(self, branch: _Branch, applied: Applied, group: tuple[int, ...], allowance: Allowance) -> tuple[Choice, ...]:
        """Do the three callbacks of a step: what came of the last one, then what comes before a draw, then the draw."""
        instance, size = branch.instance, self._vocabulary.size
        if not branch.forked:
            told = branch.begun and (applied.tokens or applied.backtrack)
            if told and read_stop(instance.tell("aici_post_process", post_argument(applied), allowance)):
                return ()
            branch.begun = True
            before = read_before(instance.tell("aici_pre_process", b"{}", allowance), size)
            if not before.forks:
                return ()
            if before.forks > 1:
                if before.tokens:
                    raise BadResult("num_forks and ff_tokens at once")
                branch.forked = True
                return (NOOP,) * before.forks
            if before.suspend:
                return (NOOP,)
            if before.tokens:
                return (Choice(None, (Splice(0, before.tokens),)),)
        branch.forked = False
        result = instance.tell("aici_mid_process", old_mid_argument(group), allowance)
        return read_old_decision(result, instance.host.masks.get(0), size, self._vocabulary.end)

    def _fork(self, parent: int, children: Sequence[int]) -> None:
        source = self._branches.get(parent)
        if source is not None and len(children) > 1:
            source.instance.share()
        for child in children:
            try:
                self._branches[child] = self._copy(parent, child)
            except Ended as error:
                self._failed[child] = str(error)
        share = min(MEMORY_BYTES, RUN_BYTES // max(1, len(self._branches)))
        for branch in self._branches.values():
            branch.instance.limit(max(share, branch.instance.size))

    def _copy(self, parent: int, child: int) -> _Branch:
        source = self._branches.get(parent)
        if source is None:
            raise Ended(DEAD)
        if len(self._branches) >= FORKS:
            raise Ended(TOO_MANY_FORKS)
        if sum(one.instance.size for one in self._branches.values()) + source.instance.size > RUN_BYTES:
            raise Ended(f"Worker: forks with more than {RUN_BYTES} bytes of memory together")
        return _Branch(source.instance.copy(source.instance.host.copy(child, self._variables)), source.begun, source.forked)

    def _drop(self, number: int) -> None:
        branch = self._branches.pop(number, None)
        if branch is not None:
            branch.instance.close()


def _ended(reason: str) -> Decision:
    return Decision((), f"{reason}\n", (), 0, reason)


def _failure(where: str, host: Host, reason: str) -> tuple[str, tuple[Write, ...], str]:
    """Return log, writes and error of a callback that failed. The log ends with the error."""
    logs, writes = host.told()
    error = f"Error ({where}): {reason}"
    return f"{logs}\n{error}\n" if logs and not logs.endswith("\n") else f"{logs}{error}\n", writes, error


def _micros(began: float) -> int:
    return round((time.monotonic() - began) * 100_000) * 10
