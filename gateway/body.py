"""Reading a JSON body strictly: what is not plainly right is refused, and the refusal names the field. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from aos.errors import SHOWN, InvalidField
from aos.nesting import DEPTH, too_deep

BODY_BYTES: Final = 2 << 20
"""Largest body that the dialects take unless settings say otherwise."""
EDIT_BYTES: Final = 28 << 20
"""Largest body with a picture in it: one of 20 MB, which is a third longer as base64."""
UNHEARD_BYTES: Final = 64 << 20
"""Largest such body that is read to its end, so that its sender hears why it is refused: many listen only once all is sent."""
M = TypeVar("M", bound=BaseModel)


class Malformed(InvalidField):
    """The body is not a JSON object."""

    def __init__(self, problem: str, *, limit: object = "") -> None:
        super().__init__("body", problem, limit=limit)


class TooLarge(InvalidField):
    """The body has more bytes than are taken."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__("body", f"has {size} bytes; at most {limit} are accepted", value=size, limit=limit)


class DownloadFailed(InvalidField):
    """A URL in the body was called, and what it should give did not come."""


class UnknownField(InvalidField):
    """A field that means nothing here. Refused, because dropping it would change what the caller asked for."""


@dataclass(frozen=True, slots=True)
class Body:
    """A JSON object: its text, and what the text says."""

    text: str
    fields: dict[str, Any]


def parse(data: bytes, *, limit: int = BODY_BYTES) -> Body:
    """Return the object in ``data``. Raises Malformed or TooLarge.

    Refused beyond what RFC 8259 refuses: a key given twice, NaN and infinities, numbers beyond a double's range, halves of
    surrogate pairs, more than ``DEPTH`` levels, and anything but an object.
    """
    if len(data) > limit:
        raise TooLarge(len(data), limit)
    text = _text(data)
    if too_deep(text):  # before reading, which would recurse as deep
        raise Malformed(f"is nested more than {DEPTH} levels deep", limit=DEPTH)
    try:
        value: Any = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise Malformed(f"is not JSON: {error.msg[0].lower()}{error.msg[1:]}, line {error.lineno} column {error.colno}") from error
    except ValueError as error:  # of int(): the interpreter's limit on digits
        raise Malformed("has a number with too many digits") from error
    if not isinstance(value, dict):
        raise Malformed(f"must be a JSON object, not {_kind(value)}")
    if _HALF.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise Malformed("has half of a surrogate pair in a string") from error
    return Body(text, value)


def _text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"is not UTF-8: byte {error.start} is {data[error.start]:#04x}") from error
    if not text.strip():
        raise Malformed("is empty; a JSON object is needed")
    return text


_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Malformed(f"has the key {shown(key)} twice in one object")
        found[key] = value
    return found


def _no_constant(name: str) -> None:
    raise Malformed(f"has {name}, which is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Malformed(f"has the number {text[:SHOWN]}, which no double can hold")
    return number


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return "a number"


def members(text: str, start: int = 0) -> Iterator[tuple[str, int, int]]:
    """Yield each member of the object that begins at or behind ``start``: its key, and where its value begins and ends.

    For text that ``parse`` has taken; gives a value's own text back, with its digits and the order of its keys.
    """
    decoder = json.JSONDecoder()
    at = text.index("{", start) + 1
    while True:
        at = _skip(text, at, " \t\r\n,")
        if text[at] == "}":
            return
        key, at = decoder.raw_decode(text, at)
        at = _skip(text, _skip(text, at, " \t\r\n") + 1, " \t\r\n")
        _, end = decoder.raw_decode(text, at)
        yield key, at, end
        at = end


def _skip(text: str, at: int, blanks: str) -> int:
    while text[at] in blanks:
        at += 1
    return at


def check(kind: type[M], fields: dict[str, Any]) -> M:
    """Return the fields as a ``kind``. Raises InvalidField, or UnknownField, for the first that cannot be accepted."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False)[0]) from error


_NEEDS: Final = {
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "list_type": "must be a list",
}


def _refusal(error: ErrorDetails) -> InvalidField:
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    given, facts = error["input"], error.get("ctx", {})
    kind, limit = error["type"], ""
    match kind:
        case "extra_forbidden":
            return UnknownField(field, "is not known here", value=given)
        case "missing":
            return InvalidField(field, "is missing")
        case "value_error":  # of a validator here, which says all itself
            return InvalidField(field, f"{facts['error']}", value=given)
        case "string_too_short":
            problem, limit = "must not be empty", 1
        case "greater_than_equal" | "less_than_equal":
            limit = facts.get("ge", facts.get("le"))
            problem = f"must be at {'least' if 'ge' in facts else 'most'} {limit}, not {shown(given)}"
        case "literal_error":
            limit = facts["expected"]
            problem = f"must be {limit}, not {shown(given)}"
        case _:
            problem = f"{_NEEDS.get(kind, error['msg'])}, not {shown(given)}"
    return InvalidField(field, problem, value=given, limit=limit)


def shown(value: object) -> str:
    """Return a value as a message repeats it: JSON, cut short."""
    if isinstance(value, dict | list):
        return _kind(value)  # pyright: ignore[reportUnknownArgumentType]
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
