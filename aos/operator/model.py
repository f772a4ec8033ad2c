"""What the engine asks of a model: llama.cpp is one, a script (aos/testing/scripted.py) another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from aos.operator.batch import Row
from aos.operator.embedding import Embedder
from aos.operator.sampling import Logits
from aos.operator.tools import Calls
from aos.v1.types_pb2 import Order


class Model(Protocol):
    """A model in memory, with room for several sequences. One engine owns it."""

    @property
    def digest(self) -> str:
        """SHA-256 of the weights file, 64 hex digits."""
        ...

    @property
    def profile(self) -> str:
        """What its receipts say ran it: all that decides the bits."""
        ...

    @property
    def exact(self) -> bool:
        """Whether its logits are the same, bit by bit, whatever else it computes."""
        ...

    @property
    def context(self) -> int:
        """Most tokens of prompt and answer together, in each sequence."""
        ...

    @property
    def slots(self) -> int:
        """How many sequences it has room for; their ids are 0 to ``slots - 1``."""
        ...

    @property
    def step_tokens(self) -> int:
        """Most tokens that one ``decode`` takes; at least ``slots``."""
        ...

    @property
    def block(self) -> int:
        """Rows of prompts have so many tokens or a multiple, counted from the beginning, and all others fewer; 0: any number."""
        ...

    @property
    def step_seconds(self) -> Sequence[float]:
        """What a ``decode`` of 1, 2, … sequences with a token each takes, as far as that was measured (grouping.py)."""
        ...

    @property
    def reusable(self) -> bool:
        """Whether ``reuse`` can shorten and copy sequences; if not, it can only empty them: its count is 0."""
        ...

    @property
    def vocabulary(self) -> int:
        """How many tokens there are; their ids are 0 to ``vocabulary - 1``."""
        ...

    @property
    def chat(self) -> bool:
        """Whether it has a chat template."""
        ...

    @property
    def embedder(self) -> Embedder | None:
        """What turns texts into vectors; None: the model cannot."""
        ...

    @property
    def calls(self) -> Calls:
        """How it writes calls of tools."""
        ...

    @property
    def ends(self) -> frozenset[int]:
        """The tokens with which it ends an answer."""
        ...

    @property
    def end(self) -> int:
        """The one of ``ends`` that its file names as the end; -1: there is none."""
        ...

    @property
    def controls(self) -> Mapping[int, str]:
        """The tokens that stand for no text, with the names by which grammars call them."""
        ...

    def tokens_of(self, text: bytes) -> Sequence[int]:
        """Return the tokens of text in mid-answer: nothing is put before it, and no control tokens come of it. Any thread."""
        ...

    def tokens_in(self, text: bytes) -> Sequence[int]:
        """Return the tokens of text in mid-answer, as ``tokens_of`` does, but with the control tokens that it names. Any thread."""
        ...

    def tokenise(self, order: Order) -> list[int]:
        """Return the tokens of the order's input. Called on any thread, and slow for long inputs."""
        ...

    def piece(self, token: int) -> bytes:
        """Return the bytes that a token stands for; none for control tokens but those that mark calls (aos/toolcalls.py)."""
        ...

    def decode(self, rows: Sequence[Row]) -> Sequence[Logits]:
        """Compute the rows, at least one; return the logits behind each row that draws, in order, good until the next call.

        Engine thread only, like ``reuse`` and ``clear``. Whatever it raises ends the requests of these rows.
        """
        ...

    def reuse(self, slot: int, source: int, count: int) -> None:
        """Let ``slot`` hold the first ``count`` tokens of what ``source`` holds, and nothing else. Both may be the same."""
        ...

    def clear(self) -> None:
        """Empty all sequences."""
        ...

    def interrupt(self) -> None:
        """Called from another thread: the engine closes, a ``decode`` that waits for something must return or raise soon."""
        ...
