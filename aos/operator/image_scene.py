"""A picture as the embedded image model sees it: rows of numbers, layers of paint, and what of a source stays as it is.

No model is run here: `aos/operator/images.py` runs it, and asks this file what to give it and what to make of its answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

THINGS: Final = 4
"""Most things of a scene."""
ROWS: Final = THINGS + 1
"""The background's row, then a row for every thing."""
THERE, PLACE, RADIUS, COLOR, SHAPE = 0, slice(1, 3), 3, slice(4, 7), slice(7, 15)
COLUMNS: Final = SHAPE.stop
"""Numbers of a row; tools/picture_model/slots.py says how they are scaled."""
CELLS: Final = 16
"""Cells each way in which things are found; each holds a small thing and a large one at most."""
ANSWERS: Final = COLUMNS
"""Numbers that are said of a cell."""

SURE: Final = 0.0
"""Least logit with which a thing counts as found."""
TWIN: Final = 1.7
"""Two things in about one place are one when their radii differ by less than this factor."""
MOVED, RESIZED, RECOLORED = 0.3, 0.3, 0.5
"""What a change must exceed to be meant, in the numbers of a row; smaller ones are put back, so that what stays stays exactly."""
APART: Final = 50.0
"""Least difference of a channel, of 255, between a thing and a background that it stands out from."""
SMALLEST, LARGEST = 0.05, 0.45
"""Radii that are painted, of the picture's side."""
SEAM: Final = 0.012
"""How far around a change the old picture is painted over, of the side: so wide is the error with which things are found."""
VISIBLE: Final = 2.0
"""Least difference of a channel, of 255, that makes a pixel one that changes."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape: its middle and radius in shares of the window's side, its colour from 0 to 255, the number of its shape."""

    x: float
    y: float
    radius: float
    color: tuple[float, float, float]
    shape: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A background and things on it, each with the row that it has in the model's scene, from 1."""

    background: tuple[float, float, float]
    things: tuple[tuple[int, Thing], ...]


@dataclass(frozen=True, slots=True)
class Window:
    """The square part of a picture that the model works on, in pixels."""

    left: int
    top: int
    side: int


def window_of(width: int, height: int, mask: Mask | None) -> Window:
    """The largest square: in the middle, or along the longer side as near as it can be to what is to be painted."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    if mask is not None and mask.any():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        left = min(max((int(columns[0]) + int(columns[-1]) + 1 - side) // 2, 0), width - side)
        top = min(max((int(rows[0]) + int(rows[-1]) + 1 - side) // 2, 0), height - side)
    return Window(left, top, side)


def hole_of(mask: Mask, window: Window) -> Floats:
    """The box around what is to be painted, as the model takes it; zeros when nothing of it lies in the window."""
    part = mask[window.top : window.top + window.side, window.left : window.left + window.side]
    if not part.any():
        return np.zeros(5, np.float32)
    rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    edges = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32) / np.float32(window.side)
    return np.append((edges - 0.5) * 4, 1).astype(np.float32)


def meanings(words: Sequence[str], vocabulary: Mapping[str, int]) -> list[int]:
    """The numbers of what the words mean: the longest known phrase first, 1 for a word in none, no number for one of no weight."""
    longest = max((phrase.count(" ") for phrase in vocabulary), default=0) + 1
    found: list[int] = []
    at = 0
    while at < len(words):
        for count in range(min(longest, len(words) - at), 0, -1):
            meaning = vocabulary.get(" ".join(words[at : at + count]))
            if meaning is not None:
                break
        else:
            count, meaning = 1, 1
        if meaning:
            found.append(meaning)
        at += count
    return found


def picture_of(rows: Floats) -> Picture:
    """What the model's scene shows. A row without a thing is left out; shapes are those that a row has most of."""
    things = []
    for number in range(1, ROWS):
        row = rows[number]
        if row[THERE] <= 0:
            continue
        x, y = (float(min(1.0, max(0.0, one / 4 + 0.5))) for one in row[PLACE])
        radius = min(LARGEST, max(SMALLEST, float(row[RADIUS]) * 0.07 + 0.17))
        things.append((number, Thing(x, y, radius, _from_row(row[COLOR]), int(np.argmax(row[SHAPE])))))
    return Picture(_from_row(rows[0, COLOR]), tuple(things))


def rows_of(picture: Picture) -> Floats:
    """The model's scene that shows this: the inverse of `picture_of`."""
    rows = np.zeros((ROWS, COLUMNS), np.float32)
    rows[1:, THERE] = -1
    rows[0, COLOR] = _to_row(picture.background)
    for number, thing in picture.things:
        row = rows[number]
        row[THERE] = 1
        row[PLACE] = (thing.x - 0.5) * 4, (thing.y - 0.5) * 4
        row[RADIUS] = (thing.radius - 0.17) / 0.07
        row[COLOR] = _to_row(thing.color)
        row[SHAPE] = -0.4
        row[SHAPE.start + thing.shape] = 1.6
    return rows


def found_in(answers: Floats) -> Picture:
    """What the model sees in a picture, from what it says of every cell: the surest things, at most THINGS of them."""
    cells = answers[: 2 * ANSWERS * CELLS * CELLS].reshape(2, ANSWERS, CELLS, CELLS)
    there = cells[:, 0]
    around = np.pad(there, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    best = np.max([around[:, y : y + CELLS, x : x + CELLS] for y in range(3) for x in range(3)], axis=0)
    spots = np.argwhere((there > SURE) & (there == best))
    spots = spots[np.argsort(-there[tuple(spots.T)], kind="stable")]
    things: list[Thing] = []
    for kind, row, column in spots:
        said = cells[kind, :, row, column]
        x, y = (column + 0.5 + said[1]) / CELLS, (row + 0.5 + said[2]) / CELLS
        radius = 0.17 * math.exp(min(1.5, max(-1.5, float(said[3]))))
        thing = Thing(float(x), float(y), radius, _from_row(said[4:7]), int(np.argmax(said[7:])))
        if not any(_same(thing, one) for one in things):
            things.append(thing)
    # large ones first: what lies inside another is painted after it
    chosen = sorted(things[:THINGS], key=lambda one: -one.radius)
    return Picture(_from_row(answers[-3:]), tuple(enumerate(chosen, start=1)))


def faults(picture: Picture) -> float:
    """How much is wrong with the picture whatever was asked for; 0 for nothing.

    Things that reach into each other or over the edge count as far as they do so, one wholly inside another does not; a thing
    that can hardly be told from the background counts 1.
    """
    total = 0.0
    for number, (_, one) in enumerate(picture.things):
        total += sum(max(0.0, one.radius - at) + max(0.0, at + one.radius - 1) for at in (one.x, one.y))
        total += max(abs(mine - behind) for mine, behind in zip(one.color, picture.background, strict=True)) < APART
        for _, other in picture.things[:number]:
            apart = math.hypot(one.x - other.x, one.y - other.y)
            inside = apart + min(one.radius, other.radius) < max(one.radius, other.radius)
            total += 0.0 if inside else max(0.0, one.radius + other.radius - apart)
    return total


def steadied(before: Floats, after: Floats) -> Floats:
    """``after`` with everything put back to ``before`` that changed too little to be meant."""
    steady = after.copy()
    for number in range(ROWS):
        old, new = before[number], steady[number]
        if number and (old[THERE] <= 0 or new[THERE] <= 0):
            continue
        if np.abs(new[PLACE] - old[PLACE]).max() < MOVED:
            new[PLACE] = old[PLACE]
        if abs(new[RADIUS] - old[RADIUS]) < RESIZED:
            new[RADIUS] = old[RADIUS]
        if np.abs(new[COLOR] - old[COLOR]).max() < RECOLORED:
            new[COLOR] = old[COLOR]
    return steady


def coverage(away: Floats, thing: Thing, side: int) -> Floats:
    """How much of each pixel the thing covers, from how far (in radii) the pixels' middles lie outside of its outline."""
    return np.clip(np.float32(0.5) - away * np.float32(thing.radius * side), 0, 1)


def patch_of(thing: Thing, window: Window, width: int, height: int) -> tuple[slice, slice]:
    """Rows and columns of the picture that the thing can touch."""
    reach = thing.radius * window.side * 1.06 + 1
    middle = window.top + thing.y * window.side, window.left + thing.x * window.side
    rows, columns = (
        slice(max(0, math.floor(at - reach)), max(0, min(limit, math.ceil(at + reach))))
        for at, limit in zip(middle, (height, width), strict=True)
    )
    return rows, columns


def points_of(rows: slice, columns: slice, thing: Thing, window: Window) -> Floats:
    """The middles of these pixels, (n, 2), in radii from the thing's middle."""
    x = ((np.arange(columns.start, columns.stop) + 0.5 - window.left) / window.side - thing.x) / thing.radius
    y = ((np.arange(rows.start, rows.stop) + 0.5 - window.top) / window.side - thing.y) / thing.radius
    grid = np.empty((len(y), len(x), 2), np.float32)
    grid[..., 0], grid[..., 1] = x[None, :], y[:, None]
    return grid.reshape(-1, 2)


def bands(rows: slice, columns: slice, most: int) -> list[slice]:
    """``rows`` in parts of at most ``most`` pixels each, one row at least."""
    step = max(1, most // max(1, columns.stop - columns.start))
    edges = [*range(rows.start, rows.stop, step), rows.stop]
    return [slice(low, high) for low, high in pairwise(edges)]


def touched(before: Floats, after: Floats, side: int, behind: tuple[float, float, float] | None) -> Mask:
    """The pixels that change, of two painted pictures, 0 to 255.

    A seam comes with them where a thing was seen before, since its edge was found no more exactly than that; ``behind`` is the
    background that both have, None when it changes: every edge on it is then seen anew.
    """
    changed = np.asarray((np.abs(after - before) > VISIBLE).any(2))
    unsure = changed
    if behind is not None:
        unsure = changed & (np.abs(before - np.asarray(behind, np.float32)) > VISIBLE).any(2)
    return changed | widened(unsure, max(1, round(SEAM * side)))


def widened(mask: Mask, reach: int) -> Mask:
    """The mask and all pixels within a square of ``reach`` pixels around it."""
    for axis in (0, 1):
        # counting along the axis takes the same time however far the reach
        counts = np.cumsum(mask, axis=axis, dtype=np.int32)
        length = mask.shape[axis]
        high = np.take(counts, np.minimum(np.arange(length) + reach, length - 1), axis=axis)
        low = np.arange(length) - reach - 1
        below = np.take(counts, np.maximum(low, 0), axis=axis)
        shape = (-1, 1) if axis == 0 else (1, -1)
        mask = high - np.where((low >= 0).reshape(shape), below, 0) > 0
    return mask


def true_colors(picture: Picture, source: Pixels, layers: Mapping[int, Mask], free: Mask) -> Picture:
    """The picture with the colours that the source has where each thing, by its row, and the background (``free``) are seen."""
    things = tuple(
        (number, replace(thing, color=_median(source[layers[number]]) or thing.color)) for number, thing in picture.things
    )
    return Picture(_median(source[free]) or picture.background, things)


def _same(one: Thing, other: Thing) -> bool:
    # a thing is at times seen as a small and as a large one; what lies inside another is far from its size
    ratio = one.radius / other.radius
    near = math.hypot(one.x - other.x, one.y - other.y) < min(one.radius, other.radius) / 2
    return near and 1 / TWIN < ratio < TWIN


def _median(pixels: Pixels) -> tuple[float, float, float] | None:
    if not len(pixels):
        return None
    red, green, blue = (float(one) for one in np.median(pixels, axis=0))
    return red, green, blue


def _from_row(color: Floats) -> tuple[float, float, float]:
    red, green, blue = (float(one) for one in np.clip((color / np.float32(1.3) + 1) * np.float32(127.5), 0, 255))
    return red, green, blue


def _to_row(color: tuple[float, float, float]) -> Floats:
    return (np.asarray(color, np.float32) / np.float32(127.5) - 1) * np.float32(1.3)
