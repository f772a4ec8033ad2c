"""JSON as serde_json writes it without spaces: what signatures of the WebSocket protocol are over. Pure.

Numbers that were read are written again as they were spelt, so that checking a stranger's signature never depends on how this side
would write a float.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from aos.errors import InvalidField
from aos.nesting import too_deep

DEPTH: Final = 64
"""Most levels of nesting."""
_PLAIN: Final = range(-4, 17)
"""Where the decimal point may be, counted from a float's first digit, for it to be written without an exponent."""

Write = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Spelt:
    """A number as it was spelt."""

    text: str


def dump(value: object) -> str:
    """Return the value as compact JSON, keys in the order that they have.

    Raises InvalidField for what JSON cannot carry: NaN, keys that are not text, half of a surrogate pair, more than 64 levels.
    """
    parts: list[str] = []
    _write(value, parts.append, 0)
    text = "".join(parts)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidField("json", "half of a surrogate pair is no character") from None
    return text


def load(text: str) -> object:
    """Return the JSON value, numbers Spelt. Raises InvalidField for what is none, repeats a key or is nested too deeply."""
    # before the parser recurses: where a library has raised Python's recursion limit, a deep text would end the process
    if too_deep(text, DEPTH):
        raise InvalidField("json", f"is nested more than {DEPTH} levels deep", limit=DEPTH)
    try:
        return json.loads(text, parse_float=Spelt, parse_int=Spelt, parse_constant=_no_constant, object_pairs_hook=_no_repetition)
    except ValueError as error:
        raise InvalidField("json", f"is malformed: {error}", value=text) from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _no_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    what = dict(pairs)
    if len(what) < len(pairs):
        # which of the two counts would be the reader's choice, and the signature good for both
        raise ValueError("a key is repeated")
    return what


def _write(value: object, write: Write, level: int) -> None:
    if level > DEPTH:
        raise InvalidField("json", f"is nested more than {DEPTH} levels deep", limit=DEPTH)
    match value:
        case None | bool() | str() | int():
            write(json.dumps(value, ensure_ascii=False))
        case Spelt(text):
            write(text)
        case float():
            write(_float(value))
        case Mapping():
            _write_all(((f"{_key(key)}:", one) for key, one in value.items()), "{}", write, level)
        case Sequence() if not isinstance(value, bytes | bytearray):
            _write_all((("", one) for one in value), "[]", write, level)
        case _:
            raise InvalidField("json", f"cannot carry a {type(value).__name__}")


def _write_all(entries: Iterable[tuple[str, object]], brackets: str, write: Write, level: int) -> None:
    write(brackets[0])
    for index, (before, one) in enumerate(entries):
        write(f",{before}" if index else before)
        _write(one, write, level + 1)
    write(brackets[1])


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise InvalidField("json", f"has a key that is a {type(key).__name__}")
    return json.dumps(key, ensure_ascii=False)


def _float(value: float) -> str:
    """Return the shortest spelling that reads back the same, laid out as the Rust crate ryu does: 1.0, 0.00001, 1e-6, 1e16."""
    if not math.isfinite(value):
        raise InvalidField("json", "has a number that is not finite", value=value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    minus, text = "-" * sign, "".join(map(str, digits))
    if value == 0:
        return f"{minus}0.0"
    point = len(text) + int(exponent)
    if point not in _PLAIN:
        fraction = f".{text[1:]}" if text[1:] else ""
        return f"{minus}{text[0]}{fraction}e{point - 1}"
    if point <= 0:
        return f"{minus}0.{'0' * -point}{text}"
    whole = text.ljust(point, "0")
    return f"{minus}{whole[:point]}.{whole[point:] or '0'}"
