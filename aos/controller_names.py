"""What controllers are called: SHA-256s, tags, and the names that other AICI servers fetch them by. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from aos.errors import InvalidField

MODULE_BYTES: Final = 128 << 20
"""Most bytes of a module."""
SENT_BYTES: Final = 1 << 20
"""Most bytes of a module in one message on its way in."""
PART_BYTES: Final = 786_432
"""Most bytes of a module in one message on its way out."""
TAG_CHARS: Final = 50
"""Most characters of a tag."""
TAGS_AT_ONCE: Final = 16
"""Most tags that one call sets."""
HEX_CHARS: Final = 20
"""Longest tag that may look like a part of a digest."""
DIGITS: Final = 64
"""Hex digits of a SHA-256."""
PREFIX: Final = "controllers/"
LATEST: Final = "-latest"
"""Ends the tag of a controller that has a name in a public collection."""

_DIGEST: Final = re.compile(f"[0-9a-f]{{{DIGITS}}}")
_TAG: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_LOOKS_HEX: Final = re.compile("[0-9A-Fa-f]+")
_PUBLIC: Final = re.compile(r"gh:microsoft/aici/([A-Za-z][A-Za-z0-9_-]*)(?:/latest)?")


@dataclass(frozen=True, slots=True)
class Reference:
    """How a caller calls a controller: by its digest or by a tag, never both."""

    digest: bytes = b""
    tag: str = ""
    public: bool = False
    """It is the name of a controller that everybody knows: only the network itself may say what that is here."""


def check_tag(tag: str, at: str) -> str:
    """Return the tag. Raises InvalidField, in the words of the AICI runtime, for what cannot be one."""
    if len(tag) > TAG_CHARS:
        raise InvalidField(at, "tag name too long", value=tag, limit=TAG_CHARS)
    if len(tag) > HEX_CHARS and _LOOKS_HEX.fullmatch(tag):
        raise InvalidField(at, "tag name looks too hex", value=tag, limit=HEX_CHARS)
    if not _TAG.fullmatch(tag):
        raise InvalidField(at, "tag name not identifier", value=tag, limit="a letter, then letters, digits, '_', '-' and '.'")
    return tag


def name_of(digest: bytes) -> str:
    """Return `controllers/…`."""
    return f"{PREFIX}{digest.hex()}"


def read_digest(name: str, at: str) -> bytes:
    """Return the digest in `controllers/…` or in 64 hex digits. Raises InvalidField for anything else."""
    digits = name.removeprefix(PREFIX)
    if not _DIGEST.fullmatch(digits):
        raise InvalidField(at, "invalid module_id", value=name, limit=f"{DIGITS} hex digits")
    return bytes.fromhex(digits)


def read_reference(name: str, at: str = "controller") -> Reference:
    """Return what is meant by a digest, a tag, or the name in a public collection. Raises InvalidField for anything else."""
    digits = name.removeprefix(PREFIX)
    if _DIGEST.fullmatch(digits):
        return Reference(digest=bytes.fromhex(digits))
    if public := _PUBLIC.fullmatch(name):
        return Reference(tag=check_tag(f"{public[1]}{LATEST}", at), public=True)
    if len(name) <= TAG_CHARS and _TAG.fullmatch(name):
        return Reference(tag=name)
    raise InvalidField(at, f"must be a 64-char hex string or tag name, got {name[:DIGITS]}", value=name, limit="a digest or a tag")
