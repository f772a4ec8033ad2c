"""How the outlines are learnt: from points of the shapes as they are drawn."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from tools.picture_model.model import Outlines
from tools.picture_model.scenes import SHAPES, distance

REACH = 1.25
"""Points are drawn this far from the middle, in radii."""
CLIP = 0.25
"""Beyond this distance it does not matter how far a point lies from the outline."""


@dataclass(frozen=True, slots=True)
class Drill:
    """Everything that a run depends on beside the shapes."""

    seed: int = 7
    steps: int = 5000
    points: int = 2048
    rate: float = 5e-3


def learn_outlines(folder: Path, drill: Drill, *, threads: int = 1) -> float:
    """Leaves outlines.pt and outlining.json in ``folder``; the mean error at the end, in radii."""
    torch.set_num_threads(threads)
    torch.manual_seed(drill.seed)
    dice = np.random.default_rng(drill.seed)
    model = Outlines()
    optimizer = torch.optim.AdamW(model.parameters(), lr=drill.rate, betas=(0.9, 0.98), weight_decay=0.0)
    smooth, begun = 0.0, time.monotonic()
    for step in range(drill.steps):
        points, kinds, away = exercises(dice, drill.points)
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(kinds), len(SHAPES)).float()
        # the guess is not cut off: one that lies far on the wrong side could not find back
        guess = model(torch.from_numpy(points), one_hot)
        loss = (guess - torch.from_numpy(away)).abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.param_groups[0]["lr"] = drill.rate * min((step + 1) / 50, max(0.003, 1 - step / drill.steps))
        optimizer.step()
        smooth = 0.98 * smooth + 0.02 * loss.item() if step else loss.item()
        if step % 500 == 499:
            print(f"{step + 1} error {smooth:.4f} {time.monotonic() - begun:.0f} s", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), folder / "outlines.pt")
    figures = {"drill": asdict(drill), "error": smooth, "seconds": time.monotonic() - begun}
    (folder / "outlining.json").write_text(json.dumps(figures, indent=2) + "\n")
    return smooth


def load_outlines(folder: Path) -> Outlines:
    """The outlines that `learn_outlines` left in ``folder``."""
    model = Outlines()
    model.load_state_dict(torch.load(folder / "outlines.pt", weights_only=True))
    return model.eval()


def exercises(dice: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, the number of each one's shape, and how far it lies outside; two in three close to the outline."""
    points = dice.uniform(-REACH, REACH, (count * 3, 2)).astype(np.float32)
    kinds = dice.integers(0, len(SHAPES), count * 3)
    away = np.empty(count * 3, np.float32)
    for number, shape in enumerate(SHAPES):
        at = kinds == number
        away[at] = distance(shape, points[at, 0], points[at, 1])
    close = np.abs(away) < CLIP
    order = np.argsort(~close, kind="stable")
    chosen = np.concatenate((order[: count * 2 // 3], order[-(count - count * 2 // 3) :]))
    return points[chosen], kinds[chosen], np.clip(away[chosen], -CLIP, CLIP)
