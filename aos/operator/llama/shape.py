"""How large a model is, read from its file without loading it."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aos.errors import EngineFailed
from aos.operator.llama.binding import begin, c, loading, reason
from aos.operator.llama.context import DEFAULT_CONTEXT
from aos.operator.llama.embedding import embedding_slots
from aos.operator.llama.file import gguf_size
from aos.operator.modes import MICRO_BATCH

F16_BYTES: Final = 2
F32_BYTES: Final = 4
CELLS: Final = 256
"""llama.cpp rounds a sequence's cache up to a multiple of so many tokens."""
ACTIVATIONS: Final = 16
"""Values that computing a token takes, in multiples of the embedding's length: a layer's inputs, outputs and halves in between."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model's memory follows from."""

    weights: int
    """Bytes of the file."""
    layers: int
    vocabulary: int
    embedding: int
    """Values of a token between two layers."""
    cached: int
    """Values that one layer keeps of a token: its keys and values."""
    trained: int
    """Tokens of context that it was trained on."""

    def context_bytes(self, *, slots: int, context: int) -> int:
        """Return about what ``slots`` sequences of ``context`` tokens (0: the model's own, at most 8192) take beside the weights.

        Those that make vectors are counted in. The KV cache is counted as f16, the largest of the kinds in use, and computing at
        the largest micro-batch.
        """
        length = min(context or DEFAULT_CONTEXT, self.trained)
        cells = -(-length // CELLS) * CELLS * (slots + embedding_slots(length))
        cache = self.layers * cells * self.cached * F16_BYTES
        rows = 2 * max(MICRO_BATCH, slots)
        return cache + rows * (self.vocabulary + ACTIVATIONS * self.embedding) * F32_BYTES


def shape_of(path: Path, name: str) -> Shape:
    """Read a file's header and vocabulary. Slow for large vocabularies, so not on an event loop.

    Raises InvalidField for a file that is missing or no GGUF, EngineFailed for one that llama.cpp cannot read.
    """
    size = gguf_size(path, "model")
    with loading:
        begin()
        params = c.llama_model_default_params()
        params.vocab_only, params.n_gpu_layers = True, 0
        handle = c.llama_model_load_from_file(os.fsencode(path), params)
        if not handle:
            raise EngineFailed(name, f"llama.cpp cannot read {path.name}: {reason()}")
    try:
        return _shape(handle, size)
    finally:
        c.llama_model_free(handle)


def _shape(handle: Any, size: int) -> Shape:
    arch = _meta(handle, "general.architecture")

    def number(key: str, otherwise: int) -> int:
        # lists, of models whose layers differ, are not told; the layers' like is then the largest there can be
        said = _meta(handle, f"{arch}.{key}")
        return int(said) if said.isdecimal() else otherwise

    embedding = number("embedding_length", 0)
    heads = number("attention.head_count", 1) or 1
    even = embedding // heads
    values = number("attention.key_length", even) + number("attention.value_length", even)
    return Shape(
        weights=size,
        layers=number("block_count", 0),
        vocabulary=int(c.llama_vocab_n_tokens(c.llama_model_get_vocab(handle))),
        embedding=embedding,
        cached=number("attention.head_count_kv", heads) * values,
        trained=number("context_length", DEFAULT_CONTEXT),
    )


def _meta(handle: Any, key: str) -> str:
    buffer = ctypes.create_string_buffer(256)
    found = c.llama_model_meta_val_str(handle, key.encode(), buffer, len(buffer))
    return buffer.value.decode(errors="replace") if found >= 0 else ""
