"""How conversations fill the rows that training sees: end to end, parted by one token, padded at the end."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
import tokenizers

from tools.demo_model.chat import END_OF_TEXT, pieces
from tools.demo_model.conversations import Conversation

REST_WEIGHT = 0.1
"""How much the loss on prompts counts beside that on answers: enough to learn the words, no more."""

Row = tuple[np.ndarray, np.ndarray]
"""Token ids, and for each the weight of the loss on it; both as long as the row."""


def encode(conversation: Conversation, tokenizer: tokenizers.Tokenizer) -> tuple[list[int], list[float]]:
    """The conversation's ids and loss weights. Pieces are cut one by one, as they are when an answer begins."""
    ids: list[int] = []
    weights: list[float] = []
    for text, learn in pieces(conversation):
        cut = tokenizer.encode(text).ids
        ids += cut
        weights += [1.0 if learn else REST_WEIGHT] * len(cut)
    return ids, weights


def rows(draw: Callable[[random.Random], Conversation], tokenizer: tokenizers.Tokenizer, length: int, seed: int) -> Iterator[Row]:
    """Rows without end. A conversation is never cut unless it is longer than a row.

    Half of the rows start with the parting token and half do not, because callers do either.
    """
    rng = random.Random(seed)
    part = tokenizer.token_to_id(END_OF_TEXT)
    waiting = encode(draw(rng), tokenizer)
    while True:
        ids, weights = ([part], [0.0]) if rng.random() < 0.5 else ([], [])
        while len(ids) + len(waiting[0]) <= length or not len(ids) > 1:
            ids, weights = ids + waiting[0] + [part], weights + waiting[1] + [REST_WEIGHT]
            waiting = encode(draw(rng), tokenizer)
        spare = max(0, length - len(ids))
        yield (
            np.array((ids + [part] * spare)[:length], np.int64),
            np.array((weights + [0.0] * spare)[:length], np.float32),
        )
