"""Log-probabilities in OpenAI's shape. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aos.v1.operator_pb2 import TokenLogprob


def choice_logprobs(said: Iterable[TokenLogprob]) -> dict[str, Any]:
    """Return a choice's `logprobs`: one entry for each token of its text."""
    content = [_one(token) | {"top_logprobs": [_one(other) for other in token.top]} for token in said]
    return {"content": content, "refusal": None}


def _one(said: TokenLogprob) -> dict[str, Any]:
    # a token may be a part of a character: its text has U+FFFD then, and only the bytes are right
    return {"token": said.piece.decode(errors="replace"), "logprob": said.logprob, "bytes": list(said.piece) or None}
