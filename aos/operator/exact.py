"""Is a model bit-equal? Tried out, because it depends on the weights' types, the build and the processor.

The same tokens are computed in every way in which the engine may come to compute them, and the logits are compared bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from aos.operator.batch import Row
from aos.operator.sampling import Logits

PROMPT: Final = 80
"""Tokens computed as a prompt: more than 64, from which on kernels for many tokens are taken."""
WHOLE: Final = 2
"""So many blocks are in the prompt of a model that computes prompts in blocks."""
REST: Final = 24
"""And so many tokens behind them."""
DRAWN: Final = 8
"""Tokens computed behind it, as if they had been drawn."""
SEQUENCES: Final = 8
"""Most sequences in one batch. All in all, a trial computes no more than 350 tokens, 650 with blocks."""
CHUNKS: Final = (1, 3, 20)
"""How the prompt is cut the second time; the rest goes at once."""
SEED: Final = 20
"""Of the tokens, which are as good as any."""

Rows = NDArray[np.float32]


class Computing(Protocol):
    """What is asked of a model here: a part of ``Model``."""

    @property
    def context(self) -> int: ...
    @property
    def slots(self) -> int: ...
    @property
    def step_tokens(self) -> int: ...
    @property
    def block(self) -> int: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def reusable(self) -> bool: ...
    def decode(self, rows: Sequence[Row]) -> Sequence[Logits]: ...
    def reuse(self, slot: int, source: int, count: int) -> None: ...
    def clear(self) -> None: ...


def bit_equal(model: Computing) -> bool:
    """Say whether tokens have the same logits alone and in company, in pieces and at once, behind a fresh prefix and a reused one.

    Empties the model's sequences. Slow: not on an event loop. Raises what ``decode`` raises.
    """
    drawn = min(DRAWN, model.context - 1)
    wanted = WHOLE * model.block + REST if model.block else PROMPT
    prompt = min(wanted, model.context - drawn, model.step_tokens - drawn)
    if prompt < 1 or drawn < 1:
        return False
    tokens = [int(token) for token in np.random.default_rng(SEED).integers(0, model.vocabulary, prompt + drawn)]
    model.clear()
    try:
        expected = np.array([_fill(model, 0, tokens[:prompt], prompt, ()), *_alone(model, tokens, prompt)])
        return all(np.array_equal(expected[-len(got) :], got) for got in _ways(model, tokens, prompt))
    finally:
        model.clear()


def _ways(model: Computing, tokens: list[int], prompt: int) -> Iterator[Rows]:
    """Yield the logits of the last tokens, computed in other ways. What is compared, and differs, ends it."""
    whole = len(tokens)
    model.reuse(0, 0, 0)
    yield _fill(model, 0, tokens, prompt, ())[None]
    model.reuse(0, 0, 0)
    chunks = [one for one in CHUNKS if one < prompt]
    first = _fill(model, 0, tokens[:prompt], prompt, chunks)
    others = range(1, min(model.slots, SEQUENCES))
    for slot in others:  # those who copy have a reused prefix
        if model.reusable:
            model.reuse(slot, 0, prompt)
        else:
            _fill(model, slot, tokens[:prompt], prompt, chunks)
    steps = [[row.copy() for row in _together(model, [0, *others], tokens, at)] for at in range(prompt, whole)]
    for got in zip(*steps, strict=True):
        yield np.array([first, *got])
    if others and model.reusable:  # one goes on while another's prompt is computed
        model.reuse(0, 0, whole - 1)
        model.reuse(1, 1, 0)
        for start, size in _pieces(model.block, prompt, prompt, ()):
            model.reuse(0, 0, whole - 1)
            beside = Row(1, 1, start, tokens[start : start + size], draws=False)
            yield np.array(model.decode([Row(0, 0, whole - 1, tokens[whole - 1 :], draws=True), beside]))


def _fill(model: Computing, slot: int, tokens: list[int], prompt: int, chunks: Sequence[int]) -> Logits:
    """Compute tokens from the start of a sequence, in chunks and then the rest; return the logits behind the last.

    Of them, ``prompt`` are the prompt's.
    """
    last = np.empty(0, np.float32)
    for start, size in _pieces(model.block, prompt, len(tokens), chunks):
        end = start + size
        rows = model.decode([Row(0, slot, start, tokens[start:end], draws=end == len(tokens))])
        last = rows[0].copy() if rows else last
    return last


def _pieces(block: int, prompt: int, count: int, chunks: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield where the pieces start that so many tokens are computed in, and how long they are.

    Whole blocks of the prompt are one piece, or, if there are ``chunks``, one each. These cut what is behind them.
    """
    start = prompt - prompt % block if block else 0
    if start:
        each = block if chunks else start
        yield from ((at, each) for at in range(0, start, each))
    for size in [*chunks, count]:
        piece = min(size, count - start, block - 1 if block else count)
        if piece:
            yield start, piece
            start += piece


def _alone(model: Computing, tokens: list[int], prompt: int) -> Iterator[Logits]:
    for at in range(prompt, len(tokens)):
        yield model.decode([Row(0, 0, at, [tokens[at]], draws=True)])[0].copy()


def _together(model: Computing, slots: Sequence[int], tokens: list[int], at: int) -> Sequence[Logits]:
    return model.decode([Row(slot, slot, at, [tokens[at]], draws=True) for slot in slots])
