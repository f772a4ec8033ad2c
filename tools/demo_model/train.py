"""How the weights are found: one fixed recipe, from seed to checkpoint."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tokenizers
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from tools.demo_model.conversations import Practice
from tools.demo_model.corpus import read_corpus
from tools.demo_model.model import Llama, Shape
from tools.demo_model.optimizer import Muon
from tools.demo_model.packing import rows
from tools.demo_model.paraphrase import expand
from tools.demo_model.tokenizer import train_tokenizer


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that a run depends on beside the corpus."""

    seed: int = 20
    steps: int = 1250
    tokens_per_step: int = 4096
    matrix_rate: float = 4e-3
    other_rate: float = 4e-3
    warmup: int = 30
    short_row: int = 256
    short_share: float = 0.7
    """Rows are short for this share of the steps, which is faster, and as long as the context after that."""


def train(folder: Path, recipe: Recipe, shape: Shape, *, threads: int = 2) -> dict[str, float]:
    """Leaves tokenizer.json, weights.pt and training.json in ``folder`` and returns the figures of the last.

    The same recipe, shape, corpus and thread count on the same machine give the same weights.
    """
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    questions = [question for question in expand(read_corpus()) if not question.held_out]
    practice = Practice(questions)
    tokenizer = train_tokenizer(tokenizer_texts(practice, recipe.seed))
    model = Llama(shape)
    optimizers = make_optimizers(model, recipe)

    long_from = int(recipe.steps * recipe.short_share)
    sources = {length: rows(practice.draw, tokenizer, length, recipe.seed + length) for length in (recipe.short_row, shape.context)}
    smooth, seen = 0.0, 0
    progress = tqdm(range(recipe.steps), desc="training", unit="step", mininterval=2)
    for step in progress:
        length = recipe.short_row if step < long_from else shape.context
        batch = list(itertools.islice(sources[length], recipe.tokens_per_step // length))
        ids, weights = (torch.from_numpy(np.stack(part)) for part in zip(*batch, strict=True))
        everything, answers = losses(model, ids, weights)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        everything.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * pace(step, recipe)
            optimizer.step()
        seen += ids.numel()
        smooth = answers.item() if step == 0 else 0.98 * smooth + 0.02 * answers.item()
        progress.set_postfix(answer_loss=f"{smooth:.3f}", refresh=False)

    figures = {"answer_loss": smooth, "tokens": seen, "seconds": progress.format_dict["elapsed"]}
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.save({"shape": asdict(shape), "weights": model.state_dict()}, folder / "weights.pt")
    record = {"recipe": asdict(recipe), "shape": asdict(shape), **figures}
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    return figures


def load(folder: Path) -> tuple[Llama, tokenizers.Tokenizer]:
    """The model and tokenizer that `train` left in ``folder``."""
    saved = torch.load(folder / "weights.pt", weights_only=True)
    model = Llama(Shape(**saved["shape"]))
    model.load_state_dict(saved["weights"])
    return model.eval(), tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def losses(model: nn.Module, ids: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """(weighted loss to descend, mean loss over answer tokens alone)."""
    logits = model(ids[:, :-1]).flatten(0, 1)
    each = functional.cross_entropy(logits, ids[:, 1:].flatten(), reduction="none")
    weight = weights[:, 1:].flatten()
    answer = (weight == 1).float()
    return (each * weight).sum() / weight.sum(), ((each * answer).sum() / answer.sum()).detach()


def make_optimizers(model: Llama, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, which learn faster with it; AdamW for embedding and norms."""
    matrices = [weight for weight in model.blocks.parameters() if weight.dim() > 1]
    others = [model.embedding.weight, *(weight for weight in model.parameters() if weight.dim() == 1)]
    optimizers: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=recipe.matrix_rate, weight_decay=0.05),
        torch.optim.AdamW(others, lr=recipe.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def pace(step: int, recipe: Recipe) -> float:
    """The share of the peak learning rate: up over the warm-up, level to half way, then straight down to 2 %."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    half = recipe.steps // 2
    return 1.0 if step < half else max(0.02, 1 - (step - half) / (recipe.steps - half))


def tokenizer_texts(practice: Practice, seed: int, count: int = 20_000) -> list[str]:
    """Texts in the proportions of training, so that merges go where tokens are."""
    rng = random.Random(seed)
    return [content for _ in range(count) for _, content in practice.draw(rng).messages]
