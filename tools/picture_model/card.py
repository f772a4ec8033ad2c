"""The model card: what the recipes and the measurements say, as Markdown with a sheet of pictures beside the model."""

from __future__ import annotations

import hashlib
import json
import textwrap
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aos.operator.images import ImageModel

CARD = Path(__file__).with_name("card.md")
"""The text of the card, with $names for the figures."""
SIDE, GAP, ACROSS = 128, 4, 6
"""Pixels of a picture on the sheet and between two; pictures in a row."""

DRAWN = (
    "a red circle", "a large blue square at the top left", "three green stars", "a yellow heart on a black background",
    "a purple triangle left of an orange ring", "two pink diamonds and a brown cross",
    "a small white star inside a big blue circle", "a black ring above a green circle on a gray background",
    "a blue circle on the right", "four small red hearts on a white background",
    "a green ring at the top, a black cross at the bottom", "a cat",
)  # fmt: skip
CHANGED = (
    ("a red circle", "make the circle blue"),
    ("a red circle on the right", "add a green star at the top left"),
    ("a blue square and a red heart", "remove the heart"),
    ("a yellow star on the left on a black background", "move the star to the right"),
    ("two purple diamonds", "make the background yellow"),
    ("a green triangle and a gray cross", "replace the triangle with a pink ring"),
)
FILLED = ("a red star", "a white ring", "a small black heart")
"""What is asked for in the lower right quarter of a picture, by a mask."""

WRAP = 138
"""Characters of a line of text."""
KINDS = ("everything", "count", "shapes", "colors", "places", "sizes", "background")


def write_card(work: Path, model: Path) -> Path:
    """Writes the card and its sheet of pictures beside ``model``, from the figures that the other steps left in ``work``.

    Raises FileNotFoundError when a step is missing.
    """
    figures = {
        name: json.loads((work / f"{name}.json").read_text("utf-8")) for name in ("composing", "finding", "outlining", "measured")
    }
    opened = ImageModel.open(model)
    Image.fromarray(sheet(opened)).quantize(128).save(model.with_suffix(".png"), optimize=True)
    path = model.with_suffix(".md")
    path.write_text(render(CARD.read_text("utf-8"), figures, model.read_bytes()), "utf-8")
    return path


def sheet(model: ImageModel) -> NDArray[np.uint8]:
    """All pictures of the card: drawn ones, then changed ones below those they were changed from, then filled holes."""

    def paint(
        text: str, seed: int, source: NDArray[np.uint8] | None = None, mask: NDArray[np.bool_] | None = None
    ) -> NDArray[np.uint8]:
        return model.render(text, seed=seed, width=SIDE, height=SIDE, source=source, mask=mask, cancelled=lambda: False)

    pictures = [paint(text, 1) for text in DRAWN]
    before = [paint(text, 2) for text, _ in CHANGED]
    pictures += [*before, *(paint(text, 3, source) for (_, text), source in zip(CHANGED, before, strict=True))]
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[SIDE // 2 :, SIDE // 2 :] = True
    holed = paint("a yellow circle at the top left on a blue background", 4)
    shown = holed.copy()
    shown[mask] = 200
    pictures += [shown, *(paint(text, 5, holed, mask) for text in FILLED)]
    blank = np.full((SIDE, SIDE, 3), 255, np.uint8)
    pictures += [blank] * (-len(pictures) % ACROSS)
    framed = [np.pad(one, ((GAP, 0), (GAP, 0), (0, 0)), constant_values=120) for one in pictures]
    return np.concatenate([np.concatenate(framed[at : at + ACROSS], 1) for at in range(0, len(framed), ACROSS)], 0)


def render(text: str, figures: dict, model: bytes) -> str:
    """The card's text with every figure filled in. Raises KeyError for a $name that nothing fills."""
    composing, finding, outlining, measured = (figures[name] for name in ("composing", "finding", "outlining", "measured"))
    shares = measured["shares"]
    drawn = {kind: row for kind, row in shares.items() if kind in measured["drawing"]}
    changed = {kind: row for kind, row in shares.items() if kind not in drawn}
    values = {
        "sha256": hashlib.sha256(model).hexdigest(),
        "size": f"{len(model):,}",
        "steps": composing["step"],
        "tasks": f"{composing['step'] * composing['recipe']['batch']:,}",
        "seed": composing["recipe"]["seed"],
        "loss": f"{composing['loss']:.3f}",
        "minutes": f"{composing['seconds'] / 60:.0f}",
        "find_steps": finding["step"],
        "find_pictures": f"{finding['step'] * finding['search']['batch']:,}",
        "find_minutes": f"{finding['seconds'] / 60:.0f}",
        "outline_error": f"{outlining['error']:.4f}",
        "outline_seconds": f"{outlining['seconds']:.0f}",
        "drawn_table": _table(drawn),
        "changed_table": _table(changed),
        "judge": "{} of {}".format(*measured["judge"]),
        "outside": "{} of {}".format(*measured["outside"]),
        "seconds": f"{measured['seconds']:.2f}",
        "side": measured["side"],
        "drawn": "; ".join(f"“{text}”" for text in DRAWN),
        "changed": "; ".join(f"“{text}”" for _, text in CHANGED),
        "filled": "; ".join(f"“{text}”" for text in FILLED),
    }
    filled = Template(text).substitute({name: str(value) for name, value in values.items()})
    # the lists of prompts make paragraphs that nobody has wrapped
    paragraphs = [textwrap.fill(one, WRAP) if one.startswith(("Row by row", "By `tools")) else one for one in filled.split("\n\n")]
    return "\n\n".join(paragraphs)


def _table(rows: dict[str, dict[str, list[int]]]) -> str:
    total = {name: [sum(row[name][at] for row in rows.values() if name in row) for at in (0, 1)] for name in KINDS}
    lines = [
        f"| {kind} | {' | '.join(_share(row.get(name)) for name in KINDS)} |" for kind, row in (*rows.items(), ("**all**", total))
    ]
    return "\n".join((f"| | {' | '.join(KINDS)} |", f"|---|{'---|' * len(KINDS)}", *lines))


def _share(pair: list[int] | None) -> str:
    return f"{pair[0]} of {pair[1]}" if pair and pair[1] else ""
