"""The exported model as its users meet it: answers, losses and logits from llama.cpp itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import llama_cpp
import numpy as np

from tools.demo_model.chat import IM_END, prompt

Q8_0_CACHE = 8
"""llama.cpp's number for a Q8_0 key-value cache, with which results do not depend on batching."""

MOST_TOKENS = 160


class Runtime:
    """One loaded GGUF at temperature 0. Use `opened`, which also closes it."""

    def __init__(self, llama: llama_cpp.Llama) -> None:
        self._llama = llama
        self._stop = self._llama.token_eos()

    def tokens(self, text: str) -> list[int]:
        """The ids that llama.cpp cuts the text into, control tokens included."""
        return self._llama.tokenize(text.encode(), add_bos=False, special=True)

    def text(self, tokens: list[int]) -> str:
        """The text of the ids. A character cut off at the end shows as the replacement sign."""
        return self._llama.detokenize(tokens).decode(errors="replace")

    def logits(self, tokens: list[int]) -> np.ndarray:
        """One row of logits for each token, from an empty cache."""
        self._llama.reset()
        self._llama.eval(tokens)
        return self._llama.scores[: len(tokens)].copy()

    def complete(self, text: str) -> str:
        """What the model writes after the text, greedily, up to its end mark or MOST_TOKENS."""
        written: list[int] = []
        for token in self._llama.generate(self.tokens(text), temp=0.0, top_k=1):
            if token == self._stop or len(written) == MOST_TOKENS:
                break
            written.append(token)
        return self.text(written)

    def answer(self, *messages: tuple[str, str]) -> str:
        """The reply to a conversation of (role, content)."""
        return self.complete(prompt(list(messages)))

    def loss(self, question: str, answer: str) -> tuple[float, int]:
        """(summed loss, tokens) of the answer after the question."""
        before, after = self.tokens(prompt([("user", question)])), self.tokens(answer + IM_END)
        rows = self.logits(before + after)[len(before) - 1 : -1].astype(np.float64)
        top = rows.max(1, keepdims=True)
        chosen = rows[np.arange(len(after)), after]
        return float((np.log(np.exp(rows - top).sum(1)) + top[:, 0] - chosen).sum()), len(after)


@contextmanager
def opened(model: Path, threads: int = 1) -> Iterator[Runtime]:
    """The model, loaded for its whole trained context. One thread is enough for its size, and never waits for another."""
    llama = llama_cpp.Llama(
        str(model), n_ctx=0, n_threads=threads, n_threads_batch=threads, logits_all=True, flash_attn=True,
        type_k=Q8_0_CACHE, type_v=Q8_0_CACHE, verbose=False,
    )  # fmt: skip
    try:
        yield Runtime(llama)
    finally:
        llama.close()
