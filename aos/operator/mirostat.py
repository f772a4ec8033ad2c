"""Mirostat 2.0 (Basu et al., arXiv:2007.14966, algorithm 2): keeps the surprise of an answer's tokens near a target. Pure.

A token's surprise is -log2 of its probability. Tokens whose surprise is above ``mu`` are left out, and ``mu`` follows from how far
the surprise of the token that was drawn, among those that were left, is from the target. So it depends on the logits, the seed and
the tokens before, and on nothing else: an answer that is taken up elsewhere has the same ``mu`` again once its tokens are counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from aos.order import DEFAULT_ETA, DEFAULT_TAU
from aos.v1.types_pb2 import Sampling

LEAST_SHARE: Final = 2.0**-64
"""Stands for smaller probabilities, of a token that another machine drew and this one would not: ``mu`` stays finite."""

Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Mirostat:
    """The parameters in force."""

    tau: float = DEFAULT_TAU
    """The target surprise, in bits."""
    eta: float = DEFAULT_ETA
    """What part of a token's distance from the target ``mu`` moves by."""

    @classmethod
    def of(cls, sampling: Sampling) -> Self | None:
        """Return what the order says, with the defaults of types.proto; None if it does not ask for mirostat."""
        if not sampling.HasField("mirostat"):
            return None
        return cls(sampling.mirostat.tau or DEFAULT_TAU, sampling.mirostat.eta or DEFAULT_ETA)

    @property
    def start(self) -> float:
        """``mu`` before the first token, in bits."""
        return 2 * self.tau

    def kept(self, weights: Weights, mu: float) -> NDArray[Any]:
        """Return where the tokens are whose surprise is at most ``mu``, ascending; at least the likeliest, first of equals.

        ``weights`` are in proportion to the probabilities.
        """
        # compared as probabilities: one power of two in the place of a logarithm a token; beyond these nothing changes
        keep = np.flatnonzero(weights >= weights.sum(dtype=np.float64) * 2.0 ** -max(-1.0, min(mu, 1000.0)))
        return keep if len(keep) else np.array([int(np.argmax(weights))])

    def after(self, mu: float, share: float) -> float:
        """Return ``mu`` behind a token that had this share of what was kept."""
        return mu - self.eta * (-math.log2(max(share, LEAST_SHARE)) - self.tau)
