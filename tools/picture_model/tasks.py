"""What the measured model is asked, in wordings of their own, and what a right answer shows."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tools.picture_model.scenes import CELLS, COLORS, HELD_OUT, SHAPES, Scene, Thing, make_thing, placed, tint

NAMES = {
    "circle": ("circle", "disc", "dot"), "square": ("square", "box"), "triangle": ("triangle",), "star": ("star",),
    "heart": ("heart",), "ring": ("ring", "hoop", "donut"), "diamond": ("diamond", "rhombus"), "cross": ("cross", "plus sign"),
}  # fmt: skip
HUES = {"red": ("red", "scarlet"), "yellow": ("yellow", "golden"), "purple": ("purple", "violet"), "gray": ("gray", "grey")}
PLACES = {
    (0, 0): "in the upper left corner", (0, 1): "at the top", (0, 2): "at the top right", (1, 0): "on the left side",
    (1, 1): "in the middle", (1, 2): "on the right", (2, 0): "in the lower left corner", (2, 1): "at the bottom",
    (2, 2): "in the bottom right corner",
}  # fmt: skip
OPENERS = ("", "", "please paint ", "a simple picture of ", "I would like ", "show me ")
SIZES = {"small": ("small", "tiny"), "large": ("large", "big")}
NUMBERS = {1: "a", 2: "two", 3: "three", 4: "four"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """One thing that must be seen; None where anything is right."""

    shape: str
    color: str
    cell: tuple[int, int] | None = None
    size: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """Words, what must be seen, and, for changes, the scene to start from and the cell to paint in."""

    kind: str
    text: str
    wanted: tuple[Wanted, ...]
    background: str | None = None
    relation: str = ""
    """Where the first thing must lie, seen from the second."""
    source: Scene | None = None
    hole: tuple[int, int] | None = None


def drawing_tasks(dice: random.Random, each: int) -> list[Task]:
    """Pictures to draw: ``each`` of a kind."""
    tasks = []
    for number in range(each):
        pair = sorted(HELD_OUT)[number % len(HELD_OUT)]
        one = Wanted(*pair, dice.choice(CELLS) if number % 2 else None)
        tasks.append(_drawing(dice, "a held-out pair of shape and colour", [[one]]))
        one = replace(_any(dice), cell=dice.choice(CELLS), size=dice.choice((None, "small", "large")))
        tasks.append(_drawing(dice, "one thing", [[one]]))
        first, second = _two(dice)
        cells = dice.sample(CELLS, 2)
        tasks.append(_drawing(dice, "two things with places", [[replace(first, cell=cells[0])], [replace(second, cell=cells[1])]]))
        tasks.append(_related(dice))
        tasks.append(_drawing(dice, "two to four alike", [[_any(dice)] * dice.choice((2, 3, 4))]))
        first, second = _two(dice)
        tasks.append(_drawing(dice, "two kinds, counted", [[first] * dice.choice((1, 2)), [second] * dice.choice((1, 2))]))
        three = [_any(dice) for _ in range(3)]
        tasks.append(
            _drawing(
                dice, "three things with places", [[replace(t, cell=c)] for t, c in zip(three, dice.sample(CELLS, 3), strict=True)]
            )
        )
    return tasks


def changing_tasks(dice: random.Random, each: int) -> list[Task]:
    """Pictures to change: ``each`` of a kind."""
    tasks = []
    for _ in range(each):
        for kind in ("recolour", "add", "remove", "replace", "background", "move", "fill a hole"):
            while (task := _change(dice, kind)) is None:
                pass
            tasks.append(task)
    return tasks


def _change(dice: random.Random, kind: str) -> Task | None:  # noqa: PLR0911  # a wording of its own for each kind
    scene = _scene(dice, dice.choice((1, 2, 2, 3)))
    if scene is None:
        return None
    wanted = [Wanted(t.shape, t.color, t.cell) for t in scene.things]
    one, old = scene.things[0], wanted[0]
    name = f"the {_said(dice, NAMES[one.shape])}" if dice.random() < 0.5 else f"the {one.color} {one.shape}"
    color = dice.choice([c for c in COLORS if c not in {scene.background, *(t.color for t in scene.things)}])
    rest = wanted[1:]
    match kind:
        case "recolour":
            return _changed(
                kind, dice.choice((f"Make {name} {color}.", f"paint {name} {color}")), [replace(old, color=color), *rest], scene
            )
        case "remove":
            if not rest:
                return None
            return _changed(kind, dice.choice((f"Remove {name}", f"please delete {name}", f"get rid of {name}")), rest, scene)
        case "background":
            return replace(_changed(kind, f"Make the background {color}", wanted, scene), background=color)
        case "replace":
            new = Wanted(dice.choice([s for s in SHAPES if s != one.shape]), color, one.cell)
            text = dice.choice((f"Replace {name} with a {new.color} {new.shape}", f"turn {name} into a {new.color} {new.shape}"))
            return _changed(kind, text, [new, *rest], scene)
    free = [cell for cell in CELLS if all(cell != t.cell for t in scene.things)]
    cell = dice.choice(free)
    new = Wanted(dice.choice(SHAPES), color, cell)
    if kind == "move":
        return _changed(
            kind,
            f"Move {name} to {PLACES[cell].removeprefix('in ').removeprefix('at ').removeprefix('on ')}",
            [replace(old, cell=cell), *rest],
            scene,
        )
    if kind == "add":
        return _changed(kind, f"{dice.choice(('Add', 'Put'))} a {new.color} {new.shape} {PLACES[cell]}", [*wanted, new], scene)
    return replace(_changed(kind, f"a {new.color} {new.shape}", [*wanted, new], scene), hole=cell)


def _changed(kind: str, text: str, wanted: list[Wanted], scene: Scene) -> Task:
    return Task(kind, text, tuple(wanted), scene.background, source=scene)


def _scene(dice: random.Random, count: int) -> Scene | None:
    background = dice.choice(("white", "white", "black", "gray", "yellow", "blue"))
    things: list[Thing] = []
    for cell in dice.sample(CELLS, count):
        thing = make_thing(dice, size=dice.choice(("small", "medium")), cell=cell, beside=background)
        if any(one.shape == thing.shape or one.color == thing.color for one in things):
            return None
        things.append(thing)
    done = placed(dice, things)
    return Scene(background, tint(dice, background), tuple(done)) if done else None


def _drawing(dice: random.Random, kind: str, groups: list[list[Wanted]]) -> Task:
    text = dice.choice(OPENERS) + dice.choice((" and ", ", ")).join(_phrase(dice, group) for group in groups)
    wanted = tuple(one for group in groups for one in group)
    background = None
    if dice.random() < 0.4:
        background = dice.choice([c for c in COLORS if all(c != one.color for one in wanted)])
        text += f" on a {background} background"
    return Task(kind, text, wanted, background)


def _related(dice: random.Random) -> Task:
    first, second = _two(dice)
    relation, said = dice.choice((("left", "to the left of"), ("right", "right of"), ("above", "above"), ("below", "below")))
    return Task("one beside another", f"{_phrase(dice, [first])} {said} {_phrase(dice, [second])}", (first, second), None, relation)


def _phrase(dice: random.Random, group: list[Wanted]) -> str:
    one = group[0]
    shape = _said(dice, NAMES[one.shape])
    if len(group) > 1:
        shape += "es" if shape.endswith(("s", "x")) else "s"
    words = [
        NUMBERS[len(group)],
        *([_said(dice, SIZES[one.size])] if one.size else []),
        _said(dice, HUES.get(one.color, (one.color,))),
        shape,
    ]
    text = " ".join(words).replace("a orange", "an orange")
    return text + (f" {PLACES[one.cell]}" if one.cell else "")


def _said(dice: random.Random, words: tuple[str, ...]) -> str:
    return words[0] if dice.random() < 0.6 else dice.choice(words)


def _any(dice: random.Random) -> Wanted:
    return Wanted(dice.choice(SHAPES), dice.choice(tuple(COLORS)))


def _two(dice: random.Random) -> tuple[Wanted, Wanted]:
    first, second = _any(dice), _any(dice)
    return (first, second) if first.shape != second.shape and first.color != second.color else _two(dice)
