"""How much of the waiting prompts goes into a step in which others read their answers. Pure: it is told what steps took."""

from __future__ import annotations

from typing import Final

PAUSE: Final = 2.0
"""How much longer prompts may make a step, in decode steps without any: no stream pauses for more than about three."""
FIRST_TOKENS: Final = 64
"""As many tokens of prompts as go into such a step before anything was measured."""
LEAST_TOKENS: Final = 8
"""Prompts get on by so many in every step, however dear they are."""
MEMORY: Final = 0.9
"""What an earlier measurement still counts when the next one comes."""


class Pace:
    """A running average of what a decode step and a prompt's token take, and the budget that follows."""

    def __init__(self, most: int) -> None:
        """``most``: tokens that fit into one step."""
        self._most = most
        self._decode_seconds = 0.0
        self._prompt_seconds = self._prompt_tokens = 0.0

    def took(self, seconds: float, *, drawing: int, prompt: int) -> None:
        """Learn what a step took that had so many sequences drawing on, and so many tokens of prompts."""
        if prompt:
            self._prompt_seconds = MEMORY * self._prompt_seconds + max(0.0, seconds - self._decode_seconds * (drawing > 0))
            self._prompt_tokens = MEMORY * self._prompt_tokens + prompt
        elif self._decode_seconds:
            self._decode_seconds = MEMORY * self._decode_seconds + (1 - MEMORY) * seconds
        else:
            self._decode_seconds = seconds

    @property
    def prompt_tokens(self) -> int:
        """Most tokens of prompts in the next step in which others draw; at least one."""
        if not self._decode_seconds or not self._prompt_seconds:
            return min(FIRST_TOKENS, self._most)
        tokens = PAUSE * self._decode_seconds * self._prompt_tokens / self._prompt_seconds
        return min(max(int(min(tokens, self._most)), LEAST_TOKENS), self._most)
