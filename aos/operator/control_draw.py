"""How a token of a controlled branch is drawn: as any other, of those that its controller's mask allows. Pure."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aos.operator.control_run import Branch, Refused
from aos.operator.controllers import Choice, Mask, words
from aos.operator.sampling import Draw, Logits, draw

BRANCH_BITS: Final = 32
"""The number of a draw is the branch's index, and in so many bits below it how many tokens were drawn in the branch before."""
NEVER: Final = np.float32(-np.inf)
"""The logit of a token that is not allowed."""
FEW: Final = 4
"""Masks that allow less than one of so many tokens are drawn from among these alone: what they leave out costs nothing then."""


def draw_masked(logits: Logits, how: Draw, branch: Branch, choice: Choice) -> int:
    """Return the next token of a branch. Raises Refused for a mask that is none or allows nothing; else as ``draw``."""
    if branch.temperature is not None:
        how = replace(how, temperature=branch.temperature)
    position = branch.index << BRANCH_BITS | branch.drawn
    if choice.mask is None:
        return draw(logits, how, position)
    bits = allowed(choice.mask, len(logits))
    count = int(np.count_nonzero(bits))
    if not count:
        raise Refused("Worker: the mask allows no token")
    if count * FEW < len(logits):
        ids = np.flatnonzero(bits)
        return int(ids[draw(logits[ids], how, position)])
    if count < len(logits):
        logits = np.where(bits, logits, NEVER)
    return draw(logits, how, position)


def checked(token: int, choice: Choice, vocabulary: int) -> int:
    """Return a token that was drawn elsewhere. Raises Refused if the mask does not allow it."""
    if choice.mask is not None and not allowed(choice.mask, vocabulary)[token]:
        raise Refused("Worker: the mask does not allow the token that was drawn")
    return token


def allowed(mask: Mask, vocabulary: int) -> NDArray[np.bool_]:
    """Return of each token whether the mask allows it. Raises Refused for a mask of another vocabulary."""
    if mask.shape != (words(vocabulary),):
        raise Refused(f"Worker: a mask of {mask.size} words (the model needs {words(vocabulary)})")
    packed = mask if sys.byteorder == "little" else mask.byteswap()
    return np.unpackbits(packed.view(np.uint8), bitorder="little", count=vocabulary).view(np.bool_)
