"""RFC 8785 canonical JSON: the one spelling that digests are of. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

import rfc8785

EXACT: Final = 1 << 53
"""Integers below it are the same number in all of JSON's readers."""
PLAIN: Final = 1e-4
"""From here up to EXACT, Python and ECMAScript spell a number alike."""


def canonical(value: Any) -> bytes:
    """Return what ``rfc8785.dumps`` does, and raise what it raises; in a tenth of the time for what orders are made of."""
    if not _plain(value):
        return rfc8785.dumps(value)
    said = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    try:
        return said.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: it says so in its own words
        return rfc8785.dumps(value)


def _plain(value: Any) -> bool:
    """Say whether Python's own encoder spells the value as RFC 8785 does."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return -EXACT < value < EXACT
    if kind is float:
        # 1.0 is spelt 1 there, and what is small or large otherwise than here
        return not value.is_integer() and PLAIN <= abs(value) < EXACT
    if kind is dict:
        # other keys are sorted otherwise: by their UTF-16
        return all(type(key) is str and key.isascii() and _plain(member) for key, member in value.items())
    return kind is list and all(map(_plain, value))
