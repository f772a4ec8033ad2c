"""Strangers' picture files: what they are by their contents, what they may be, and their pixels. The only place that decodes them.

A file is looked at in this order: its bytes are counted, its kind is told by its first bytes, its head is read for its size and its
frames, and only then it is decoded. What comes out is pixels: whatever else a file holds (another format behind the picture, text,
places, programs) ends here. Everything here computes for long: it is for a thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin, __version__

from aos.errors import InvalidField
from aos.v1.types_pb2 import Picture

PICTURE_BYTES: Final = 20_000_000
"""Largest file."""
PICTURE_SIDE: Final = 4096
"""Most pixels of a side."""
TEXT_BYTES: Final = 1 << 20
"""Most bytes of text that a PNG may unpack to."""
OPAQUE: Final = 255
WHITE: Final = 128
"""From this grey on, a mask is white."""
ENCODER: Final = f"png=pillow-{__version__}"
"""What writes PNG files here: another one may write the same pixels as other bytes."""

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = TEXT_BYTES


@dataclass(frozen=True, slots=True)
class Head:
    """What a file says of itself."""

    kind: str
    """`PNG`, `JPEG` or `WEBP`."""
    width: int
    height: int

    @property
    def media_type(self) -> str:
        """Its content type."""
        return f"image/{self.kind.lower()}"


def kind_of(data: bytes) -> str:
    """Return `PNG`, `JPEG` or `WEBP`, by the file's first bytes; empty for all else."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    return "WEBP" if data.startswith(b"RIFF") and data[8:12] == b"WEBP" else ""


def media_type(data: bytes) -> str:
    """Return the file's content type; for what is no picture, that of any bytes."""
    kind = kind_of(data)
    return f"image/{kind.lower()}" if kind else "application/octet-stream"


def head(data: bytes, at: str, *, most: int = PICTURE_BYTES) -> Head:
    """Return what the file says of itself, not decoded. Raises InvalidField, as the field ``at``, for a file that is not taken."""
    with _opened(data, at, most) as image:
        return Head(str(image.format), image.width, image.height)


def read_picture(data: bytes, at: str, *, size: tuple[int, int] | None = None) -> Pixels:
    """Return the picture upright, as rows of red, green and blue, on white where it is transparent; scaled to ``size`` if given.

    ``size`` is width and height. Raises InvalidField, as the field ``at``, for a file that is not taken.
    """
    with _opened(data, at, PICTURE_BYTES) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.has_transparency_data:
            clear = upright.convert("RGBA")
            upright = Image.new("RGBA", clear.size, "white")
            upright.alpha_composite(clear)
        plain = upright.convert("RGB")
        if size is not None and plain.size != size:
            plain = plain.resize(size, Image.Resampling.LANCZOS)
        return np.asarray(plain)


def read_mask(data: bytes, at: str, *, size: tuple[int, int]) -> Mask:
    """Return where the file is transparent or, if it is nowhere, where it is white; scaled to ``size``, width and height.

    Raises InvalidField, as the field ``at``, for a file that is not taken or says nothing.
    """
    with _opened(data, at, PICTURE_BYTES) as image:
        upright = ImageOps.exif_transpose(image)
        shown = _transparent(upright)
        if not shown.any():
            shown = np.asarray(upright.convert("L")) >= WHITE
        if not shown.any():
            raise InvalidField(at, "shows nowhere what to paint: it is neither transparent nor white")
        return _scaled(shown, size)


def read_transparency(data: bytes, at: str, *, size: tuple[int, int]) -> Mask | None:
    """Return where the file is transparent, scaled to ``size``; None if it is nowhere. Raises InvalidField as ``read_mask``."""
    with _opened(data, at, PICTURE_BYTES) as image:
        shown = _transparent(ImageOps.exif_transpose(image))
        return _scaled(shown, size) if shown.any() else None


def _transparent(image: Image.Image) -> Mask:
    if not image.has_transparency_data:
        return np.zeros((image.height, image.width), np.bool_)
    return np.asarray(image.convert("RGBA"))[..., 3] < OPAQUE


def _scaled(shown: Mask, size: tuple[int, int]) -> Mask:
    drawn = Image.fromarray(shown)
    return np.asarray(drawn if drawn.size == size else drawn.resize(size, Image.Resampling.NEAREST))


def write_png(pixels: Pixels | Mask) -> bytes:
    """Return the picture, or the mask, white where it is set, as a PNG. The same pixels give the same bytes with one ENCODER."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def picture_of(data: bytes, at: str, *, most: int) -> Picture:
    """Return the file with its name and what it says of itself. Raises InvalidField for a file that is not taken."""
    found = head(data, at, most=most)
    return Picture(sha256=hashlib.sha256(data).digest(), data=data, width=found.width, height=found.height, size=len(data))


@contextmanager
def _opened(data: bytes, at: str, most: int) -> Generator[Image.Image]:
    if len(data) > most:
        raise InvalidField(at, f"has {len(data)} bytes; at most {most} are accepted", value=len(data), limit=most)
    kind = kind_of(data)
    if not kind:
        raise InvalidField(at, "must be a PNG, JPEG or WebP file, by what it holds", value=data[:16].hex(), limit="PNG, JPEG, WebP")
    try:
        with Image.open(BytesIO(data), formats=[kind]) as image:
            _check_head(image, at)
            yield image
    except InvalidField:
        raise
    # what Pillow raises for broken files is not one family: OSError, SyntaxError, ValueError, struct.error, its own bombs
    except Exception as error:
        raise InvalidField(at, f"cannot be read: {str(error) or type(error).__name__}", limit="PNG, JPEG, WebP") from error


def _check_head(image: Image.Image, at: str) -> None:
    if max(image.size) > PICTURE_SIDE:
        problem = f"has {image.width} x {image.height} pixels; at most {PICTURE_SIDE} x {PICTURE_SIDE} are accepted"
        raise InvalidField(at, problem, value=max(image.size), limit=PICTURE_SIDE)
    if (frames := getattr(image, "n_frames", 1)) != 1:
        raise InvalidField(at, f"has {frames} frames; only pictures that stand still are taken", value=frames, limit=1)
