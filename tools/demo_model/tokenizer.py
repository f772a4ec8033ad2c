"""Which pieces text is cut into: a byte-level BPE in the style of GPT-2, trained on the corpus."""

from __future__ import annotations

from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from tools.demo_model.chat import SPECIAL

VOCABULARY = 2048
"""A multiple of 32, because rows of Q8_0 tensors come in blocks of 32."""


def train_tokenizer(texts: Iterable[str]) -> tokenizers.Tokenizer:
    """A tokenizer of exactly VOCABULARY tokens that covers every byte, so any UTF-8 text survives a round trip.

    Raises ValueError when the texts are too few to fill the vocabulary.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    # the GPT-2 splitting rule, which llama.cpp knows as "gpt-2"
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise ValueError(f"the texts yield {tokenizer.get_vocab_size()} tokens, not {VOCABULARY}.")
    return tokenizer
