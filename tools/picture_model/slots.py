"""A scene as numbers, which is the space that the model composes in: a row for the background, a row for every thing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tools.picture_model.scenes import SHAPES, Thing

THINGS = 4
"""Most things of a scene."""
ROWS = THINGS + 1
THERE, PLACE, RADIUS, COLOR, SHAPE = slice(0, 1), slice(1, 3), slice(3, 4), slice(4, 7), slice(7, 7 + len(SHAPES))
COLUMNS = SHAPE.stop
"""Numbers of a row: is it there, where, how large, its colour, and how much of each shape it has. Each spreads over about 1."""

Rows = NDArray[np.float32]


def background_row(rgb: tuple[float, float, float]) -> Rows:
    """The row of a background of this colour (0 to 1)."""
    row = np.zeros(COLUMNS, np.float32)
    row[COLOR] = to_color(np.asarray(rgb, np.float32))
    return row


def thing_row(thing: Thing | None) -> Rows:
    """The row of a thing; of None, that of an empty place."""
    row = np.zeros(COLUMNS, np.float32)
    row[THERE] = -1.0
    if thing is not None:
        row[THERE] = 1.0
        row[PLACE] = (thing.x - 0.5) * 4, (thing.y - 0.5) * 4
        row[RADIUS] = (thing.radius - 0.17) / 0.07
        row[COLOR] = to_color(np.asarray(thing.rgb, np.float32))
        row[SHAPE] = -0.4
        row[SHAPE.start + SHAPES.index(thing.shape)] = 1.6
    return row


def to_color(rgb: Rows) -> Rows:
    """Colours from 0 to 1 as they stand in rows."""
    return (rgb * 2 - 1) * np.float32(1.3)
