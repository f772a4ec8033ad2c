"""Reading `multipart/form-data`: the only file that imports python_multipart. Slow for large bodies: not on an event loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gateway.body import Malformed

FORM: Final = "multipart/form-data"
PARTS: Final = 64
"""Most parts of a body."""
PIECE: Final = 1 << 16
"""Bytes that are read at once."""


@dataclass(slots=True)
class Part:
    """One field of a form."""

    name: str
    file: bool
    """Whether it came as a file."""
    data: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        """Its data as text. Raises Malformed if it is not UTF-8."""
        try:
            return self.data.decode()
        except UnicodeDecodeError:
            raise Malformed(f"has a field {self.name!r} that is not UTF-8") from None


def read_form(data: bytes, content_type: str) -> list[Part]:
    """Return the fields of the form, in order. Raises Malformed for what is none, or is cut short."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != FORM.encode() or not boundary:
        raise Malformed(f"must be {FORM} with a boundary")
    reading = _Reading()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": reading.begin,
                "on_header_field": reading.header_field,
                "on_header_value": reading.header_value,
                "on_header_end": reading.header_end,
                "on_headers_finished": reading.headers_finished,
                "on_part_data": reading.part_data,
                "on_end": reading.end,
            },
        )
        for start in range(0, len(data), PIECE):  # in pieces: each keeps Python's lock while it is read
            parser.write(data[start : start + PIECE])
        parser.finalize()
    except FormParserError as error:
        raise Malformed(f"is no {FORM}: {error}") from error
    if not reading.ended:
        raise Malformed(f"is no whole {FORM}: its last boundary is missing")
    return reading.parts


class _Reading:
    """What the parser calls."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = b"", b""

    def begin(self) -> None:
        if len(self.parts) >= PARTS:
            raise Malformed(f"has more than {PARTS} fields", limit=PARTS)
        self._headers = {}

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise Malformed("has a field without a name")
        self.parts.append(Part(options[b"name"].decode(errors="replace"), b"filename" in options))

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].data += data[start:end]

    def end(self) -> None:
        self.ended = True
