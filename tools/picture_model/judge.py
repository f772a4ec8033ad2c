"""What a picture shows, told by pixels alone: it knows nothing of the model, of its scenes, or of how they are drawn."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

LEAST = 0.002
"""Share of the picture that a thing covers at least; less is dirt."""
FLAT = 14
"""Most difference among a pixel's neighbours within an even surface."""
TEMPLATE = 48


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing: its middle and breadth in shares of the side."""

    shape: str
    color: str
    x: float
    y: float
    breadth: float


def look(picture: NDArray[np.uint8]) -> tuple[str, list[Seen]]:
    """The background's colour and the things of a square picture."""
    side = len(picture)
    border = np.concatenate((picture[0], picture[-1], picture[:, 0], picture[:, -1]))
    background = np.median(border, axis=0)
    names, even = _even(picture)
    labels = _labelled(names, even)
    behind = np.abs(picture.astype(int) - background).max(2) < FLAT
    found = []
    for label in range(1, labels.max() + 1):
        part = labels == label
        if part.sum() < LEAST * side * side or behind[part].mean() > 0.5:
            continue
        whole = _without_holes(part, behind)
        rows, columns = np.flatnonzero(whole.any(1)), np.flatnonzero(whole.any(0))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        color = color_of(np.median(picture[part], axis=0))
        shape = _shape(whole[top:bottom, left:right])
        found.append(
            Seen(shape, color, (left + right) / 2 / side, (top + bottom) / 2 / side, max(right - left, bottom - top) / side)
        )
    return color_of(background), found


def color_of(rgb: NDArray[np.float64]) -> str:
    """The everyday name of a colour."""
    hue, strength, light = colorsys.rgb_to_hsv(*(float(part) / 255 for part in rgb))
    hue *= 360
    if light < 0.22:
        return "black"
    if strength < 0.16:
        return "white" if light > 0.82 else "gray"
    if 10 < hue < 48 and light < 0.64:
        return "brown"
    if strength < 0.62 and light > 0.75 and (hue > 300 or hue < 8):
        return "pink"
    for name, end in (("red", 15), ("orange", 43), ("yellow", 68), ("green", 175), ("blue", 252), ("purple", 312), ("red", 361)):
        if hue < end:
            return name
    return "red"


def cell_of(seen: Seen) -> tuple[int, int]:
    """Row and column of nine in which the thing's middle lies."""
    row, column = (0 if at < 0.385 else 2 if at > 0.615 else 1 for at in (seen.y, seen.x))
    return row, column


def _even(picture: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Every pixel's colour in coarse steps, and whether its neighbours have the same: edges, which blend two, do not."""
    wide = np.pad(picture.astype(np.int32), ((1, 1), (1, 1), (0, 0)), mode="edge")
    side = len(picture)
    around = np.stack([wide[y : y + side, x : x + side] for y in range(3) for x in range(3)])
    even = (around.max(0) - around.min(0)).max(2) < FLAT
    steps = np.round(around.mean(0) / 24).astype(np.int32)
    return steps[..., 0] * 256 + steps[..., 1] * 16 + steps[..., 2], even


def _labelled(names: NDArray[np.int32], even: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Numbers from 1 for the connected even surfaces of a colour."""
    labels = np.zeros(names.shape, np.int32)
    side, count = len(names), 0
    for start in np.argwhere(even):
        row, column = int(start[0]), int(start[1])
        if labels[row, column]:
            continue
        count += 1
        name, stack = names[row, column], [(row, column)]
        labels[row, column] = count
        while stack:
            y, x = stack.pop()
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < side and 0 <= u < side and not labels[v, u] and even[v, u] and names[v, u] == name:
                    labels[v, u] = count
                    stack.append((v, u))
    return labels


def _without_holes(part: NDArray[np.bool_], behind: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The surface with the holes closed through which something other than the background is seen."""
    outside = np.zeros_like(part)
    stack = [(0, 0)]
    outside[0, 0] = True
    side = len(part)
    while stack:
        y, x = stack.pop()
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= v < side and 0 <= u < side and not outside[v, u] and not part[v, u]:
                outside[v, u] = True
                stack.append((v, u))
    holes = ~outside & ~part
    return part | holes if holes.any() and behind[holes].mean() < 0.3 else part


def _shape(mask: NDArray[np.bool_]) -> str:
    high, wide = mask.shape
    scale = TEMPLATE / max(high, wide)
    small = Image.fromarray(mask.astype(np.uint8) * 255).resize((max(1, round(wide * scale)), max(1, round(high * scale))))
    square = Image.new("L", (TEMPLATE, TEMPLATE))
    square.paste(small, ((TEMPLATE - small.width) // 2, (TEMPLATE - small.height) // 2))
    shown = np.asarray(square) > 127
    return max(_TEMPLATES, key=lambda name: (shown & _TEMPLATES[name]).sum() / (shown | _TEMPLATES[name]).sum())


def _template(name: str) -> NDArray[np.bool_]:
    big = Image.new("L", (400, 400))
    pen = ImageDraw.Draw(big)
    turn = 2 * math.pi
    match name:
        case "circle":
            pen.ellipse((20, 20, 380, 380), fill=255)
        case "ring":
            pen.ellipse((20, 20, 380, 380), fill=255)
            pen.ellipse((110, 110, 290, 290), fill=0)
        case "square":
            pen.rectangle((20, 20, 380, 380), fill=255)
        case "diamond":
            pen.polygon([(200, 10), (340, 200), (200, 390), (60, 200)], fill=255)
        case "triangle":
            pen.polygon([(200, 20), (390, 360), (10, 360)], fill=255)
        case "cross":
            pen.rectangle((140, 20, 260, 380), fill=255)
            pen.rectangle((20, 140, 380, 260), fill=255)
        case "star":
            corners = [(185 if number % 2 == 0 else 78, number * turn / 10) for number in range(10)]
            pen.polygon([(200 + far * math.sin(angle), 200 - far * math.cos(angle)) for far, angle in corners], fill=255)
        case _:
            pen.polygon([_heart(number * turn / 200) for number in range(200)], fill=255)
    box = big.getbbox() or (0, 0, 400, 400)
    cut = big.crop(box)
    scale = TEMPLATE / max(cut.size)
    cut = cut.resize((round(cut.width * scale), round(cut.height * scale)))
    square = Image.new("L", (TEMPLATE, TEMPLATE))
    square.paste(cut, ((TEMPLATE - cut.width) // 2, (TEMPLATE - cut.height) // 2))
    return np.asarray(square) > 127


def _heart(t: float) -> tuple[float, float]:
    high = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
    return 200 + 11 * 16 * math.sin(t) ** 3, 180 - 11 * high


_TEMPLATES = {name: _template(name) for name in ("circle", "square", "triangle", "star", "heart", "ring", "diamond", "cross")}
