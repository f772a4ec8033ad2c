"""How often the finished file does what it is asked, judged by `judge`, which shares nothing with it."""

from __future__ import annotations

import itertools
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aos.operator.images import ImageModel
from tools.picture_model.judge import Seen, cell_of, look
from tools.picture_model.scenes import draw
from tools.picture_model.tasks import Task, Wanted, changing_tasks, drawing_tasks

SIDE = 192
SEED = 1905
LIMITS = {"small": (0.0, 0.25), "large": (0.36, 1.0)}
"""Breadths of things that are called so."""
FAR = 0.04
"""Least distance between the middles of things of which one lies beside the other."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What of an answer was right; None for what was not asked."""

    count: bool
    shapes: bool
    colors: bool
    places: bool | None
    sizes: bool | None
    background: bool | None

    @property
    def everything(self) -> bool:
        """All that was asked."""
        return all(one is not False for one in (self.count, self.shapes, self.colors, self.places, self.sizes, self.background))


def measure(folder: Path, path: Path, *, each: int = 24) -> None:
    """Leaves measured.json in ``folder``."""
    model = ImageModel.open(path)
    dice = random.Random(SEED)
    figures: dict[str, dict[str, list[bool]]] = {}
    drawn, changed = drawing_tasks(dice, each), changing_tasks(dice, each)
    seconds = []
    outside = []
    for number, task in enumerate((*drawn, *changed)):
        row = figures.setdefault(task.kind, {})
        begun = time.perf_counter()
        picture, source, mask = answer(model, task, number)
        seconds.append(time.perf_counter() - begun)
        verdict = judged(task, picture)
        for name in ("everything", "count", "shapes", "colors", "places", "sizes", "background"):
            right = getattr(verdict, name)
            if right is not None:
                row.setdefault(name, []).append(right)
        if mask is not None and source is not None:
            outside.append(bool((picture[~mask] == source[~mask]).all()))
        if not verdict.everything:
            print(f"\n{task.kind}: {task.text!r}: {look(picture)}")
    truth = [judged(task, rounded(draw(task.source, SIDE)), before=True).everything for task in changed if task.source]
    shares = {kind: {name: (sum(list_), len(list_)) for name, list_ in row.items()} for kind, row in figures.items()}
    record = {
        "shares": shares, "drawing": sorted({t.kind for t in drawn}),
        "judge": (sum(truth), len(truth)), "outside": (sum(outside), len(outside)),
        "seconds": float(np.median(seconds)), "side": SIDE, "profile": model.profile,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "measured.json").write_text(json.dumps(record, indent=2) + "\n")
    for kind, row in shares.items():
        print(kind, {name: f"{right}/{asked}" for name, (right, asked) in row.items()})
    print(record["judge"], record["outside"])


def answer(
    model: ImageModel, task: Task, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None, NDArray[np.bool_] | None]:
    """The model's picture, the one it started from and the mask."""
    source = rounded(draw(task.source, SIDE)) if task.source else None
    mask = None
    if task.hole:
        mask = np.zeros((SIDE, SIDE), np.bool_)
        (top, bottom), (left, right) = (tuple(round(SIDE * (one + at) / 3) for at in (0, 1)) for one in task.hole)
        mask[top:bottom, left:right] = True
    picture = model.render(task.text, seed=seed, width=SIDE, height=SIDE, source=source, mask=mask, cancelled=lambda: False)
    return picture, source, mask


def rounded(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A drawn picture as bytes."""
    return np.rint(picture * 255).astype(np.uint8)


def judged(task: Task, picture: NDArray[np.uint8], *, before: bool = False) -> Verdict:
    """What of the picture is as the task wants it; with ``before``, as the scene shows that the task starts from."""
    background, seen = look(picture)
    wanted = task.wanted
    expected = task.background
    if before and task.source:
        wanted = tuple(Wanted(t.shape, t.color, t.cell) for t in task.source.things)
        expected = task.source.background
    pairs = _matched(wanted, seen)
    placed = [cell_of(found) == want.cell for want, found in pairs if want.cell]
    if task.relation and len(pairs) > 1:
        placed.append(_beside(task.relation, pairs[0][1], pairs[1][1]))
    sized = [LIMITS[want.size][0] <= found.breadth <= LIMITS[want.size][1] for want, found in pairs if want.size in LIMITS]
    return Verdict(
        count=len(seen) == len(wanted),
        shapes=sorted(one.shape for one in wanted) == sorted(one.shape for one in seen),
        colors=sorted(one.color for one in wanted) == sorted(one.color for one in seen),
        places=all(placed) and len(pairs) == len(wanted) if placed or task.relation or any(w.cell for w in wanted) else None,
        sizes=all(sized) if any(want.size for want in wanted) else None,
        background=background == expected if expected else None,
    )


def _matched(wanted: tuple[Wanted, ...], seen: list[Seen]) -> list[tuple[Wanted, Seen]]:
    """Every wanted thing with one that was seen, such that as much as possible fits."""

    def fits(order: tuple[Seen, ...]) -> int:
        return sum(
            4 * ((w.shape, w.color) == (s.shape, s.color))
            + 2 * (w.color == s.color)
            + (w.shape == s.shape)
            + (w.cell == cell_of(s))
            for w, s in zip(wanted, order, strict=False)
        )

    best = max(itertools.permutations(seen[:6], min(len(wanted), len(seen[:6]))), key=fits, default=())
    return list(zip(wanted, best, strict=False))


def _beside(relation: str, first: Seen, second: Seen) -> bool:
    dx, dy = first.x - second.x, first.y - second.y
    return {"left": dx < -FAR, "right": dx > FAR, "above": dy < -FAR, "below": dy > FAR}[relation]
