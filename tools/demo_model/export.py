"""From checkpoint to GGUF: the same weights as Q8_0, with the tokenizer and the facts llama.cpp needs."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import tokenizers
import torch

from tools.demo_model.chat import CHAT_TEMPLATE, END_OF_TEXT, IM_END, SPECIAL, prompt
from tools.demo_model.model import Llama, Shape
from tools.demo_model.train import load

DESCRIPTION = (
    "A small demonstration model that answers questions about AI, machine learning, verification and the AOS "
    "network, and declines other questions. Trained from scratch on a corpus written for the project."
)

REFERENCE_PROMPTS = (
    "What is AI?", "Explain why determinism matters.", "What is the weather in Lima?", "Was heißt 人工智能? 🙂",
)  # fmt: skip
"""Short prompts for comparing logits; one more fills the whole context."""

_BLOCK_NAMES = {
    "attention_norm": "attn_norm", "query": "attn_q", "key": "attn_k", "value": "attn_v", "output": "attn_output",
    "feed_norm": "ffn_norm", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
}  # fmt: skip


def export(folder: Path, target: Path) -> int:
    """Writes the checkpoint in ``folder`` as a GGUF and returns its size in bytes.

    ``target`` is replaced in one step, so a reader finds the old file or the new one and never a part.
    Leaves reference.npz in ``folder``: logits from torch, to hold against those of llama.cpp.
    """
    model, tokenizer = load(folder)
    np.savez_compressed(folder / "reference.npz", **reference(model, tokenizer))
    part = target.with_name(f".{target.name}.part")
    writer = gguf.GGUFWriter(part, "llama")
    _add_facts(writer, model.shape)
    _add_tokenizer(writer, tokenizer)
    for name, weight in model.state_dict().items():
        array = weight.detach().numpy().astype(np.float32)
        if array.ndim == 1:
            writer.add_tensor(tensor_name(name), array)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(tensor_name(name), gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(target)
    return target.stat().st_size


def reference(model: Llama, tokenizer: tokenizers.Tokenizer) -> dict[str, np.ndarray]:
    """Prompts as ids, with torch's logits for the weights as trained ("full") and as Q8_0 stores them ("rounded")."""
    rounded = Llama(model.shape)
    rounded.load_state_dict({name: torch.from_numpy(_rounded(weight)) for name, weight in model.state_dict().items()})
    texts = [prompt([("user", text)]) for text in REFERENCE_PROMPTS]
    texts.append("".join(texts) * model.shape.context)
    arrays = {"count": np.array(len(texts))}
    for index, text in enumerate(texts):
        ids = torch.tensor([tokenizer.encode(text[:8192]).ids[: model.shape.context]])
        arrays[f"ids{index}"] = ids[0].numpy()
        with torch.no_grad():
            arrays[f"full{index}"] = model(ids)[0].numpy()
            arrays[f"rounded{index}"] = rounded(ids)[0].numpy()
    return arrays


def _rounded(weight: torch.Tensor) -> np.ndarray:
    array = weight.detach().numpy().astype(np.float32)
    if array.ndim == 1:
        return array
    kind = gguf.GGMLQuantizationType.Q8_0
    return gguf.quants.dequantize(gguf.quants.quantize(array, kind), kind)


def tensor_name(name: str) -> str:
    """What llama.cpp calls the weight that torch calls ``name``."""
    if name == "embedding.weight":
        return "token_embd.weight"  # with no output.weight in the file, llama.cpp uses it for the output as well
    if name == "norm.weight":
        return "output_norm.weight"
    _, block, part, _ = name.split(".")
    return f"blk.{block}.{_BLOCK_NAMES[part]}.weight"


def _add_facts(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name("aos-demo")
    writer.add_description(DESCRIPTION)
    writer.add_author("The AOS project")
    writer.add_license("Apache-2.0")
    writer.add_languages(["en"])
    writer.add_tags(["demo", "chat"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_vocab_size(shape.vocabulary)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: tokenizers.Tokenizer) -> None:
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    kinds = [gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens]
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(vocabulary[END_OF_TEXT])
    writer.add_eos_token_id(vocabulary[IM_END])
    writer.add_eot_token_id(vocabulary[IM_END])
    writer.add_pad_token_id(vocabulary[END_OF_TEXT])
    writer.add_add_bos_token(False)  # a conversation starts with <|im_start|> and nothing before it
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
