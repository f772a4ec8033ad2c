"""How a token of a controlled branch is drawn: as any other, of those that its controller's mask allows. Pure."""

from __future__ import annotations

import math
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
WORD: Final = 32
"""Tokens of a word of a mask."""
FEW: Final = 4
"""Masks that allow less than one of so many tokens are drawn from among these alone: what they leave out costs nothing then."""

ADDED: Final = np.where(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little"), np.float32(0), np.float32(-np.inf)
)
"""What each byte of a mask adds to the logits of its eight tokens. To choose token by token takes five times as long."""


def draw_masked(logits: Logits, how: Draw, branch: Branch, choice: Choice) -> int:
    """Return the next token of a branch. Raises Refused for a mask that is none or allows nothing; else as ``draw``."""
    if branch.temperature is not None:
        how = replace(how, temperature=branch.temperature)
    position = branch.index << BRANCH_BITS | branch.drawn
    if choice.mask is None:
        return draw(logits, how, position)
    if how.temperature == 0 and how.changes is None:
        best = int(np.argmax(logits))
        # mostly the likeliest token of all is allowed, and nothing needs to be looked at but its bit
        if math.isfinite(logits[best]) and _sized(choice.mask, len(logits))[best // WORD] >> np.uint32(best % WORD) & 1:
            return best
    bits = allowed(choice.mask, len(logits))
    count = int(np.count_nonzero(bits))
    if not count:
        raise Refused("Worker: the mask allows no token")
    if count * FEW < len(logits) and how.temperature and how.changes is None:
        ids = np.flatnonzero(bits)
        return int(ids[draw(logits[ids], how, position)])
    if count < len(logits):
        added = ADDED.take(_bytes(choice.mask, len(logits)), axis=0).reshape(-1)
        logits = logits + added[: len(logits)]
    return draw(logits, how, position)


def checked(token: int, choice: Choice, vocabulary: int) -> int:
    """Return a token that was drawn elsewhere. Raises Refused if the mask does not allow it."""
    if choice.mask is not None and not allowed(choice.mask, vocabulary)[token]:
        raise Refused("Worker: the mask does not allow the token that was drawn")
    return token


def allowed(mask: Mask, vocabulary: int) -> NDArray[np.bool_]:
    """Return of each token whether the mask allows it. Raises Refused for a mask of another vocabulary."""
    return np.unpackbits(_bytes(mask, vocabulary), bitorder="little", count=vocabulary).view(np.bool_)


def _bytes(mask: Mask, vocabulary: int) -> NDArray[np.uint8]:
    mask = _sized(mask, vocabulary)
    return (mask if sys.byteorder == "little" else mask.byteswap()).view(np.uint8)


def _sized(mask: Mask, vocabulary: int) -> Mask:
    if mask.shape != (words(vocabulary),):
        raise Refused(f"Worker: a mask of {mask.size} words (the model needs {words(vocabulary)})")
    return mask
