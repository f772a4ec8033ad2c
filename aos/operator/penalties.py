"""What is done to the logits before a token is drawn: bias by token id, and penalties for tokens that came before. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from aos.errors import InvalidField
from aos.v1.types_pb2 import Sampling

REPETITION_WINDOW: Final = 1024
"""How many tokens, the last of prompt and answer, ``repetition_penalty`` looks at: it bounds the work of each token."""

Logits = NDArray[np.float32]
Ids = NDArray[Any]


class History:
    """The tokens of one prompt and its answer so far."""

    __slots__ = ("_prompt", "_tokens", "mu")

    def __init__(self, prompt: Sequence[int] = (), answer: Iterable[int] = ()) -> None:
        self.mu: float | None = None
        """What mirostat has come to with these tokens; None: it has seen none of the answer."""
        self._prompt = len(prompt)
        self._tokens = array("i", prompt)
        self._tokens.extend(answer)

    def add(self, token: int) -> None:
        """Take one more token of the answer."""
        self._tokens.append(token)

    def answer(self) -> Ids:
        """Return the answer's tokens: a view, not to be kept beyond the next ``add``."""
        return np.frombuffer(self._tokens, np.intc)[self._prompt :]

    def last(self, count: int) -> Ids:
        """Return the last tokens of prompt and answer: a view, not to be kept beyond the next ``add``."""
        return np.frombuffer(self._tokens, np.intc)[-count:]


@dataclass(frozen=True, slots=True)
class Changes:
    """Bias first, then the penalties, of repetition before the others. All in 32 bits, as the logits are."""

    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    biased: tuple[int, ...] = ()
    bias: tuple[float, ...] = ()
    """What each of ``biased`` gets."""

    @classmethod
    def of(cls, sampling: Sampling, vocabulary: int) -> Self | None:
        """Return what the order asks for; None if that is nothing. Raises InvalidField for a token id of ``vocabulary`` or more."""
        biased = sorted(sampling.logit_bias)
        if biased and biased[-1] >= vocabulary:
            raise InvalidField(
                f"order.sampling.logit_bias[{biased[-1]}]",
                f"the model's token ids end at {vocabulary - 1}",
                value=biased[-1],
                limit=vocabulary - 1,
            )
        asked = cls(
            sampling.repetition_penalty if sampling.HasField("repetition_penalty") else 1.0,
            sampling.presence_penalty,
            sampling.frequency_penalty,
            tuple(biased),
            tuple(sampling.logit_bias[token] for token in biased),
        )
        return None if asked == cls() else asked

    def applied(self, logits: Logits, history: History) -> Logits:
        """Return the changed logits; those given are left alone."""
        changed = logits.copy()
        if self.biased:
            changed[list(self.biased)] += np.array(self.bias, np.float32)
        if self.repetition_penalty != 1:
            # a token that is there twice gets the same value twice
            ids, penalty = history.last(REPETITION_WINDOW), np.float32(self.repetition_penalty)
            before = changed[ids]
            changed[ids] = np.where(before > 0, before / penalty, before * penalty)
        if self.presence_penalty or self.frequency_penalty:
            counts = np.bincount(history.answer())
            ids = np.flatnonzero(counts)
            changed[ids] -= counts[ids].astype(np.float32) * np.float32(self.frequency_penalty) + np.float32(self.presence_penalty)
        return changed
