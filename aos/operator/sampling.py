"""How a token is drawn: a pure function of the logits, the parameters, the seed, the position and the tokens that came before.

The random number of a position is the first of the Philox stream whose key is the seed and whose counter is the position. It
depends on nothing else, so an answer is the same whatever else the operator computes and wherever it is taken up again.

First the logits are changed (``penalties.py``), then temperature makes them weights, then ``top_k``, ``typical_p``, ``top_p`` and
``min_p`` leave tokens out, each judging by what those before it left, or mirostat does (``mirostat.py``); then the position's
number picks one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from aos.operator.mirostat import Mirostat
from aos.operator.penalties import Changes, History, Logits
from aos.v1.types_pb2 import Sampling

FIRST_CANDIDATES: Final = 256
"""How many tokens are sorted at first for top_p and typical_p; more only if these do not add up to it."""

LEAST_TEMPERATURE: Final = 2.0**-126
"""What every lower temperature but 0 is taken for: 32 bits have no room for less."""
BLOCK: Final = 256
"""So many weights are added up at a time: a running sum over a whole vocabulary costs more than all the rest of a draw."""

Weights = NDArray[np.float32]
"""32 bits, as the logits: an exponential of 64 bits costs five times as much. Sums of them have 64."""
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
    mirostat: Mirostat | None = None
    """What keeps the surprise near a target, if anything."""

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
            mirostat=Mirostat.of(sampling),
        )


def draw(logits: Logits, how: Draw, position: int, history: History | None = None) -> int:
    """Return the token at ``position`` of the answer. Of equally likely tokens the lower id ranks first.

    ``history`` has the tokens that came before; only ``how.changes`` and ``how.mirostat`` ask for it, and it then notes what the
    token does to mirostat. Raises ValueError if the logits are broken: the largest is not finite.
    """
    history = history or History()
    logits, best, top = _changed(logits, how, history)
    if how.temperature == 0:
        return best
    ids, weights = _kept(logits, top, how, history)
    index = pick(weights, uniform(how.seed, position))
    token = index if ids is None else int(ids[index])
    if how.mirostat is not None:
        history.mu = _mu_after(token, ids, weights, how.mirostat, history)
    return token


def follow(logits: Logits, how: Draw, history: History, token: int) -> None:
    """Note in ``history`` what a token that was drawn elsewhere does to mirostat, as ``draw`` does for its own.

    A token that would not have been kept here counts as the most surprising there is. Raises what ``draw`` raises.
    """
    if how.mirostat is None or how.temperature == 0:
        return
    logits, _, top = _changed(logits, how, history)
    ids, weights = _kept(logits, top, how, history)
    history.mu = _mu_after(token, ids, weights, how.mirostat, history)


def _changed(logits: Logits, how: Draw, history: History) -> tuple[Logits, int, float]:
    """Return the logits to draw by, and the likeliest token with its own. Raises ValueError if they are broken."""
    if how.changes is not None:
        logits = how.changes.applied(logits, history)
    best = int(logits.argmax())
    top = float(logits[best])
    if not math.isfinite(top):
        raise ValueError("the model's logits are not finite")
    return logits, best, top


def _mu_after(token: int, ids: Ids | None, weights: Weights, mirostat: Mirostat, history: History) -> float:
    own = weights[token : token + 1] if ids is None else weights[ids == token]
    return mirostat.after(
        mirostat.start if history.mu is None else history.mu, float(own.sum(dtype=np.float64) / weights.sum(dtype=np.float64))
    )


def uniform(seed: int, position: int) -> float:
    """Return the number in [0, 1) that belongs to a position: 53 random bits."""
    return (int(np.random.Philox(key=seed, counter=position).random_raw()) >> 11) * 2.0**-53


def pick(weights: Weights, share: float) -> int:
    """Return where the weights, added up, first exceed this share of them all, 0 to 1. Never where a weight is 0."""
    return _passing(weights, lambda total: share * total, "right")


def _passing(weights: Weights, level: Callable[[float], float], side: Literal["left", "right"]) -> int:
    """Return where the weights, added up, first reach (`left`) or exceed (`right`) what ``level`` makes of their total."""
    whole = len(weights) // BLOCK * BLOCK
    sums = weights[:whole].reshape(-1, BLOCK).sum(axis=1, dtype=np.float64)
    cumulated = np.cumsum(np.append(sums, weights[whole:].sum(dtype=np.float64)))
    value = level(float(cumulated[-1]))
    block = _first(cumulated, value, side)
    start, before = block * BLOCK, float(cumulated[block - 1]) if block else 0.0
    return start + _first(np.cumsum(weights[start : start + BLOCK], dtype=np.float64), value - before, side)


def _first(cumulated: NDArray[np.float64], value: float, side: Literal["left", "right"]) -> int:
    index = int(np.searchsorted(cumulated, value, side=side))
    # rounding may carry the value to the very end, where there may be nothing more
    return min(index, int(np.searchsorted(cumulated, cumulated[-1], side="left")))


def likeliest(logits: NDArray[Any], count: int) -> Ids:
    """Return the ids of the ``count`` largest logits, in ascending order of id; lower ids win ties."""
    if count >= len(logits):
        return np.arange(len(logits))
    edge = np.partition(logits, len(logits) - count)[len(logits) - count]
    above = np.flatnonzero(logits > edge)
    ties = np.flatnonzero(logits == edge)[: count - len(above)]
    return np.sort(np.concatenate([above, ties]))


def _kept(logits: Logits, top: float, how: Draw, history: History) -> tuple[Ids | None, Weights]:
    """Return the ids that may be drawn, in ascending order, None for all; and the weight of each, the largest logit's being 1."""
    ids = likeliest(logits, how.top_k) if 0 < how.top_k < len(logits) else None
    left = logits if ids is None else logits[ids]
    with np.errstate(over="ignore", under="ignore"):
        scaled = (left - np.float32(top)) / np.float32(max(how.temperature, LEAST_TEMPERATURE))
        weights = np.exp(scaled)
    if how.typical_p < 1:
        keep = _typical(scaled, weights, how.typical_p)
        ids, left, weights = (keep if ids is None else ids[keep]), left[keep], weights[keep]
    if how.top_p < 1:
        keep = _heaviest(weights, how.top_p)
        ids, weights = (keep if ids is None else ids[keep]), weights[keep]
    if how.min_p > 0:
        keep = np.flatnonzero(weights >= np.float32(how.min_p) * weights.max())
        ids, weights = (keep if ids is None else ids[keep]), weights[keep]
    if how.mirostat is not None:
        keep = how.mirostat.kept(weights, how.mirostat.start if history.mu is None else history.mu)
        ids, weights = (keep if ids is None else ids[keep]), weights[keep]
    return ids, weights


def _typical(scaled: Weights, weights: Weights, typical_p: float) -> Ids:
    """Return where the tokens are that are nearest to the expected surprise and whose share reaches ``typical_p``.

    A token's surprise is a constant less its scaled logit, so the distance from the mean of either is the same.
    """
    possible = np.flatnonzero(weights)
    scaled, weights = scaled[possible], weights[possible]
    mean = (weights * scaled).sum(dtype=np.float64) / weights.sum(dtype=np.float64)
    return possible[_fewest(np.abs(scaled - np.float32(mean)), weights, typical_p)]


def _heaviest(weights: Weights, share: float) -> Ids:
    """Return where the fewest largest weights are that have such a share of them all, ascending; the first of equals."""
    needed = float(weights.sum(dtype=np.float64)) * share
    few = likeliest(weights, FIRST_CANDIDATES)
    if weights[few].sum(dtype=np.float64) < needed:
        few = np.arange(len(weights))
    count = _passing(np.sort(weights[few])[::-1], lambda _: needed, "left") + 1
    return few[likeliest(weights[few], count)]


def _fewest(scores: NDArray[Any], weights: Weights, share: float) -> Ids:
    """Return where the fewest lowest scores are that have such a share of the weight, ascending; at least one.

    The first wins ties.
    """
    needed = float(weights.sum(dtype=np.float64)) * share
    width = FIRST_CANDIDATES
    while True:
        few = likeliest(-scores, width)
        ranked = few[np.argsort(scores[few], kind="stable")]
        if len(few) == len(scores) or weights[ranked].sum(dtype=np.float64) >= needed:
            return np.sort(ranked[: _passing(weights[ranked], lambda _: needed, "left") + 1])
        width *= 8
