"""How the finder learns: to say which things a drawn picture shows."""

from __future__ import annotations

import json
import math
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.picture_model.examples import captioned, instruction
from tools.picture_model.model import ANSWERS, LARGE_FROM, SEEN, SPOTS, Finder
from tools.picture_model.scenes import SHAPES, Scene, draw
from tools.picture_model.slots import to_color

SAVE_EVERY = 200


@dataclass(frozen=True, slots=True)
class Search:
    """Everything that a run depends on beside the scenes."""

    seed: int = 8
    steps: int = 2000
    batch: int = 32
    rate: float = 3e-3
    grain: float = 0.03
    """Most noise in a picture, of a range of 1."""


def train_finder(folder: Path, search: Search, *, threads: int = 1) -> None:
    """Leaves finder.pt and finding.json in ``folder``; goes on from finder.pt if there is one."""
    torch.set_num_threads(threads)
    torch.manual_seed(search.seed)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "finder.pt"
    model = Finder()
    optimizer = torch.optim.AdamW(model.parameters(), lr=search.rate, betas=(0.9, 0.98), weight_decay=0.01)
    first, before, smooth = 0, 0.0, 0.0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        model.load_state_dict(saved["weights"])
        optimizer.load_state_dict(saved["optimizer"])
        first, before, smooth = saved["step"], saved["seconds"], saved["loss"]
    begun = time.monotonic()
    for step in range(first, search.steps):
        dice = random.Random(f"{search.seed}/{step}")
        torch.manual_seed(search.seed * 1_000_003 + step)
        scenes = [
            captioned(dice, held_out=True)[0] if dice.random() < 0.5 else instruction(dice).target for _ in range(search.batch)
        ]
        loss = loss_of(model, scenes, search)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = search.rate * min(
            (step + 1) / 50, 1.0, max(0.005, (search.steps - step) / (0.6 * search.steps))
        )
        optimizer.step()
        smooth = 0.98 * smooth + 0.02 * loss.item() if step else loss.item()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == search.steps:
            seconds = before + time.monotonic() - begun
            state = {
                "weights": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
                "seconds": seconds,
                "loss": smooth,
            }
            torch.save(state, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
            figures = {"search": asdict(search), "step": step + 1, "loss": smooth, "seconds": seconds}
            (folder / "finding.json").write_text(json.dumps(figures, indent=2) + "\n")
        if step % 50 == 49:
            print(
                f"{step + 1} loss {smooth:.4f} {time.monotonic() - begun:.0f} s, of them {time.process_time():.0f} computing",
                flush=True,
            )


def load_finder(folder: Path) -> Finder:
    """The finder that `train_finder` left in ``folder``."""
    model = Finder()
    model.load_state_dict(torch.load(folder / "finder.pt", weights_only=True)["weights"])
    return model.eval()


def loss_of(model: Finder, scenes: list[Scene], search: Search) -> Tensor:
    """What the model says of the scenes' pictures against what they show."""
    pictures = torch.from_numpy(np.stack([draw(scene, SEEN) for scene in scenes]).transpose(0, 3, 1, 2).copy())
    pictures = (pictures + torch.randn_like(pictures) * search.grain * torch.rand(len(scenes), 1, 1, 1)).clamp(0, 1)
    said, behind = model(pictures)
    truth, at = torch.zeros(len(scenes), 2, SPOTS, SPOTS), []
    rows = []
    for number, scene in enumerate(scenes):
        for thing in scene.things:
            column, row = min(SPOTS - 1, int(thing.x * SPOTS)), min(SPOTS - 1, int(thing.y * SPOTS))
            kind = int(thing.radius >= LARGE_FROM)
            truth[number, kind, row, column] = 1
            at.append((number, kind, row, column))
            color = to_color(np.asarray(thing.rgb, np.float32))
            place = thing.x * SPOTS - column - 0.5, thing.y * SPOTS - row - 0.5
            rows.append([*place, math.log(thing.radius / 0.17), *color, SHAPES.index(thing.shape)])
    there = functional.binary_cross_entropy_with_logits(said[:, :, 0], truth, reduction="sum") / max(1, len(at))
    backgrounds = torch.tensor(np.stack([to_color(np.asarray(scene.rgb, np.float32)) for scene in scenes]))
    loss = there + 2 * (behind - backgrounds).abs().mean()
    if at:
        number, kind, row, column = torch.tensor(at).T
        answers, wanted = said[number, kind, :, row, column], torch.tensor(rows, dtype=torch.float32)
        loss = loss + 3 * (answers[:, 1:4] - wanted[:, :3]).abs().mean() + 2 * (answers[:, 4:7] - wanted[:, 3:6]).abs().mean()
        loss = loss + functional.cross_entropy(answers[:, 7:ANSWERS], wanted[:, 6].long())
    return loss
