"""Runs of the controllers of this project in the real runtime: what each does is done, and what a model would draw is told."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from aos.operator.controllers import Applied, Decision, Vocabulary
from aos.operator.wasm_programs import Controllers

FOLDER = Path(__file__).resolve().parents[2] / "aos" / "controllers"
BEGIN, END = 1, 2
WAIT = 20
"""Seconds for one step, on a machine that does much else."""
MOST_STEPS = 200

WORDS = [
    "The", " ultimate", " answer", " to", " the", " universe", " is", " yellow", "Yes", "No", " or", "Hello", " world",
    "4", "2", "42", "00", '"', " '", "123", " and", "ab", "abc", " +", " * ", "\n", "if", "else", "foo", "bar",
    "Results", ": ", "é", "🙂", "RED", "GREEN",
]  # fmt: skip
PIECES: list[bytes] = [b"", b"", b"", *(bytes([one]) for one in range(256)), *(word.encode() for word in WORDS), b"42"]
"""Three control tokens, each byte, some words, and one of them twice."""
LONGEST = max(map(len, PIECES))
NUMBERS = {piece: token for token, piece in reversed(list(enumerate(PIECES)))}


def tokenise(text: bytes) -> list[int]:
    """Return the tokens: the longest that fits, again and again."""
    tokens: list[int] = []
    while text:
        size = next(size for size in range(min(LONGEST, len(text)), 0, -1) if text[:size] in NUMBERS)
        tokens.append(NUMBERS[text[:size]])
        text = text[size:]
    return tokens


def untokenised(tokens: Sequence[int]) -> bytes:
    return b"".join(PIECES[token] for token in tokens)


VOCABULARY = Vocabulary("words", len(PIECES), END, PIECES.__getitem__, tokenise)


@dataclass
class Way:
    """One branch: its tokens behind the prompt, and what it would like to say."""

    says: bytes
    tokens: list[int] = field(default_factory=list)
    applied: Applied = field(default_factory=Applied)
    group: tuple[int, ...] = ()
    ended: str = ""

    @property
    def text(self) -> str:
        return untokenised(self.tokens).decode()

    def draw(self, allowed: set[int]) -> int:
        """Return the token that says most of what is to be said; the end of the answer where that is all, or nothing fits."""
        fitting = [token for token in allowed if PIECES[token] and self.says.startswith(PIECES[token])]
        if not fitting:
            return END if END in allowed and not self.says else min(allowed)
        chosen = max(fitting, key=lambda token: len(PIECES[token]))
        self.says = self.says[len(PIECES[chosen]) :]
        return chosen


@dataclass
class Ran:
    """What came of a run."""

    ways: dict[int, Way]
    prompt: list[int]
    logs: str
    variables: dict[str, bytes]
    splices: list[str]
    masks: list[int]
    micros: list[int]
    error: str = ""

    @property
    def text(self) -> str:
        return self.ways[0].text


def allowed_of(mask: np.ndarray) -> set[int]:
    return set(np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")[: len(PIECES)]).tolist())


class Stage:
    """Where controllers run."""

    def __init__(self, controllers: Controllers) -> None:
        self._controllers = controllers

    async def run(self, name: str | bytes, argument: str = "", *, prompt: str = "", says: str | Sequence[str] = "") -> Ran:
        """Run a controller of the package, or a module, to its end. ``says``: what each branch would like to say."""
        module = name if isinstance(name, bytes) else (FOLDER / f"{name}.wasm").read_bytes()

        async def read() -> bytes:
            return module

        program = await self._controllers.program(hashlib.sha256(module).digest(), read)
        session = await self._controllers.session(program, argument, VOCABULARY)
        try:
            return await self._run(session, [BEGIN, *tokenise(prompt.encode())], [says] if isinstance(says, str) else list(says))
        finally:
            session.close()

    async def _run(self, session, prompt: list[int], says: list[str]) -> Ran:
        setup = await asyncio.to_thread(session.setup, prompt)
        ran = Ran({0: Way(says[0].encode())}, list(setup.prompt), setup.logs, {}, [], [], [], setup.error)
        self._keep(ran, setup.writes)
        if setup.error:
            return ran
        ran.ways[0].group = (0,)
        for _ in range(MOST_STEPS):
            live = {number: way for number, way in ran.ways.items() if not way.ended}
            if not live:
                return ran
            asks = [(number, way.applied, way.group) for number, way in live.items()]
            for number, decision in await self._step(session, asks):
                self._do(session, ran, number, decision, says)
        raise AssertionError(f"no end after {MOST_STEPS} steps: {ran}")

    async def _step(self, session, asks) -> list[tuple[int, Decision]]:
        loop, answer = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
        session.step(asks, lambda made: loop.call_soon_threadsafe(answer.set_result, made))
        return await asyncio.wait_for(answer, WAIT)

    def _keep(self, ran: Ran, writes) -> None:
        for write in writes:
            ran.variables[write.name] = (ran.variables.get(write.name, b"") if write.append else b"") + write.value

    def _do(self, session, ran: Ran, number: int, decision: Decision, says: list[str]) -> None:
        way = ran.ways[number]
        ran.logs += decision.logs
        ran.micros.append(decision.micros)
        self._keep(ran, decision.writes)
        if decision.error or not decision.branches:
            way.ended = decision.error or "stop"
            session.drop(number)
            return
        group = [number, *range(len(ran.ways), len(ran.ways) + len(decision.branches) - 1)]
        if len(group) > 1:
            session.fork(number, group[1:])
        for index in group[1:]:
            ran.ways[index] = Way(says[index].encode() if index < len(says) else b"", list(way.tokens))
        for index, choice in zip(group, decision.branches, strict=True):
            one = ran.ways[index]
            one.group = tuple(group)
            if choice.mask is None:
                [splice] = choice.splices
                one.tokens = one.tokens[: len(one.tokens) - splice.backtrack] + list(splice.tokens)
                one.applied = Applied(splice.backtrack, splice.tokens)
                if splice.tokens:
                    ran.splices.append(untokenised(splice.tokens).decode())
            else:
                allowed = allowed_of(choice.mask)
                ran.masks.append(len(allowed))
                token = one.draw(allowed)
                one.tokens.append(token)
                one.applied = Applied(0, (token,), token)
