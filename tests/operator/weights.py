"""Tiny GGUF files with random weights: every property of a model file that a test needs, in a few kilobytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_texts() -> list[str]:
    """Return the 256 bytes in the letters that byte-level BPE writes them in (OpenAI's GPT-2 encoder)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, spare = {byte: chr(byte) for byte in plain}, 256
    for byte in range(256):
        if byte not in letters:
            letters[byte], spare = chr(spare), spare + 1
    return [letters[byte] for byte in range(256)]


def write_model(
    path: Path,
    *,
    template: str | None = CHATML,
    heads: int = 2,
    context: int = 512,
    add_bos: bool = False,
    seed: int = 0,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.Q8_0,
    size: int = 32,
    **more: Any,
) -> Path:
    """Write a llama of ``size`` dimensions, one layer and a byte vocabulary, its matrices of this ``kind``.

    ``more`` are calls of the writer's.
    """
    random, ff, vocab = np.random.default_rng(seed), 2 * size, [*SPECIAL, *byte_texts()]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(context)
    writer.add_embedding_length(size)
    writer.add_block_count(1)
    writer.add_feed_forward_length(ff)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(size // heads)
    writer.add_vocab_size(len(vocab))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocab)
    writer.add_token_types([gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * 256)
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(add_bos)
    for call, value in more.items():
        getattr(writer, call)(value)
    if template is not None:
        writer.add_chat_template(template)
    shapes = {
        "token_embd": (len(vocab), size),
        "blk.0.attn_q": (size, size),
        "blk.0.attn_k": (size, size),
        "blk.0.attn_v": (size, size),
        "blk.0.attn_output": (size, size),
        "blk.0.ffn_gate": (ff, size),
        "blk.0.ffn_up": (ff, size),
        "blk.0.ffn_down": (size, ff),
        "output": (len(vocab), size),
    }
    for name, shape in shapes.items():
        weights = random.normal(size=shape).astype(np.float32)
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(weights, kind), raw_dtype=kind)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(size, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
