"""What a training picture shows, and how it is drawn. Lengths are shares of the picture's side; y grows downwards."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "diamond", "cross")
COLORS = {
    "red": (220, 40, 40), "orange": (245, 140, 30), "yellow": (250, 222, 50), "green": (50, 160, 70), "blue": (50, 90, 220),
    "purple": (135, 60, 175), "pink": (248, 150, 195), "brown": (120, 75, 40), "black": (25, 25, 30), "white": (250, 250, 250),
    "gray": (140, 140, 145),
}  # fmt: skip
RADII = {"small": (0.090, 0.112), "medium": (0.140, 0.180), "large": (0.225, 0.270)}
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "center", "right")
CELLS = tuple((row, column) for row in range(3) for column in range(3))
CENTER = (1, 1)
GAP = 0.03
"""Least distance between two shapes, and twice that to the picture's edge."""

HELD_OUT = frozenset((shape, color) for i, shape in enumerate(SHAPES) for j, color in enumerate(COLORS) if (3 * i + j) % 11 == 4)
"""One colour of each shape that no training picture shows: what is drawn of these was composed, not remembered."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape of a scene. ``cell`` is the row and column that it was put into, None when it may lie anywhere."""

    shape: str
    color: str
    size: str
    x: float
    y: float
    radius: float
    rgb: tuple[float, float, float]
    cell: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """Things on a plain background, drawn in their order."""

    background: str
    rgb: tuple[float, float, float]
    things: tuple[Thing, ...]


def tint(dice: random.Random, color: str) -> tuple[float, float, float]:
    """A shade of ``color`` that is still called by its name, 0 to 1."""
    red, green, blue = (min(255.0, max(0.0, part + dice.uniform(-9, 9))) / 255 for part in COLORS[color])
    return red, green, blue


def make_thing(
    dice: random.Random, *, shape: str | None = None, color: str | None = None, size: str | None = None,
    cell: tuple[int, int] | None = None, beside: str = "", held_out: bool = False,
) -> Thing:  # fmt: skip
    """A thing with what is given and the rest by lot, never in the colour ``beside`` and never a held-out pair unless asked."""
    while True:
        drawn = shape or dice.choice(SHAPES), color or dice.choice(tuple(COLORS))
        if (held_out or drawn not in HELD_OUT) and drawn[1] != beside:
            break
        if shape and color:
            break
    kind = size or dice.choices(("small", "medium", "large"), (1, 2, 1))[0]
    return Thing(*drawn, kind, 0.5, 0.5, dice.uniform(*RADII[kind]), tint(dice, drawn[1]), cell)


def placed(dice: random.Random, things: list[Thing], *, fixed: tuple[Thing, ...] = ()) -> list[Thing] | None:
    """The things where their cells say, elsewhere by lot, shrunk if they must be; None when they do not fit beside ``fixed``."""
    for attempt in range(40):
        shrunk = 0.96 ** (attempt // 3)
        done: list[Thing] = []
        for thing in things:
            radius = thing.radius * shrunk
            least = radius + GAP / 2
            if thing.cell is None:
                x, y = dice.uniform(least, 1 - least), dice.uniform(least, 1 - least)
            else:
                x, y = (0.5 + 0.27 * (one - 1) + dice.uniform(-0.035, 0.035) for one in (thing.cell[1], thing.cell[0]))
                x, y = min(1 - least, max(least, x)), min(1 - least, max(least, y))
            if all(math.hypot(x - one.x, y - one.y) >= radius + one.radius + GAP for one in (*fixed, *done)):
                done.append(replace(thing, x=x, y=y, radius=radius))
            else:
                break
        if len(done) == len(things):
            return done
    return None


def coverage(thing: Thing, x: NDArray[np.float32], y: NDArray[np.float32], pixel: float) -> NDArray[np.float32]:
    """How much of each pixel the thing covers, 0 to 1; ``x`` and ``y`` are pixel centres, ``pixel`` a pixel's side."""
    u, v = (x - thing.x) / thing.radius, (y - thing.y) / thing.radius
    return np.clip(0.5 - distance(thing.shape, u, v) * (thing.radius / pixel), 0, 1).astype(np.float32)


def distance(shape: str, u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.float32]:  # noqa: PLR0911  # a line each
    """Signed distance to the shape's outline, negative inside, for a shape of radius 1 around 0."""
    a, b = np.abs(u), np.abs(v)
    match shape:
        case "circle":
            return np.hypot(u, v) - 1
        case "ring":
            return np.abs(np.hypot(u, v) - 0.74) - 0.26
        case "square":
            return np.maximum(a, b) - 0.86
        case "diamond":
            return (a / 0.72 + b - 1) * 0.584
        case "triangle":
            return np.maximum(v - 0.72, a * 0.873 - (v + 0.98) * 0.488)
        case "cross":
            return np.minimum(np.maximum(a - 0.3, b - 0.95), np.maximum(b - 0.3, a - 0.95))
        case "heart":
            w = v - 0.08
            return np.minimum((a + np.abs(w) - 0.8) * 0.7071, np.hypot(a - 0.4, w + 0.4) - 0.5657)
        case "star":
            turn = math.pi / 5
            angle = np.abs((np.arctan2(u, -v) + turn) % (2 * turn) - turn)
            length = np.hypot(u, v)
            # the edge runs from the tip (1, 0) to the notch 0.42 away from the middle at 36 degrees
            tip, notch = (1.0, 0.0), (0.42 * math.cos(turn), 0.42 * math.sin(turn))
            edge = (notch[0] - tip[0], notch[1] - tip[1])
            norm = math.hypot(*edge)
            return ((length * np.cos(angle) - tip[0]) * edge[1] - (length * np.sin(angle) - tip[1]) * edge[0]) / norm
    raise ValueError(shape)


def draw(scene: Scene, side: int, *, bounds: tuple[float, float, float, float] = (0, 0, 1, 1)) -> NDArray[np.float32]:
    """The scene, or its part between ``bounds`` (left, top, right, bottom), as (side, side, 3), 0 to 1."""
    return drawn(scene, side, bounds=bounds)[0]


def drawn(
    scene: Scene, side: int, *, bounds: tuple[float, float, float, float] = (0, 0, 1, 1)
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """The picture, and for every pixel the index of the thing that it shows, -1 for the background."""
    left, top, right, _ = bounds
    pixel = (right - left) / side
    picture = np.empty((side, side, 3), np.float32)
    picture[:] = scene.rgb
    index = np.full((side, side), -1, np.int8)
    for number, thing in enumerate(scene.things):
        low_x, high_x, low_y, high_y = (
            min(side, max(0, math.floor((at - start + sign * thing.radius * 1.05) / pixel) + (sign > 0)))
            for at, start in ((thing.x, left), (thing.y, top))
            for sign in (-1, 1)
        )
        if low_x >= high_x or low_y >= high_y:
            continue
        x = left + (np.arange(low_x, high_x, dtype=np.float32) + 0.5)[None, :] * pixel
        y = top + (np.arange(low_y, high_y, dtype=np.float32) + 0.5)[:, None] * pixel
        share = coverage(thing, x, y, pixel)
        part = picture[low_y:high_y, low_x:high_x]
        part += share[..., None] * (np.asarray(thing.rgb, np.float32) - part)
        index[low_y:high_y, low_x:high_x][share > 0.5] = number
    return picture, index
