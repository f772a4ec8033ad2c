"""What people ask to be changed in a scene, and the scene that they mean."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from tools.picture_model.captions import item, spot
from tools.picture_model.scenes import CELLS, COLORS, HELD_OUT, Scene, Thing, make_thing, placed, tint
from tools.picture_model.slots import THINGS

Change = tuple[str, Scene] | None
"""Words and the changed scene; None when the scene does not lend itself to it."""
LEAST, MOST = 0.075, 0.34
"""Radii of what was made smaller or bigger."""


def background(dice: random.Random, scene: Scene) -> Change:
    """Another colour behind everything."""
    color = dice.choice([c for c in COLORS if c != scene.background and all(t.color != c for t in scene.things)])
    said = dice.choice((f"change the background to {color}", f"{color} background", f"change background {color}"))
    return said, replace(scene, background=color, rgb=tint(dice, color))


def add(dice: random.Random, scene: Scene) -> Change:
    """One thing more, where there is room."""
    if len(scene.things) >= THINGS:
        return None
    cell = dice.choice(CELLS) if dice.random() < 0.85 else None
    new = make_thing(dice, size=dice.choice((None, "small", "medium")), cell=cell, beside=scene.background)
    done = placed(dice, [new], fixed=scene.things)
    return (f"add {item(dice, [new])}", replace(scene, things=(*scene.things, done[0]))) if done else None


def remove(dice: random.Random, scene: Scene) -> Change:
    """All that the words fit goes."""
    name, those = reference(dice, scene)
    return f"remove {name}", replace(scene, things=tuple(thing for thing in scene.things if thing not in those))


def recolor(dice: random.Random, scene: Scene) -> Change:
    """All that the words fit gets another colour."""
    name, those = reference(dice, scene)
    one = those[0]
    color = dice.choice([c for c in COLORS if c not in (scene.background, one.color) and (one.shape, c) not in HELD_OUT])
    if any((thing.shape, color) in HELD_OUT for thing in those):
        return None
    rgb = tint(dice, color)
    changed = replace(scene, things=tuple(replace(t, color=color, rgb=rgb) if t in those else t for t in scene.things))
    return f"{dice.choice(('', 'change ', 'change '))}{name} {dice.choice(('', 'to '))}{color}", changed


def swap(dice: random.Random, scene: Scene) -> Change:
    """All that the words fit becomes another shape, of its own colour or another."""
    name, those = reference(dice, scene)
    one = those[0]
    keep_color = dice.random() < 0.4
    new = make_thing(dice, color=one.color if keep_color else None, size=one.size, beside=scene.background)
    if new.shape == one.shape or (new.shape, new.color) in HELD_OUT:
        return None
    things = tuple(
        replace(t, shape=new.shape, color=new.color, rgb=t.rgb if new.color == t.color else new.rgb) if t in those else t
        for t in scene.things
    )
    changed = replace(scene, things=things)
    if keep_color and dice.random() < 0.7:
        return f"change {name} to a {new.shape}", changed
    said = f"replace {name} with a {new.color} {new.shape}", f"change {name} to a {new.color} {new.shape}"
    return dice.choice(said), changed


def move(dice: random.Random, scene: Scene) -> Change:
    """The one thing that the words fit goes elsewhere, if it has room there."""
    name, those = reference(dice, scene)
    if len(those) > 1:
        return None
    cell = dice.choice(CELLS)
    others = tuple(thing for thing in scene.things if thing not in those)
    done = placed(dice, [replace(those[0], cell=cell)], fixed=others)
    if not done or done[0].radius < those[0].radius:
        return None
    return f"move {name} to {spot(cell)}", replace(scene, things=tuple(done[0] if t in those else t for t in scene.things))


def resize(dice: random.Random, scene: Scene) -> Change:
    """All that the words fit grows or shrinks, if it still fits."""
    name, those = reference(dice, scene)
    word, factor = dice.choice((("bigger", dice.uniform(1.4, 1.6)), ("smaller", dice.uniform(0.6, 0.7))))
    things = tuple(replace(t, radius=t.radius * factor) if t in those else t for t in scene.things)
    if any(not LEAST <= new.radius <= MOST for new, old in zip(things, scene.things, strict=True) if old in those):
        return None
    for number, thing in enumerate(things):
        if not all(thing.radius <= at <= 1 - thing.radius for at in (thing.x, thing.y)):
            return None
        if any((thing.x - o.x) ** 2 + (thing.y - o.y) ** 2 < (thing.radius + o.radius) ** 2 for o in things[:number]):
            return None
    return f"change {name} {word}", replace(scene, things=things)


CHANGES: dict[str, Callable[[random.Random, Scene], Change]] = {
    "recolor": recolor, "add": add, "remove": remove, "replace": swap, "background": background, "move": move, "resize": resize,
}  # fmt: skip
"""Every kind of change."""


def reference(dice: random.Random, scene: Scene) -> tuple[str, list[Thing]]:
    """Words for one thing of the scene, and all things that the words fit."""
    one = dice.choice(scene.things)
    roll = dice.random()
    if len({(t.shape, t.color) for t in scene.things}) == 1 and roll < 0.2:
        return "it", list(scene.things)
    if roll < 0.55:
        return f"the {one.shape}", [t for t in scene.things if t.shape == one.shape]
    if roll < 0.62:
        return f"the {one.color} shape", [t for t in scene.things if t.color == one.color]
    return f"the {one.color} {one.shape}", [t for t in scene.things if (t.shape, t.color) == (one.shape, one.color)]
