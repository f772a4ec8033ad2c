"""Pictures that callers give, however they give them: as a file, a data URL, a URL, or the name of a file that is kept here.

Whatever comes is decoded within limits and written anew, so that nothing but its pixels goes on.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from aos.client import CALL_SECONDS, told
from aos.errors import SHOWN, InvalidField, QueueFull
from aos.fetch import Fetcher, Unreachable
from aos.picture_order import DEFAULT_SIDE, FILE_BYTES, LEAST_SIDE, MASK_BYTES, MOST_SIDE, PIXELS
from aos.pictures import PICTURE_BYTES, head, read_mask, read_picture, read_transparency, write_png
from aos.v1 import blobs_pb2_grpc
from aos.v1.blobs_pb2 import ReadBlobRequest
from gateway.body import DownloadFailed, shown
from gateway.http import Metadata

FETCH_SECONDS: Final = 20.0
"""How long getting a picture from its URL may take, redirects included."""
ALL_SECONDS: Final = 60.0
"""How long getting and reading all sources of a request may take."""
DECODE_SECONDS: Final = 20.0
"""How long reading a picture may take, waiting for others included."""
DECODING: Final = 2
"""Pictures that are read at once."""
WAITING: Final = 32
"""Most pictures that are read or wait for it."""
PIECE: Final = 1 << 16
"""Characters of base64 that are decoded at once: whole groups of four."""
OK: Final = 200

T = TypeVar("T")
_BLOB: Final = re.compile(r"(?:/v1/)?(?:blobs/)?([0-9a-f]{64})")
_DATA: Final = re.compile(r"data:[a-zA-Z0-9.+/-]*(?:;[a-zA-Z0-9.+/=-]+)*;base64,", re.ASCII)


class PictureFiles:
    """Gets pictures and writes them anew."""

    def __init__(self, blobs: blobs_pb2_grpc.BlobsAsyncStub, fetcher: Fetcher) -> None:
        """``fetcher`` calls URLs that strangers gave."""
        self._blobs, self._fetcher = blobs, fetcher
        self._threads = ThreadPoolExecutor(DECODING, "aos-decoding")
        self.inside = 0
        """Pictures that are read or wait for it."""

    async def source(
        self, data: bytes, size: tuple[int, int] | None, *, auto: bool, masked: bool
    ) -> tuple[bytes, bytes, tuple[int, int]]:
        """Return the picture to be changed as a PNG of the new one's size, where it is transparent as a mask, and that size.

        ``size`` is width and height; without one, ``auto`` takes the picture's own, as far as there are pictures of that size. The
        mask is empty if ``masked`` (there is another), or if nothing is transparent.
        """

        def read() -> tuple[bytes, bytes, tuple[int, int]]:
            there = size
            if there is None:
                found = head(data, "image")
                there = fitting(found.width, found.height) if auto else (DEFAULT_SIDE, DEFAULT_SIDE)
            file = write_png(read_picture(data, "image", size=there))
            clear = None if masked else read_transparency(data, "image", size=there)
            return _checked(file, "image", FILE_BYTES), b"" if clear is None else write_png(clear), there

        return await self._decoded(read, "image")

    async def reference(self, data: bytes, at: str) -> bytes:
        """Return a picture that a new one is made from, too, as a PNG of its own size, or one like it."""

        def read() -> bytes:
            pixels = read_picture(data, at)  # upright: its head may say otherwise
            height, width, _ = pixels.shape
            if (size := fitting(width, height)) != (width, height):
                pixels = read_picture(data, at, size=size)
            return _checked(write_png(pixels), at, FILE_BYTES)

        return await self._decoded(read, at)

    @asynccontextmanager
    async def together(self, at: str) -> AsyncGenerator[None]:
        """Give the block a time in which all its pictures have to be there. Raises DownloadFailed."""
        try:
            async with asyncio.timeout(ALL_SECONDS):
                yield
        except TimeoutError:
            raise DownloadFailed(at, f"was not there within {ALL_SECONDS:g} s, all of it", value=at, limit=ALL_SECONDS) from None

    async def mask(self, data: bytes, size: tuple[int, int]) -> bytes:
        """Return the mask as a PNG of the new picture's size, white where it is to be painted."""
        return await self._decoded(lambda: _checked(write_png(read_mask(data, "mask", size=size)), "mask", MASK_BYTES), "mask")

    async def get(self, given: str | bytes, at: str, *, origin: str, metadata: Metadata) -> bytes:
        """Return the file that is given; ``origin`` is this network's own, as the caller knows it.

        Raises InvalidField for what is none, or may not be called, and DownloadFailed for a URL that gave none.
        """
        if isinstance(given, bytes):
            return given
        if given.startswith("data:"):
            return await asyncio.to_thread(_data_url, given, at)
        if digest := _kept_here(given, origin):
            return await self._read(digest, metadata)
        if "://" not in given[:16]:
            raise InvalidField(
                at, f"must be a URL, a data URL, or the name of a file here, not {shown(given[:SHOWN])}", value=given
            )
        try:
            reply = await self._fetcher.get(given, {"accept": "image/*"}, seconds=FETCH_SECONDS, most=PICTURE_BYTES)
        except InvalidField as error:
            raise InvalidField(at, error.violations[0].description, value=given, limit=error.facts["limit"]) from error
        except Unreachable as error:
            raise DownloadFailed(at, f"cannot be got: {error}", value=given) from error
        if reply.status != OK:
            raise DownloadFailed(at, f"cannot be got: its server replied with status {reply.status}", value=given, limit=OK)
        return reply.body

    async def _read(self, digest: str, metadata: Metadata) -> bytes:
        data = bytearray()
        with told():
            async for part in self._blobs.ReadBlob(
                ReadBlobRequest(name=f"blobs/{digest}"), metadata=metadata, timeout=CALL_SECONDS
            ):
                data += part.data
        return bytes(data)

    async def _decoded(self, read: Callable[[], T], at: str) -> T:
        if self.inside >= WAITING:
            raise QueueFull("pictures to be read", WAITING)
        self.inside += 1
        working = asyncio.get_running_loop().run_in_executor(self._threads, read)
        working.add_done_callback(self._left)
        try:
            # one that has begun ends by itself, its size being bounded; nobody waits for it
            async with asyncio.timeout(DECODE_SECONDS):
                return await working
        except TimeoutError:
            raise InvalidField(at, f"was not read within {DECODE_SECONDS:g} s", limit=DECODE_SECONDS) from None

    def _left(self, working: asyncio.Future[Any]) -> None:
        self.inside -= 1
        if not working.cancelled():
            working.exception()  # nobody may be there to hear it

    async def aclose(self) -> None:
        """End the threads."""
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)


def fitting(width: int, height: int) -> tuple[int, int]:
    """Return the size nearest to this one, in its shape as far as that goes, of which there are pictures."""
    scale = min(1.0, MOST_SIDE / max(width, height), (PIXELS / (width * height)) ** 0.5)
    scale = (
        max(scale, LEAST_SIDE / min(width, height)) if max(width, height) * LEAST_SIDE / min(width, height) <= MOST_SIDE else scale
    )
    return _side(width * scale), _side(height * scale)


def _side(length: float) -> int:
    return min(MOST_SIDE, max(LEAST_SIDE, int(length)))


def _checked(file: bytes, at: str, most: int) -> bytes:
    if len(file) > most:
        raise InvalidField(
            at, f"has {len(file)} bytes as a PNG of that size; at most {most} are accepted", value=len(file), limit=most
        )
    return file


def _kept_here(given: str, origin: str) -> str:
    """Return the digest of a file that is kept here, if it is one that is given; else nothing."""
    if "://" in given[:16]:
        if not origin or not given.startswith(f"{origin}/v1/blobs/"):
            return ""
        given = urlsplit(given).path
    form = _BLOB.fullmatch(given)
    return form[1] if form else ""


def _data_url(given: str, at: str) -> bytes:
    form = _DATA.match(given)
    if form is None:
        raise InvalidField(at, "must be a data URL in base64, like data:image/png;base64,…", value=given)
    if "=" in given[form.end() : -2]:
        raise InvalidField(at, "is no data URL in base64: there is something behind its end", value=given)
    try:
        # in pieces: each keeps Python's lock while it is decoded
        pieces = (given[start : start + PIECE] for start in range(form.end(), len(given), PIECE))
        return b"".join(base64.b64decode(piece, validate=True) for piece in pieces)
    except (binascii.Error, ValueError) as error:
        raise InvalidField(at, f"is no data URL in base64: {error}", value=given) from error
