"""What people say for a scene or a change: wordings in the meanings that the model knows."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tools.picture_model.scenes import CENTER, COLUMNS, ROWS, Scene, Thing

NUMBERS = ("", "a", "two", "three", "four")


def item(dice: random.Random, things: Sequence[Thing], *, place: bool | None = None) -> str:
    """A noun phrase for one thing or several of a kind: count, size, colour, shape and, if it has a cell, its place."""
    thing = things[0]
    words = [NUMBERS[len(things)]]
    if len({one.size for one in things}) == 1 and (thing.size != "medium" or dice.random() < 0.2):
        words.append(thing.size)
    words += [thing.shape, thing.color] if dice.random() < 0.08 else [thing.color, thing.shape]
    said = " ".join(words)
    if thing.cell is not None and place is not False:
        said = f"{spot(thing.cell)} {said}" if dice.random() < 0.12 else f"{said} {spot(thing.cell)}"
    return said


def spot(cell: tuple[int, int]) -> str:
    """Where a cell lies, in words."""
    row, column = cell
    if cell == CENTER:
        return "in the center"
    if row == 1:
        return f"on the {COLUMNS[column]}" if column != 1 else "in the center"
    return f"at the {ROWS[row]}" if column == 1 else f"at the {ROWS[row]} {COLUMNS[column]}"


def with_background(dice: random.Random, said: str, scene: Scene) -> str:
    """The caption with the background's colour in one of its wordings."""
    color = scene.background
    return dice.choice((
        f"{said} on a {color} background", f"{said} on {color}", f"{said}, {color} background", f"{said} with a {color} background",
        f"{color} background, {said}", f"{said} and the background is {color}",
    ))  # fmt: skip


def joined(dice: random.Random, items: list[str]) -> str:
    """Items as one enumeration."""
    return f" {dice.choice(('and', ','))} ".join(items)


def noisy(dice: random.Random, said: str) -> str:
    """The same with, now and then, a word that the model does not know, or an opener."""
    roll = dice.random()
    if roll < 0.06:
        words = said.split()
        words.insert(dice.randrange(len(words) + 1), "xyzzy")
        return " ".join(words)
    if roll < 0.14:
        return f"draw {said}"
    return said
