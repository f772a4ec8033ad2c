"""How a token is drawn: a pure function of the logits, the parameters, the seed and the token's position in the answer.

The random number of a position is the first of the Philox stream whose key is the seed and whose counter is the position. It
depends on nothing else, so an answer is the same whatever else the operator computes and wherever it is taken up again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aos.v1.types_pb2 import Sampling

FIRST_CANDIDATES: Final = 256
"""How many of the likeliest tokens are sorted at first for top_p; more only if these do not add up to it."""

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Draw:
    """The parameters in force. Temperature is applied first, then ``top_k``, then ``top_p``."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    @classmethod
    def of(cls, sampling: Sampling) -> Draw:
        """Return what the order says, with the defaults of types.proto for what it leaves out."""
        return cls(sampling.temperature, sampling.top_k, sampling.top_p if sampling.HasField("top_p") else 1.0, sampling.seed)


def draw(logits: Logits, how: Draw, position: int) -> int:
    """Return the token at ``position`` of the answer. Of equally likely tokens the lower id ranks first.

    Raises ValueError if the logits are broken: the largest is not finite.
    """
    best = int(np.argmax(logits))
    top = float(logits[best])
    if not math.isfinite(top):
        raise ValueError("the model's logits are not finite")
    if how.temperature == 0:
        return best
    with np.errstate(over="ignore", under="ignore"):
        weights = np.exp((logits.astype(np.float64) - top) / how.temperature)
    ids = _likeliest(logits, how.top_k) if 0 < how.top_k < len(logits) else None
    if how.top_p < 1:
        ids = _nucleus(logits, weights, how.top_p, ids)
    cumulated = np.cumsum(weights if ids is None else weights[ids])
    index = int(np.searchsorted(cumulated, uniform(how.seed, position) * cumulated[-1], side="right"))
    # rounding may carry the number to the very end, where tokens of weight 0 may lie
    index = min(index, int(np.searchsorted(cumulated, cumulated[-1], side="left")))
    return index if ids is None else int(ids[index])


def uniform(seed: int, position: int) -> float:
    """Return the number in [0, 1) that belongs to a position: 53 random bits."""
    return (int(np.random.Philox(key=seed, counter=position).random_raw()) >> 11) * 2.0**-53


def _likeliest(logits: Logits, count: int) -> NDArray[Any]:
    """Return the ids of the ``count`` largest logits, in ascending order of id; lower ids win ties."""
    edge = np.partition(logits, len(logits) - count)[len(logits) - count]
    above = np.flatnonzero(logits > edge)
    ties = np.flatnonzero(logits == edge)[: count - len(above)]
    return np.sort(np.concatenate([above, ties]))


def _nucleus(logits: Logits, weights: NDArray[np.float64], top_p: float, ids: NDArray[Any] | None) -> NDArray[Any]:
    """Return the ids of the fewest likeliest tokens whose share reaches ``top_p``, in ascending order; at least one."""
    if ids is None:
        ids = np.arange(len(logits))
    needed = float(weights[ids].sum()) * top_p
    width = FIRST_CANDIDATES
    while True:
        few = ids if width >= len(ids) else ids[_likeliest(logits[ids], width)]
        ranked = few[np.argsort(-logits[few], kind="stable")]
        cumulated = np.cumsum(weights[ranked])
        if len(few) == len(ids) or cumulated[-1] >= needed:
            return np.sort(ranked[: int(np.searchsorted(cumulated, needed, side="left")) + 1])
        width *= 8
