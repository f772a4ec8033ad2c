"""Llama models with random weights and a real vocabulary's size: as fast as trained ones, and written in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

VOCABULARY = 32_000
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
WORDS = tuple(f"w{number:05}" for number in range(VOCABULARY - 256 - len(SPECIAL)))


@dataclass(frozen=True, slots=True)
class Size:
    """How large a model is."""

    name: str
    layers: int
    width: int
    feed_forward: int
    heads: int


SIZES = {
    one.name: one
    for one in (Size("15M", 6, 288, 768, 9), Size("110M", 12, 768, 2048, 12), Size("700M", 24, 1536, 4096, 24))
}  # fmt: skip
"""The dimensions of llama2.c's models of those names, and of one more in their proportions."""


def write(folder: Path, size: Size, context: int, kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.Q8_0,
          *, words: Sequence[str] = WORDS) -> Path:  # fmt: skip
    """Write the model, all matrices of one kind, and return its file. The output matrix is the embedding's, as in llama2.c.

    ``words``, in the letters of byte-level BPE, are its vocabulary behind the control tokens and the bytes.
    """
    vocabulary = len(SPECIAL) + 256 + len(words)
    path = folder / f"random-{size.name}-{kind.name}-{vocabulary}.gguf"
    random, width, ff = np.random.default_rng(7), size.width, size.feed_forward
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(size.layers)
    writer.add_feed_forward_length(ff)
    writer.add_head_count(size.heads)
    writer.add_head_count_kv(size.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // size.heads)
    writer.add_vocab_size(vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*SPECIAL, *_bytes(), *words])
    writer.add_token_types([gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (vocabulary - len(SPECIAL)))
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    shapes = {"token_embd": (vocabulary, width)}
    for layer in range(size.layers):
        at = f"blk.{layer}"
        shapes |= {f"{at}.attn_{part}": (width, width) for part in ("q", "k", "v", "output")}
        shapes |= {f"{at}.ffn_gate": (ff, width), f"{at}.ffn_up": (ff, width), f"{at}.ffn_down": (width, ff)}
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{at}.{norm}.weight", np.ones(width, np.float32))
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for name, shape in shapes.items():
        weights = (random.standard_normal(shape, np.float32) * 0.05).astype(np.float32)
        if name == "token_embd":  # the matrix of the logits, too: no answer ends by itself
            weights[: len(SPECIAL)] = 0
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(weights, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _bytes() -> list[str]:
    """Return the 256 bytes in the letters that byte-level BPE writes them in."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(spare)) for byte in range(256)]
