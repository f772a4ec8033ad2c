"""How a token is drawn: a pure function of the logits, the parameters, the seed, the position and the tokens that came before.

The random number of a position is the first of the Philox stream whose key is the seed and whose counter is the position. It
depends on nothing else, so an answer is the same whatever else the operator computes and wherever it is taken up again.

First the logits are changed (``penalties.py``), then temperature makes them weights, then ``top_k``, ``typical_p``, ``top_p`` and
``min_p`` leave tokens out, each judging by what those before it left; then the position's number picks one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from aos.operator.penalties import Changes, History, Logits
from aos.v1.types_pb2 import Sampling

FIRST_CANDIDATES: Final = 256
"""How many tokens are sorted at first for top_p and typical_p; more only if these do not add up to it."""

Weights = NDArray[np.float64]
Ids = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Draw:
    """The parameters in force; the defaults leave everything as the model has it, and take the likeliest token."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    changes: Changes | None = None
    """What is done to the logits first, if anything."""
    top_logprobs: int | None = None
    """How many of the likeliest tokens are reported in each place; None: not even the one that was drawn."""

    @classmethod
    def of(cls, sampling: Sampling, vocabulary: int) -> Self:
        """Return what the order says, with the defaults of types.proto for what it leaves out.

        Raises InvalidField for a token id that the model, which has ``vocabulary`` of them, does not have.
        """
        return cls(
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p if sampling.HasField("top_p") else 1.0,
            seed=sampling.seed,
            min_p=sampling.min_p,
            typical_p=sampling.typical_p if sampling.HasField("typical_p") else 1.0,
            changes=Changes.of(sampling, vocabulary),
            top_logprobs=sampling.top_logprobs if sampling.logprobs else None,
        )


def draw(logits: Logits, how: Draw, position: int, history: History | None = None) -> int:
    """Return the token at ``position`` of the answer. Of equally likely tokens the lower id ranks first.

    ``history`` has the tokens that came before; only ``how.changes`` asks for it. Raises ValueError if the logits are broken: the
    largest is not finite.
    """
    if how.changes is not None:
        logits = how.changes.applied(logits, history or History())
    best = int(np.argmax(logits))
    top = float(logits[best])
    if not math.isfinite(top):
        raise ValueError("the model's logits are not finite")
    if how.temperature == 0:
        return best
    ids, weights = _kept(logits, top, how)
    cumulated = np.cumsum(weights)
    index = int(np.searchsorted(cumulated, uniform(how.seed, position) * cumulated[-1], side="right"))
    # rounding may carry the number to the very end, where tokens of weight 0 may lie
    index = min(index, int(np.searchsorted(cumulated, cumulated[-1], side="left")))
    return index if ids is None else int(ids[index])


def uniform(seed: int, position: int) -> float:
    """Return the number in [0, 1) that belongs to a position: 53 random bits."""
    return (int(np.random.Philox(key=seed, counter=position).random_raw()) >> 11) * 2.0**-53


def likeliest(logits: NDArray[Any], count: int) -> Ids:
    """Return the ids of the ``count`` largest logits, in ascending order of id; lower ids win ties."""
    if count >= len(logits):
        return np.arange(len(logits))
    edge = np.partition(logits, len(logits) - count)[len(logits) - count]
    above = np.flatnonzero(logits > edge)
    ties = np.flatnonzero(logits == edge)[: count - len(above)]
    return np.sort(np.concatenate([above, ties]))


def _kept(logits: Logits, top: float, how: Draw) -> tuple[Ids | None, Weights]:
    """Return the ids that may be drawn, in ascending order, None for all; and the weight of each, the largest logit's being 1."""
    ids = likeliest(logits, how.top_k) if 0 < how.top_k < len(logits) else None
    left = logits if ids is None else logits[ids]
    with np.errstate(over="ignore", under="ignore"):
        scaled = (left.astype(np.float64) - top) / how.temperature
        weights = np.exp(scaled)
    if how.typical_p < 1:
        keep = _typical(scaled, weights, how.typical_p)
        ids, left, weights = (keep if ids is None else ids[keep]), left[keep], weights[keep]
    if how.top_p < 1:
        keep = _fewest(-left, weights, how.top_p)
        ids, weights = (keep if ids is None else ids[keep]), weights[keep]
    if how.min_p > 0:
        keep = np.flatnonzero(weights >= how.min_p * weights.max())
        ids, weights = (keep if ids is None else ids[keep]), weights[keep]
    return ids, weights


def _typical(scaled: Weights, weights: Weights, typical_p: float) -> Ids:
    """Return where the tokens are that are nearest to the expected surprise and whose share reaches ``typical_p``.

    A token's surprise is a constant less its scaled logit, so the distance from the mean of either is the same.
    """
    possible = np.flatnonzero(weights)
    scaled, weights = scaled[possible], weights[possible]
    return possible[_fewest(np.abs(scaled - (weights * scaled).sum() / weights.sum()), weights, typical_p)]


def _fewest(scores: NDArray[Any], weights: Weights, share: float) -> Ids:
    """Return where the fewest lowest scores are that have such a share of the weight, ascending; at least one.

    The first wins ties.
    """
    needed = float(weights.sum()) * share
    width = FIRST_CANDIDATES
    while True:
        few = likeliest(-scores, width)
        ranked = few[np.argsort(scores[few], kind="stable")]
        cumulated = np.cumsum(weights[ranked])
        if len(few) == len(scores) or cumulated[-1] >= needed:
            return np.sort(ranked[: int(np.searchsorted(cumulated, needed, side="left")) + 1])
        width *= 8
