"""What the engine asks of a model: llama.cpp is one, a script (aos/testing/scripted.py) another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from aos.operator.batch import Row
from aos.operator.sampling import Logits
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
    def ends(self) -> frozenset[int]:
        """The tokens with which it ends an answer."""
        ...

    def tokenise(self, order: Order) -> list[int]:
        """Return the tokens of the order's input. Called on any thread, and slow for long inputs."""
        ...

    def piece(self, token: int) -> bytes:
        """Return the bytes that a token stands for; none for control tokens."""
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
