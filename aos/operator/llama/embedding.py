"""Vectors by llama.cpp: a context of its own over weights that text is made with, too, opened when the first text comes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from aos.errors import ShuttingDown
from aos.operator.embedding import Abandoned, Part, Pooling, TextVector, Vectors, steps
from aos.operator.llama.adapter import Adapter
from aos.operator.llama.binding import c
from aos.operator.llama.context import LlamaModel
from aos.operator.modes import BLOCKS, F16, Layout, Mode
from aos.v1.types_pb2 import Order

if TYPE_CHECKING:
    from aos.operator.llama.weights import Weights

CACHE_TOKENS: Final = 8192
"""About how many tokens all sequences have together: long contexts have fewer sequences, at least one."""
MOST_SEQUENCES: Final = 16
POOLINGS: Final = {"": Pooling.MEAN, "0": Pooling.MEAN, "1": Pooling.MEAN, "2": Pooling.CLS, "3": Pooling.LAST}
"""By the GGUF's `pooling_type`; generative models have none. Rerankers, 4, give a score, not a vector."""


def pooling_of(weights: Weights) -> Pooling | None:
    """Return how the model makes a vector of a text; None: it makes none."""
    return POOLINGS.get(weights.meta(f"{weights.meta('general.architecture')}.pooling_type"))


def encodes(weights: Weights) -> bool:
    """Say whether tokens see those behind them, so that a text cannot be computed in pieces: llama.cpp would end the process."""
    arch = weights.meta("general.architecture")
    return c.llama_model_has_encoder(weights.handle) or weights.meta(f"{arch}.attention.causal") == "false"


def embedding_slots(context: int) -> int:
    """Return how many sequences of so many tokens vectors are computed in."""
    return max(1, min(MOST_SEQUENCES, CACHE_TOKENS // context))


class LlamaEmbedder:
    """An Embedder for the embedding engine. ``Weights.open`` makes it with a model, which closes it."""

    def __init__(self, model: LlamaModel, pooling: Pooling, *, threads: int, adapter: Adapter | None) -> None:
        """``model`` is the one beside it: it has the same context, and is exact in the same way, or is not."""
        self.exact, self.context = model.exact, model.context
        # a text is computed in pieces of any length, beside others
        layout = F16 if model.layout == BLOCKS else model.layout
        named = model.profile.removesuffix(model.layout.profile) + layout.profile
        self.profile = named.replace(" kv=", f" pooling={pooling.value} kv=")
        self._weights, self._pooling = model.weights, pooling
        self.dimensions = int(c.llama_model_n_embd_out(self._weights.handle))
        self._threads, self._layout, self._adapter = threads, layout, adapter
        self._lock, self._closed = Lock(), False
        self._states: _States | None = None

    def read(self, text: str) -> list[int]:
        """Return the text's tokens, with BOS and EOS where the model wants them."""
        return [*self._weights.tokenise(Order(prompt=text)), *self._weights.closing]

    def embed(self, texts: Sequence[Sequence[int]], *, go_on: Callable[[], bool]) -> Vectors:
        """Return the texts' vectors. Raises Abandoned, and RuntimeError or ValueError if llama.cpp fails."""
        with self._lock:  # closing waits for the step
            states = self._opened()
            found = [TextVector(self._pooling, self.dimensions) for _ in texts]
            for parts in steps([len(text) for text in texts], slots=states.slots, budget=states.step_tokens):
                if not go_on():
                    raise Abandoned
                rows = states.states(texts, parts)
                for part in parts:
                    found[part.text].add(rows[: part.count])
                    rows = rows[part.count :]
            return [one.vector() for one in found]

    def close(self) -> None:
        """Free the context's memory. Nothing is computed after that. Idempotent."""
        with self._lock:
            self._closed = True
            if self._states is not None:
                self._states.close()

    def _opened(self) -> _States:
        if self._closed:
            raise ShuttingDown
        if self._states is None:
            options = {"slots": embedding_slots(self.context), "context": self.context, "threads": self._threads}
            with self._weights.claimed():
                self._states = _States(self._weights, **options, layout=self._layout, adapter=self._adapter)
        return self._states


class _States(LlamaModel):
    """A context that gives the last hidden state of each token."""

    _gives_states = False

    def __init__(
        self, weights: Weights, *, slots: int, context: int, threads: int, layout: Layout, adapter: Adapter | None
    ) -> None:
        super().__init__(weights, slots=slots, context=context, threads=threads, mode=Mode.EXACT, adapter=adapter, layout=layout)
        c.llama_set_embeddings(self._context, True)
        self._gives_states = True
        self._size = int(c.llama_model_n_embd_out(weights.handle))

    def states(self, texts: Sequence[Sequence[int]], parts: Sequence[Part]) -> NDArray[np.float32]:
        """Compute the parts; return a view of the state of each of their tokens, good until the next call."""
        count = 0
        for part in parts:
            end = count + part.count
            if not part.start:
                self.reuse(part.slot, part.slot, 0)
            self._token[count:end] = texts[part.text][part.start : part.start + part.count]
            self._pos[count:end] = range(part.start, part.start + part.count)
            self._seq[count:end] = part.slot
            count = end
        self._wanted[:count] = True
        return self._decode(count, count)

    def _outputs(self, count: int) -> NDArray[np.float32]:
        if not self._gives_states:  # while it is tried out, as any model is
            return super()._outputs(count)
        pointer = ctypes.cast(c.llama_get_embeddings(self._context), ctypes.POINTER(ctypes.c_float))
        if not pointer:
            raise RuntimeError("llama.cpp gives no hidden states")
        return np.ctypeslib.as_array(pointer, (count, self._size))
