"""The tasks that the model practises: draw a caption, follow an instruction, fill a hole."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tools.picture_model.captions import item, joined, noisy, with_background
from tools.picture_model.changes import CHANGES
from tools.picture_model.scenes import CELLS, CENTER, COLORS, RADII, Scene, Thing, make_thing, placed, tint

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Example:
    """One task: the words, the scene to reach, the scene to start from and the box to fill (left, top, right, bottom)."""

    text: str
    target: Scene
    source: Scene | None = None
    hole: Box | None = None


def example(dice: random.Random) -> Example:
    """A task by lot: half of them drawing, a third instructions, the rest holes."""
    roll = dice.random()
    if roll < 0.5:
        scene, text = captioned(dice)
        return Example(noisy(dice, text), scene)
    if roll < 0.8:
        return instruction(dice)
    return hole(dice)


def backed(dice: random.Random, things: list[Thing], *, color: str = "") -> Scene:
    """The things on a background whose colour none of them has; white as often as all others together."""
    used = {thing.color for thing in things}
    chosen = color or (
        "white" if dice.random() < 0.5 and "white" not in used else dice.choice([c for c in COLORS if c not in used])
    )
    return Scene(chosen, tint(dice, chosen), tuple(things))


def captioned(dice: random.Random, *, held_out: bool = False) -> tuple[Scene, str]:
    """A scene and what one says for it."""
    roll = dice.random()
    while True:
        if roll < 0.40:
            things, text = _single(dice, held_out=held_out)
        elif roll < 0.55:
            things, text = _several(dice, held_out=held_out)
        elif roll < 0.72:
            things, text = _related(dice, held_out=held_out)
        elif roll < 0.88:
            things, text = _group(dice, held_out=held_out)
        else:
            things, text = _groups(dice)
        if things:
            break
    scene = backed(dice, things)
    if (scene.background != "white" and dice.random() < 0.85) or dice.random() < 0.15:
        text = with_background(dice, text, scene)
    return scene, text


def _single(dice: random.Random, *, held_out: bool) -> tuple[list[Thing] | None, str]:
    cell = dice.choice(CELLS) if dice.random() < 0.65 else None
    thing = make_thing(dice, cell=cell or (CENTER if dice.random() < 0.6 else None), held_out=held_out)
    things = placed(dice, [thing])
    text = item(dice, [thing], place=cell is not None)
    roll = dice.random()
    if roll < 0.06:
        text = text.replace(thing.color, "")
    elif roll < 0.12:
        text = text.replace(thing.shape, "shape")
    return things, text


def _several(dice: random.Random, *, held_out: bool) -> tuple[list[Thing] | None, str]:
    count = dice.choice((2, 2, 3))
    cells = dice.sample(CELLS, count) if dice.random() < 0.75 else [None] * count
    size = (lambda: dice.choice(("small", "medium"))) if count == 3 else (lambda: None)
    things = [make_thing(dice, cell=cell, size=size(), held_out=held_out) for cell in cells]
    text = joined(dice, [item(dice, [one]) for one in things])
    return placed(dice, things), text


def _related(dice: random.Random, *, held_out: bool) -> tuple[list[Thing] | None, str]:
    first = make_thing(dice, held_out=held_out)
    second = make_thing(dice, held_out=held_out)
    relation = dice.choice(("left of", "right of", "above", "below", "beside", "inside"))
    if relation == "inside":
        outer = make_thing(dice, shape=dice.choice(("circle", "square", "diamond", "heart")), size="large", beside=first.color)
        outer = replace(outer, radius=dice.uniform(0.27, 0.34))
        found = placed(dice, [replace(outer, cell=CENTER if dice.random() < 0.7 else None)])
        inner = replace(make_thing(dice, shape=first.shape, color=first.color, size="small"), size="medium")
        if not found:
            return None, ""
        x, y = found[0].x, found[0].y + (-0.03 if outer.shape == "heart" else 0)
        inner = replace(inner, x=x, y=y, radius=dice.uniform(0.09, 0.12))
        return [found[0], inner], f"a {inner.color} {inner.shape} inside a {outer.color} {outer.shape}"
    gap = dice.uniform(0.05, 0.12) + first.radius + second.radius
    drift = dice.uniform(-0.06, 0.06)
    side = dice.choice((-1, 1))
    dx, dy = {
        "left of": (-gap, drift), "right of": (gap, drift), "above": (drift, -gap), "below": (drift, gap),
        "beside": (side * gap, drift),
    }[relation]  # fmt: skip
    for _ in range(30):
        x, y = dice.uniform(0.1, 0.9), dice.uniform(0.1, 0.9)
        spots = [(x + dx / 2, y + dy / 2, first), (x - dx / 2, y - dy / 2, second)]
        if all(t.radius + 0.015 <= c <= 1 - t.radius - 0.015 for px, py, t in spots for c in (px, py)):
            things = [replace(t, x=px, y=py) for px, py, t in spots]
            return things, f"{item(dice, [things[0]])} {relation} {item(dice, [things[1]])}"
    return None, ""


def _group(dice: random.Random, *, held_out: bool) -> tuple[list[Thing] | None, str]:
    first = make_thing(dice, size=dice.choice(("small", "medium", "medium")), held_out=held_out)
    count = dice.choice((2, 3, 4))
    things = [replace(first, radius=dice.uniform(*RADII[first.size])) for _ in range(count)]
    return placed(dice, things), item(dice, things)


def _groups(dice: random.Random) -> tuple[list[Thing] | None, str]:
    while True:
        first, second = (make_thing(dice, size=dice.choice(("small", "medium"))) for _ in range(2))
        if first.shape != second.shape:
            break
    groups = [
        [one] * count for one, count in zip((first, second), dice.choice(((1, 2), (2, 1), (1, 3), (3, 1), (2, 2))), strict=True)
    ]
    return placed(dice, groups[0] + groups[1]), joined(dice, [item(dice, group) for group in groups])


def instruction(dice: random.Random, *, kinds: tuple[str, ...] = tuple(CHANGES)) -> Example:
    """A scene, something to change in it, and the changed scene."""
    while True:
        scene, _ = captioned(dice)
        found = CHANGES[dice.choice(kinds)](dice, scene)
        if found:
            text, target = found
            return Example(noisy(dice, text), target, scene)


def hole(dice: random.Random) -> Example:
    """A scene with a box cut out; the words say what belongs there, or, one time in three, the whole scene or a change."""
    roll = dice.random()
    if roll < 0.15:
        return _hole_of_instruction(dice)
    scene, text = captioned(dice)
    one = dice.choice(scene.things)
    others = tuple(t for t in scene.things if t is not one)
    box = around(dice, one)
    if any(_touches(box, t) for t in others):
        return hole(dice)
    if roll < 0.35:
        return Example(
            dice.choice(("remove it", "empty", "background", f"remove the {one.shape}", "")),
            replace(scene, things=others),
            replace(scene, things=others),
            box,
        )
    said = item(dice, [one], place=False) if roll < 0.85 else text
    return Example(noisy(dice, said), replace(scene, things=(*others, one)), replace(scene, things=others), box)


def _hole_of_instruction(dice: random.Random) -> Example:
    while True:
        task = instruction(dice, kinds=("recolor", "replace", "add"))
        assert task.source is not None
        new = [t for t in task.target.things if t not in task.source.things]
        if len(new) == 1:
            box = around(dice, new[0])
            if not any(_touches(box, t) for t in task.target.things if t is not new[0]):
                others = tuple(t for t in task.target.things if t is not new[0])
                hidden = replace(task.source, things=others)
                return Example(task.text, replace(task.target, things=(*others, new[0])), hidden, box)


def around(dice: random.Random, thing: Thing) -> Box:
    """A box that holds the thing, with some room on every side."""
    left, top = (max(0.0, at - thing.radius - dice.uniform(0.01, 0.15)) for at in (thing.x, thing.y))
    right, bottom = (min(1.0, at + thing.radius + dice.uniform(0.01, 0.15)) for at in (thing.x, thing.y))
    return left, top, right, bottom


def _touches(box: Box, thing: Thing) -> bool:
    left, top, right, bottom = box
    return (
        left < thing.x + thing.radius
        and thing.x - thing.radius < right
        and top < thing.y + thing.radius
        and thing.y - thing.radius < bottom
    )
