"""A Wasm module, rewritten so that its instances can be copied: its mutable globals and its start function get names. Pure.

A copy of an instance is a new one with the same memory and the same globals. Globals that have no name cannot be read from outside,
and a start function would run again in the copy; so both are exported, and whoever makes an instance calls the start function.
The binary format: WebAssembly Core Specification 2.0, §5. The module must have been validated before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

PREFIX: Final = "aos:"
"""How names begin that are added; a module that has one like it does not compile afterwards."""
START: Final = f"{PREFIX}start"
"""The name of what was the start function."""
GLOBAL: Final = f"{PREFIX}global/"
"""How the names of mutable globals begin; their number follows."""

_IMPORTS, _FUNCTIONS, _TABLES, _MEMORIES, _GLOBALS, _EXPORTS, _START = 2, 3, 4, 5, 6, 7, 8
_ORDER: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 13: 6, 6: 7, 7: 8, 8: 9, 9: 10, 12: 11, 10: 12, 11: 13}
"""Where a section stands; a custom one, 0, anywhere."""
_NUMBERS: Final = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64"}
_HEADER: Final = 8
_PAGE_LIMITS: Final = 0x01


class Unsupported(Exception):
    """The module has what copies of it could not have. The text says what."""


@dataclass(slots=True)
class _Reader:
    data: bytes
    at: int = 0

    def byte(self) -> int:
        """Return the next byte."""
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        """Return the next integer, unsigned LEB128."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:  # noqa: PLR2004  # the last byte has no high bit
                return value

    def skip(self, count: int) -> None:
        """Go past some bytes."""
        self.at += count

    def text(self) -> bytes:
        """Return the next name."""
        size = self.number()
        self.skip(size)
        return self.data[self.at - size : self.at]

    def limits(self) -> None:
        """Go past the limits of a table or a memory."""
        flags = self.number()
        self.number()
        if flags & _PAGE_LIMITS:
            self.number()


def copyable(module: bytes) -> bytes:
    """Return the module, with names for its mutable globals and its start function, which no longer runs by itself.

    Raises Unsupported if a mutable global holds neither an integer nor a float.
    """
    sections = list(_sections(module))
    added = [(f"{GLOBAL}{number}", 0x03, number) for number in _mutable(sections)]
    added += [(START, 0x00, _Reader(body).number()) for kind, body in sections if kind == _START]
    if not added:
        return module
    exports = next((body for kind, body in sections if kind == _EXPORTS), b"\0")
    entries = b"".join(_name(name) + bytes([kind]) + _leb(index) for name, kind, index in added)
    reader = _Reader(exports)
    count = reader.number()
    exports = _leb(count + len(added)) + exports[reader.at :] + entries
    kept = [(kind, body) for kind, body in sections if kind not in (_EXPORTS, _START)]
    place = next((n for n, (kind, _) in enumerate(kept) if _ORDER.get(kind, 0) > _ORDER[_EXPORTS]), len(kept))
    kept.insert(place, (_EXPORTS, exports))
    return module[:_HEADER] + b"".join(bytes([kind]) + _leb(len(body)) + body for kind, body in kept)


def _sections(module: bytes) -> Iterator[tuple[int, bytes]]:
    reader = _Reader(module, _HEADER)
    while reader.at < len(module):
        kind, size = reader.byte(), reader.number()
        reader.skip(size)
        yield kind, module[reader.at - size : reader.at]


def _mutable(sections: list[tuple[int, bytes]]) -> list[int]:
    """Return the numbers of the mutable globals. Imported ones come first in the count, and are not the module's."""
    number = sum(_imported(body) for kind, body in sections if kind == _IMPORTS)
    found: list[int] = []
    for kind, body in sections:
        if kind != _GLOBALS:
            continue
        reader = _Reader(body)
        for _ in range(reader.number()):
            type_, mutable = reader.byte(), reader.byte()
            if mutable and type_ not in _NUMBERS:
                raise Unsupported("a mutable global that is neither an integer nor a float")
            found += [number] if mutable else []
            number += 1
            _skip_constant(reader)
    return found


def _imported(body: bytes) -> int:
    """Return how many globals are imported."""
    reader, count = _Reader(body), 0
    for _ in range(reader.number()):
        reader.text()
        reader.text()
        match reader.byte():
            case 0x00:
                reader.number()
            case 0x01:
                reader.byte()
                reader.limits()
            case 0x02:
                reader.limits()
            case 0x03:
                reader.skip(2)
                count += 1
            case _:
                raise Unsupported("an import of an unknown kind")
    return count


def _skip_constant(reader: _Reader) -> None:
    """Go past a constant expression: what a global is at first."""
    while True:
        match reader.byte():
            case 0x0B:  # end
                return
            case 0x41 | 0x42 | 0x23 | 0xD2 | 0xD0:  # i32, i64, global.get, ref.func, ref.null
                reader.number()
            case 0x43:  # f32
                reader.skip(4)
            case 0x44:  # f64
                reader.skip(8)
            case 0xFD:  # v128
                reader.number()
                reader.skip(16)
            case 0x6A | 0x6B | 0x6C | 0x7C | 0x7D | 0x7E:  # sums of constants
                pass
            case other:
                raise Unsupported(f"a global that begins with instruction 0x{other:02x}")


def _leb(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:  # noqa: PLR2004  # seven bits a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _name(name: str) -> bytes:
    encoded = name.encode()
    return _leb(len(encoded)) + encoded
