"""Vectors as bytes: 32-bit floats, little-endian. A message's numbers are read and written at once, not one by one. Pure."""

from __future__ import annotations

import math
import sys
from array import array
from typing import Final

from aos.v1.types_pb2 import Embedding

_TAG: Final = bytes([Embedding.VALUES_FIELD_NUMBER << 3 | 2])
"""What stands before a packed field: its number, and that its length follows."""


def packed(embedding: Embedding) -> bytes:
    """Return the vector's numbers as bytes."""
    size = 4 * len(embedding.values)
    start = len(_TAG) + len(_varint(size))
    # the field comes first; what else a stranger's message may have comes behind it
    return embedding.SerializeToString()[start : start + size]


def unpacked(data: bytes) -> Embedding:
    """Return the vector with these numbers."""
    return Embedding.FromString(_TAG + _varint(len(data)) + data)


def length(embedding: Embedding) -> float:
    """Return the vector's Euclidean length; NaN or an infinity if one of its numbers is."""
    values = array("f", packed(embedding))
    if sys.byteorder == "big":
        values.byteswap()
    return math.hypot(*values)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:  # noqa: PLR2004  # seven bits a byte
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
