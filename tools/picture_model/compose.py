"""How the composer learns: rectified flow from noise to scene, one fixed recipe."""

from __future__ import annotations

import json
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tools.demo_model.optimizer import Muon
from tools.picture_model.examples import Example, example
from tools.picture_model.model import BEGIN, BOX, Composer, Form
from tools.picture_model.scenes import Scene, Thing
from tools.picture_model.slots import COLUMNS, ROWS, THINGS, background_row, thing_row
from tools.picture_model.words import LENGTH, encode

SAVE_EVERY = 100


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that a run depends on beside the scenes."""

    seed: int = 5
    steps: int = 1500
    batch: int = 192
    matrix_rate: float = 6e-3
    other_rate: float = 3e-3
    warmup: int = 50
    decay: float = 0.4
    """The rate falls to nothing over this last share of the steps."""
    average: float = 0.997
    """The weights that are kept are a moving average with this decay."""
    without_text: float = 0.1
    """Share of tasks without their words, so that none at all are no trap."""
    noise_bias: float = -0.4
    """Middle of the logit-normal draw of times: below 0 there is more practice with much noise, where the scene is decided."""
    near: float = 0.15
    """Least distance to the finished scene that counts as such in the loss's weight."""


Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Words, target, source, given, box: see `model.Composer.forward`."""


def batch_of(examples: list[Example], recipe: Recipe, dice: random.Random) -> Batch:
    """The examples as numbers, with some texts dropped by lot."""
    count = len(examples)
    target, source = np.zeros((count, ROWS, COLUMNS), np.float32), np.zeros((count, ROWS, COLUMNS), np.float32)
    given, box = np.zeros(count, np.float32), np.zeros((count, BOX), np.float32)
    texts: list[list[int]] = []
    for row, one in enumerate(examples):
        texts.append([BEGIN] if dice.random() < recipe.without_text else [BEGIN, *encode(one.text)[:LENGTH]])
        if one.source is None:
            target[row] = rows_of(one.target, [*one.target.things])
            continue
        before, after = aligned(one, dice)
        source[row], target[row], given[row] = rows_of(one.source, before), rows_of(one.target, after), 1
        if one.hole:
            box[row] = (*((edge - 0.5) * 4 for edge in one.hole), 1)
    longest = max(map(len, texts))
    words = np.array([text + [0] * (longest - len(text)) for text in texts])
    ready = (torch.from_numpy(one) for one in (words, target, source, given, box))
    return tuple(ready)  # pyright: ignore[reportReturnType]


def aligned(one: Example, dice: random.Random) -> tuple[list[Thing | None], list[Thing | None]]:
    """Things before and after in the same rows: shuffled, a removed one leaves its row empty, a new one takes the first."""
    assert one.source is not None
    before, after = list(one.source.things), list(one.target.things)
    if len(after) < len(before):
        pairs = [(thing, thing if thing in after else None) for thing in before]
    else:
        pairs = list(zip(before, after, strict=False))
    new = after[len(before) :]
    dice.shuffle(pairs)
    pairs += [(None, thing) for thing in new]
    pairs += [(None, None)] * (THINGS - len(pairs))
    return [old for old, _ in pairs], [thing for _, thing in pairs]


def rows_of(scene: Scene, things: list[Thing] | list[Thing | None]) -> np.ndarray:
    """The scene's background and these things as rows."""
    padded = [*things, *[None] * (THINGS - len(things))]
    return np.stack([background_row(scene.rgb), *map(thing_row, padded)])


def loss_of(model: Composer, batch: Batch, recipe: Recipe) -> Tensor:
    """Error of the flow, weighted by how near the time is to its end."""
    words, target, source, given, box = batch
    when = torch.sigmoid(torch.randn(len(given)) + recipe.noise_bias)
    share = when[:, None, None]
    noisy = share * target + (1 - share) * torch.randn_like(target)
    error = ((model(words, noisy, when, source, given, box) - target) ** 2).mean((1, 2))
    return (error / (1 - when).clamp(min=recipe.near) ** 2).mean()


def train(folder: Path, recipe: Recipe, form: Form, *, threads: int = 1) -> None:
    """Leaves composer.pt and composing.json in ``folder``; goes on from composer.pt if there is one."""
    torch.set_num_threads(threads)
    torch.manual_seed(recipe.seed)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "composer.pt"
    model, kept = Composer(form), Composer(form)
    kept.load_state_dict(model.state_dict())
    optimizers = make_optimizers(model, recipe)
    first, before, smooth = 0, 0.0, 0.0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        model.load_state_dict(saved["weights"])
        kept.load_state_dict(saved["kept"])
        for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        first, before, smooth = saved["step"], saved["seconds"], saved["loss"]
    begun = time.monotonic()
    for step in range(first, recipe.steps):
        # every step draws its own dice, so that a run that was resumed sees what an unbroken one sees
        dice = random.Random(f"{recipe.seed}/{step}")
        torch.manual_seed(recipe.seed * 1_000_003 + step)
        loss = loss_of(model, batch_of([example(dice) for _ in range(recipe.batch)], recipe, dice), recipe)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * pace(step, recipe)
            optimizer.step()
        with torch.no_grad():
            share = min(recipe.average, (step + 1) / (step + 10))
            for mean, new in zip(kept.parameters(), model.parameters(), strict=True):
                mean.lerp_(new, 1 - share)
        smooth = 0.98 * smooth + 0.02 * loss.item() if step else loss.item()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == recipe.steps:
            seconds = before + time.monotonic() - begun
            state = {"form": asdict(form), "weights": model.state_dict(), "kept": kept.state_dict(), "step": step + 1}
            state |= {"optimizers": [one.state_dict() for one in optimizers], "seconds": seconds, "loss": smooth}
            torch.save(state, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
            figures = {"recipe": asdict(recipe), "form": asdict(form), "step": step + 1, "loss": smooth, "seconds": seconds}
            (folder / "composing.json").write_text(json.dumps(figures, indent=2) + "\n")
        if step < 3 or step % 25 == 24:
            print(
                f"{step + 1} loss {smooth:.4f} {time.monotonic() - begun:.0f} s, of them {time.process_time():.0f} computing",
                flush=True,
            )


def load_composer(folder: Path) -> Composer:
    """The composer that `train` left in ``folder``, with its averaged weights."""
    saved = torch.load(folder / "composer.pt", weights_only=True)
    model = Composer(Form(**saved["form"]))
    model.load_state_dict(saved["kept"])
    return model.eval()


def make_optimizers(model: Composer, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else."""
    inner = [weight for part in (model.blocks, model.text_blocks) for weight in part.parameters() if weight.dim() == 2]
    ids = {id(weight) for weight in inner}
    others = [weight for weight in model.parameters() if id(weight) not in ids]
    optimizers: list[torch.optim.Optimizer] = [
        Muon(inner, lr=recipe.matrix_rate, weight_decay=0.02),
        torch.optim.AdamW(others, lr=recipe.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def pace(step: int, recipe: Recipe) -> float:
    """The share of the peak rate: up over the warm-up, level, then straight down to 1 %."""
    return min((step + 1) / recipe.warmup, 1.0, max(0.01, (recipe.steps - step) / (recipe.steps * recipe.decay)))
