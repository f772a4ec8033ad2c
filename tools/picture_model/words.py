"""Which words the model knows: every phrase has the number of its meaning, so that synonyms cost no training."""

from __future__ import annotations

import re

LENGTH = 32
"""Most meanings of a prompt; what run time reads beyond is refused there."""
PAD, UNKNOWN = 0, 1

MEANINGS: dict[str, str] = {
    "circle": "circle circles disc discs disk disks ball balls dot dots round",
    "square": "square squares box boxes block blocks",
    "triangle": "triangle triangles pyramid pyramids",
    "star": "star stars",
    "heart": "heart hearts",
    "ring": "ring rings hoop hoops donut donuts doughnut doughnuts",
    "diamond": "diamond diamonds rhombus rhombuses lozenge lozenges",
    "cross": "cross crosses plus pluses plus_sign plus_signs",
    "shape": "shape shapes object objects thing things figure figures something",
    "red": "red crimson scarlet", "orange": "orange", "yellow": "yellow golden gold", "green": "green", "blue": "blue",
    "purple": "purple violet", "pink": "pink", "brown": "brown", "black": "black", "white": "white", "gray": "gray grey",
    "small": "small little tiny mini", "medium": "medium medium_sized", "large": "large big huge giant",
    "smaller": "smaller shrink", "bigger": "bigger larger enlarge grow",
    "two": "two 2 pair couple", "three": "three 3", "four": "four 4",
    "top": "top upper", "bottom": "bottom lower", "left": "left left_side", "right": "right right_side",
    "center": "center centre middle centered",
    "left of": "left_of", "right of": "right_of", "above": "above over on_top_of", "below": "below under beneath underneath",
    "beside": "beside next_to", "inside": "inside within inside_of",
    "and": "and plus_a , ;",
    "background": "background backdrop", "on": "on against",
    "with": "with by",
    "add": "add draw put place insert", "remove": "remove delete erase get_rid_of take_away",
    "replace": "replace swap", "change": "make change turn color colour recolor recolour",
    "move": "move shift", "to": "to into", "it": "it", "empty": "empty nothing plain blank",
}  # fmt: skip
SILENT = (
    "a an the of in at is are be has have there please me us show i want would like to_see can you could this that these those "
    "picture image photo drawing illustration picture_of image_of drawing_of photo_of scene corner side colored coloured shaped "
    "simple flat some its from for picture_with image_with . ! ? : \" ' ( ) generate create give paint so color colour "
    "one 1 single size sized sign it_is located positioned placed shown very just only now"
)
"""Said often and never of weight: dropped."""

IDS = {name: number for number, name in enumerate(MEANINGS, start=2)}
COUNT = len(IDS) + 2


def vocabulary() -> dict[str, int]:
    """Every phrase in lower case with the number of its meaning; 0 for those that are dropped."""
    phrases = {phrase.replace("_", " "): PAD for phrase in SILENT.split()}
    for name, said in MEANINGS.items():
        phrases |= {phrase.replace("_", " "): IDS[name] for phrase in said.split()}
    return phrases


_PHRASES = vocabulary()
_LONGEST = max(phrase.count(" ") for phrase in _PHRASES) + 1


def encode(text: str) -> list[int]:
    """The meanings of ``text`` in order: the longest known phrase first, UNKNOWN for a word in none."""
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    found: list[int] = []
    at = 0
    while at < len(words):
        for count in range(min(_LONGEST, len(words) - at), 0, -1):
            meaning = _PHRASES.get(" ".join(words[at : at + count]))
            if meaning is not None:
                break
        else:
            count, meaning = 1, UNKNOWN
        if meaning:
            found.append(meaning)
        at += count
    return found
