"""The text of one branch of a controlled answer as its tokens come and are taken back. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from aos.operator.text import AnswerText

BACK: Final = " ↩ "
"""Stands for what was said and taken back."""

Piece = Callable[[int], bytes]
"""The bytes of a token; none for control tokens."""


class BranchText:
    """Says what became certain. A character that is not complete yet is held back."""

    def __init__(self, piece: Piece) -> None:
        self._piece = piece
        self._text = AnswerText()

    def say(self, kept: Sequence[int], backtrack: int, tokens: Sequence[int], *, ended: bool) -> str:
        """Return what is new: ``backtrack`` tokens were taken back, ``kept`` are left of those before, ``tokens`` came behind them.

        ``ended``: nothing more comes.
        """
        if backtrack:
            self._text = AnswerText()
            self._text.feed(self._bytes(kept))
        said = self._text.feed(self._bytes(tokens)) + (self._text.finish() if ended else "")
        return BACK + said if backtrack else said

    def _bytes(self, tokens: Sequence[int]) -> bytes:
        return b"".join(map(self._piece, tokens))


def whole_text(tokens: Sequence[int], piece: Piece) -> str:
    """Return the text of all these tokens."""
    return BranchText(piece).say((), 0, tokens, ended=True)
