"""CBOR from strangers: plain items only, because tags make a decoder compute and references make small items huge. Pure."""

from __future__ import annotations

from typing import Final

import cbor2

DEPTH: Final = 8
"""Most levels of items, the one itself among them; attestation documents have three."""

_STRINGS: Final = {2, 3}
_ARRAY: Final = 4
_MAP: Final = 5
_TAG: Final = 6
_SIMPLE: Final = 7
_PLAIN_SIMPLE: Final = {20, 21, 22}
"""False, true, null."""
_SHORT: Final = 24
"""Lengths below stand in the head itself."""
_LONGEST: Final = 27
_INDEFINITE: Final = 31
_BREAK: Final = 0xFF
_OPEN: Final = -1
"""Items that are left in a container that says itself when it ends."""


def decode(data: bytes) -> object:
    """Return the one item that the data is. Raises ValueError for tags, floats, depth, trailing bytes, and what is no CBOR."""
    if not _plain(data):
        raise ValueError("no plain CBOR item")
    try:
        return cbor2.loads(data)
    except Exception as error:  # bad UTF-8, a map's odd number of parts, keys that cannot be keys
        raise ValueError("no CBOR") from error


def _plain(data: bytes) -> bool:
    """Walk the heads of the items (RFC 8949, appendix C); nothing is built."""
    at, left = 0, [1]
    while left:
        if left[-1] == 0:
            left.pop()
        elif at < len(data) and data[at] == _BREAK and left[-1] == _OPEN:
            left.pop()
            at += 1
        else:
            major, info, count, at = _head(data, at)
            if len(left) > DEPTH or not _allowed(major, info):
                return False
            left[-1] -= left[-1] > 0
            if major in _STRINGS:
                at += count
            elif major in {_ARRAY, _MAP}:
                left.append(_OPEN if info == _INDEFINITE else count * (major - _ARRAY + 1))
    return at == len(data)


def _head(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Return an item's major type, its additional information, the number that it states, and where its head ends.

    Where nothing is left, that is a break: it is allowed nowhere but at the end of what it can end.
    """
    first = data[at] if at < len(data) else _BREAK
    major, info = first >> 5, first & 31
    size = 1 << info - _SHORT if _SHORT <= info <= _LONGEST else 0
    count = info if info < _SHORT else int.from_bytes(data[at + 1 : at + 1 + size])
    return major, info, count, at + 1 + size


def _allowed(major: int, info: int) -> bool:
    if major == _TAG:
        return False
    if major == _SIMPLE:
        return info in _PLAIN_SIMPLE
    return info <= _LONGEST or (info == _INDEFINITE and major in {_ARRAY, _MAP})
