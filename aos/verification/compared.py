"""Two runs of an answer, step by step: where they part, and how far. Pure. Steps may be anybody's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

from aos.errors import InvalidField
from aos.verification.trace import Step, step_leaves

SCALE: Final = 1 << 16
"""Of the logits in steps."""


def first_other(ours: Sequence[object], theirs: Sequence[object]) -> int | None:
    """Return the first index at which one is not like the other or is not there; None if they are equal."""
    return next((at for at, (one, other) in enumerate(zip_longest(ours, theirs)) if one != other), None)


def parted(ours: bytes, theirs: bytes, at: int) -> str:
    """Say what is other in the step at ``at``, from 0, where they part; empty if that is its token alone."""
    here, there = (leaves[at] if at < len(leaves) else b"" for leaves in (step_leaves(ours), step_leaves(theirs)))
    if not here or not there:
        return "" if not there else f"there is a step {at + 1}, and the answer has ended"
    try:
        one, other = Step.of(here), Step.of(there)
    except InvalidField:
        return f"step {at + 1} is malformed"
    if one.top != other.top:
        off = apart(here, there)
        return f"the likeliest tokens of step {at + 1} are others" + (f", their logits {off:.2g} apart" if off else "")
    return "" if one.logits == other.logits else f"the logits of step {at + 1} have other bits"


def apart(ours: bytes, theirs: bytes) -> float:
    """Return how far the logits of two steps are from each other at least; infinite if one is malformed.

    A token that only one of them names has, in the other, at most the least logit that is named there.
    """
    try:
        one, other = dict(Step.of(ours).top), dict(Step.of(theirs).top)
    except InvalidField:
        return float("inf")
    both = [abs(logit - other[token]) for token, logit in one.items() if token in other]
    return max([0, *both, *_above(one, other), *_above(other, one)]) / SCALE


def _above(one: dict[int, int], other: dict[int, int]) -> list[int]:
    return [logit - min(other.values()) for token, logit in one.items() if token not in other]
