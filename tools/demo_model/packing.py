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

PARTED = 0.5
"""Share of rows that start with the parting token; the others do not, because callers do either."""

WAITING = 48
"""How many conversations to choose from when a row is nearly full: more leave less padding."""

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
    """Rows without end. A conversation is never cut unless it is longer than a row."""
    rng = random.Random(seed)
    part = tokenizer.token_to_id(END_OF_TEXT)
    waiting = [encode(draw(rng), tokenizer) for _ in range(WAITING)]
    while True:
        ids, weights = ([part], [0.0]) if rng.random() < PARTED else ([], [])
        chosen: int | None = 0  # the one that has waited longest opens the row; the first that fits goes next
        while chosen is not None:
            more_ids, more_weights = waiting.pop(chosen)
            waiting.append(encode(draw(rng), tokenizer))
            ids, weights = ids + more_ids + [part], weights + more_weights + [REST_WEIGHT]
            room = length - len(ids)
            chosen = next((index for index, (item, _) in enumerate(waiting) if len(item) <= room), None)
        spare = max(0, length - len(ids))
        yield (
            np.array((ids + [part] * spare)[:length], np.int64),
            np.array((weights + [0.0] * spare)[:length], np.float32),
        )
