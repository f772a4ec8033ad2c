"""Picture files as tests make them."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image


def pixels(width: int = 96, height: int = 64, *, seed: int = 0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def file(image, kind: str = "PNG", **options) -> bytes:
    """The image, or the array, as a file of this kind."""
    written = BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(written, kind, **options)
    return written.getvalue()


def moving(kind: str, frames: int = 3) -> bytes:
    """A file with several frames."""
    images = [Image.fromarray(pixels(seed=number)) for number in range(frames)]
    return file(images[0], kind, save_all=True, append_images=images[1:], duration=50)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_says(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose head says that it has so many pixels, and that unpacks to as many."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1 << 16))) + chunk(b"IEND", b"")


def hole(width: int = 96, height: int = 64, *, box=(16, 16, 48, 48)) -> bytes:
    """A mask: opaque, with a transparent box (left, top, right, bottom)."""
    clear = np.full((height, width, 4), 255, np.uint8)
    left, top, right, bottom = box
    clear[top:bottom, left:right, 3] = 0
    return file(clear)
