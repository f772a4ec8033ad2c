"""Embedding a receipt's texts again on the same weights, to see whether the model really gives those vectors."""

from __future__ import annotations

from contextlib import aclosing
from typing import Final

import numpy as np

from aos.errors import AosError
from aos.operator.embedding import EmbeddingEngine, arrays
from aos.operator.model import Model
from aos.operator.stream import End
from aos.order import digest_tokens
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.v1.types_pb2 import Order
from aos.verification.receipts import Finding

WHAT: Final = "the model gives these vectors"
EDGE_TOKENS: Final = 8
"""What a model may want around a text."""


def longest(order: Order) -> int:
    """Return the most tokens that a text of the order can have."""
    return max((len(text.encode()) for text in order.embedding.texts), default=0) + EDGE_TOKENS


async def replay_vectors(bundle: ReceiptBundle, model: Model) -> Finding:
    """Embed the texts again on a loaded model with the receipt's digest, and say whether the same vectors come, bit by bit.

    ``good`` is None where a difference proves nothing: a build whose numbers may differ, or an answer that need not be exact.
    """
    receipt, embedder = bundle.receipt, model.embedder
    if embedder is None:
        return Finding(WHAT, good=False, why="these weights turn no texts into vectors")
    engine = EmbeddingEngine(bundle.order.model, embedder)
    try:
        end = await _run(bundle.order, engine)
    except AosError as error:
        return Finding(WHAT, good=False, why=f"the order cannot be run: {error.message}")
    finally:
        await engine.aclose()
    why = _difference(bundle, end)
    if not why:
        return Finding(f"{WHAT}: {len(end.vectors)}, computed again, are the same", good=True)
    if embedder.profile != receipt.profile:
        return Finding(WHAT, good=None, why=f"{why}; but here runs {embedder.profile}, the receipt names {receipt.profile}")
    if not embedder.exact:
        return Finding(WHAT, good=None, why=f"{why}; but with these weights the last bits depend on what else was computed")
    return Finding(WHAT, good=False, why=why)


async def _run(order: Order, engine: EmbeddingEngine) -> End:
    async with aclosing(engine.embed(order)) as pieces:
        async for piece in pieces:
            if isinstance(piece, End):
                return piece
    raise AssertionError("every answer ends")


def _difference(bundle: ReceiptBundle, end: End) -> str:
    """Return where the vectors that came differ from the bundle's; empty if nowhere."""
    if digest_tokens(end.prompt) != bundle.receipt.prompt_digest:
        return "the texts have other tokens"
    stated = arrays(bundle.embeddings)
    if len(stated) != len(end.vectors):
        return f"there are {len(stated)} vectors of {len(end.vectors)} texts"
    for number, (here, there) in enumerate(zip(end.vectors, stated, strict=True), start=1):
        if not np.array_equal(here, there):
            near = f"their cosine is {here @ there:.6f}" if len(here) == len(there) else f"it has {len(there)} numbers"
            return f"vector {number} is another: {near}"
    return ""
