"""Log-probabilities in OpenAI's two shapes, that of chats and that of completions. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import Any

from aos.v1.operator_pb2 import TokenLogprob
from aos.v1.types_pb2 import Sampling


def choice_logprobs(said: Iterable[TokenLogprob]) -> dict[str, Any]:
    """Return a chat choice's `logprobs`: one entry for each token of its text."""
    content = [_one(token) | {"top_logprobs": [_one(other) for other in token.top]} for token in said]
    return {"content": content, "refusal": None}


def _one(said: TokenLogprob) -> dict[str, Any]:
    # a token may be a part of a character: its text has U+FFFD then, and only the bytes are right
    return {"token": said.piece.decode(errors="replace"), "logprob": said.logprob, "bytes": list(said.piece) or None}


class TextLogprobs:
    """A completion choice's `logprobs`, as its tokens come: lists with one entry for each token."""

    def __init__(self, sampling: Sampling) -> None:
        self._tops = sampling.top_logprobs > 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def more(self, said: Iterable[TokenLogprob]) -> dict[str, Any]:
        """Return the lists for the next tokens; offsets count the characters of the whole text before each."""
        tokens: list[str] = []
        offsets: list[int] = []
        values: list[float] = []
        tops: list[dict[str, float]] = []
        for one in said:
            tokens.append(_name(one.piece))
            offsets.append(self._offset)
            values.append(one.logprob)
            tops.append({_name(other.piece): other.logprob for other in one.top})
            self._offset += len(self._decoder.decode(one.piece))
        return {
            "tokens": tokens,
            "token_logprobs": values,
            "top_logprobs": tops if self._tops else None,
            "text_offset": offsets,
        }


def _name(piece: bytes) -> str:
    """Return a token's text; as OpenAI writes them, its bytes where they are only a part of a character."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)
