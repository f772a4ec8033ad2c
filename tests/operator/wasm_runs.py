"""Runs of small controllers on the real runtime, driven by hand: no engine, a vocabulary of bytes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue

from aos.operator.control_session import Session
from aos.operator.controllers import Applied, Ask, Decision, Setup, Vocabulary
from aos.operator.wasm_programs import Controllers
from aos.wasm_modules import compile_here

END = 256
"""The token that ends an answer; behind it are some of two bytes."""
VOCABULARY = 300
WAIT = 30.0
"""How long a step may take before the test fails, in seconds."""


def piece(token: int) -> bytes:
    """The bytes of a token."""
    return bytes([token]) if token < END else b"" if token == END else b"~" + bytes([token - END])


def bytewise(text: bytes) -> list[int]:
    """A token for each byte. Exclamation marks cannot be had."""
    if b"!" in text:
        raise ValueError("no exclamation marks")
    return list(text)


BYTES = Vocabulary("bytes", VOCABULARY, END, piece, bytewise)


class Run:
    """One run."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def setup(self, *prompt: int) -> Setup:
        """Set it up, which must go well."""
        setup = self.session.setup(prompt)
        assert setup.error == ""
        return setup

    def steps(self, asks: Sequence[Ask]) -> dict[int, Decision]:
        """Ask branches; return what they decide."""
        decided: SimpleQueue[list[tuple[int, Decision]]] = SimpleQueue()
        self.session.step(asks, decided.put)
        return dict(decided.get(timeout=WAIT))

    def step(self, applied: Applied | None = None, *, branch: int = 0) -> Decision:
        """Ask one branch."""
        return self.steps([(branch, applied or Applied(), (branch,))])[branch]


class Runs:
    """Opens runs, and closes them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.controllers = folder, Controllers(folder)
        self.open: list[Session] = []

    def begin(self, module: bytes, argument: str = "", *, vocabulary: Vocabulary = BYTES, patience: float = 1.0) -> Run:
        """A run that is not set up."""
        digest = hashlib.sha256(module).digest()
        path = self.folder / f"{digest.hex()}.compiled"
        if not path.exists():  # in this process: a process of its own takes half a second
            compile_here(module, path)

        async def session() -> Session:
            program = await self.controllers.program(digest, self.never)
            return await self.controllers.session(program, argument, vocabulary, patience=patience)

        opened = asyncio.run(session())
        self.open.append(opened)
        return Run(opened)

    def first(self, module: bytes, argument: str = "") -> Decision:
        """What a controller decides in the first step, after a setup that goes well."""
        run = self.begin(module, argument)
        run.setup()
        return run.step()

    async def never(self) -> bytes:
        """Where a module comes from that is compiled already."""
        raise AssertionError

    def close(self) -> None:
        """Close all."""
        for one in self.open:
            one.close()
        self.controllers.close()
