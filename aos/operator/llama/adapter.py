"""A LoRA adapter: small matrices that are added to a model's weights while it runs."""

from __future__ import annotations

import hashlib
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aos.errors import EngineFailed, InvalidField
from aos.operator.llama.binding import begin, c, loading, reason
from aos.operator.llama.file import gguf_digest

MAX_SCALE: Final = 1000
"""Largest scale, of either sign."""


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA file, and how much of it is to be added."""

    path: Path
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA file in memory. It belongs to its Weights and is freed with them."""

    handle: Any
    """llama.cpp's pointer."""
    digest: str
    """SHA-256 of the file, 64 hex digits."""
    scale: float
    """How much of it is added; 1: as it was trained, 0: nothing."""

    def over(self, weights: str) -> str:
        """Return the digest of weights, themselves 64 hex digits, with this much of the adapter: what receipts name."""
        said = b"lora" + bytes.fromhex(weights) + bytes.fromhex(self.digest) + struct.pack(">f", self.scale)
        return hashlib.sha256(said).hexdigest()


def load_adapter(model: Any, name: str, path: Path, scale: float) -> Adapter:
    """Load a LoRA file for a model that llama.cpp holds.

    Raises InvalidField for a file that cannot be read or is no GGUF, or a scale out of range; EngineFailed for a file that is
    no adapter, or one for another model.
    """
    if not math.isfinite(scale) or abs(scale) > MAX_SCALE:
        raise InvalidField("adapter.scale", f"must be from -{MAX_SCALE} to {MAX_SCALE}", value=scale, limit=MAX_SCALE)
    digest = gguf_digest(path, "adapter")
    with loading:
        begin()
        handle = c.llama_adapter_lora_init(model, os.fsencode(path))
        if not handle:
            raise EngineFailed(name, f"llama.cpp cannot load the adapter {path.name}: {reason()}")
    return Adapter(handle, digest, scale)
