"""LoRA adapters over the tiny models of weights.py, with random matrices."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np


def write_lora(path: Path, *, size: int = 32, rank: int = 4, seed: int = 0, kind: str = "lora") -> Path:
    """Write an adapter that turns the attention's queries and outputs of the first layer upside down."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", kind)
    writer.add_float32("adapter.lora.alpha", float(rank))
    for name in ("attn_q", "attn_output"):
        # gguf writes numpy's dimensions in reverse: `a` takes `size` values to `rank`, `b` takes those back
        writer.add_tensor(f"blk.0.{name}.weight.lora_a", random.normal(size=(rank, size)).astype(np.float32))
        writer.add_tensor(f"blk.0.{name}.weight.lora_b", random.normal(size=(size, rank)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
