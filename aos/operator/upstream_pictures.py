"""A registered HTTP server of pictures, asked in OpenAI's dialect: one request a picture, and what comes back is looked into.

Whatever the server sends, the network gets a PNG of its own writing, of the size that was asked for, and nothing else of the file.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import urljoin

import httpx
import numpy as np

from aos.addresses import Address, Target, check_url
from aos.errors import InvalidField, ModelUnsuitable, QueueFull
from aos.operator.upstream_events import Unreadable, complaint, read_object
from aos.operator.upstream_server import Server, place_of
from aos.operator.upstream_settings import UpstreamSettings
from aos.picture_order import FILE_BYTES, seed_of, sides
from aos.pictures import PICTURE_BYTES, Mask, head, picture_of, read_mask, read_picture, write_png
from aos.v1.types_pb2 import Determinism, Order, Picture

REPLY_BYTES: Final = 28 << 20
"""Largest reply: a picture of PICTURE_BYTES as base64, and what stands around it."""
INLINE: Final = "data:"
"""Begins a URL that is the file itself."""


class PictureServer(Server):
    """One model of one server that makes pictures, or changes them. Used on one event loop."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        model: str,
        target: Target,
        addresses: Sequence[Address],
        settings: UpstreamSettings,
        *,
        edits: bool,
    ) -> None:
        """``edits`` is whether it changes pictures, rather than makes them. Made by ``open_pictures``."""
        super().__init__(client, model, target, addresses, settings)
        self.edits = edits

    @property
    def capabilities(self) -> list[str]:
        """What it can do, in the words of the registry."""
        return ["image-edits" if self.edits else "images"]

    async def try_out(self) -> None:
        """Return: a picture is too dear to be made every minute. What the server is worth, its answers and its check say."""

    async def draw(self, order: Order, index: int, *, due: float | None = None, seconds: float | None = None) -> Picture:
        """Return the order's picture that so many come before. Being cancelled closes the connection.

        ``due`` is when it has to be there, by the loop's clock, ``seconds`` how long that was from the beginning.

        Raises ModelUnsuitable for what the server cannot be asked, or gives in another size than asked for, InvalidField for
        what it refuses, in its own words, QueueFull if it is busy, Deadline when it is due, and Fault.
        """
        check_order(order)
        path = self._paths.edits if self.edits else self._paths.pictures
        body, kind = await asyncio.to_thread(_form if self.edits else _json, order, index)
        if self.running >= self._settings.slots:
            raise QueueFull(f"model server of {self.model}", self._settings.slots)
        self.running += 1
        try:
            # what is wrong with what came is the server's fault, as long as it is said in this block
            async with self._asked("POST", path, body, self._settings.picture_seconds, due, seconds, kind=kind) as reply:
                data = await self._read(reply, REPLY_BYTES, due, seconds)
                if reply.status_code != HTTPStatus.OK:
                    raise self._refusal(reply.status_code, data)
                file = await asyncio.to_thread(_given, data)
                if isinstance(file, str):
                    file = await self._fetched(file, due, seconds)
                return await asyncio.to_thread(_rewritten, file, order)
        finally:
            self.running -= 1

    async def _fetched(self, url: str, due: float | None, seconds: float | None) -> bytes:
        async with self._asked("GET", self._own(url), b"", self._settings.first_seconds, due, seconds) as reply:
            if reply.status_code != HTTPStatus.OK:
                raise Unreadable(f"for the picture that it names it answers {reply.status_code}")
            return await self._read(reply, PICTURE_BYTES, due, seconds)

    def _own(self, url: str) -> str:
        """Return the path of a picture at the server's own address. Raises Unreadable for one that is anywhere else."""
        mine = self.target
        try:
            found = check_url(urljoin(f"{mine.scheme}://{mine.authority}/", url), "url", self._settings.networks)
        except (InvalidField, ValueError):
            raise Unreadable("it names a picture by a URL that is not called") from None
        names = {mine.host, str(self.address), *(["localhost"] if self.address.is_loopback else [])}
        if (found.scheme, found.port) != (mine.scheme, mine.port) or found.host not in names:
            raise Unreadable("it names a picture that is not at its own address")
        return found.path

    async def _read(self, reply: httpx.Response, most: int, due: float | None, seconds: float | None) -> bytes:
        """Return the reply's body. Raises Unreadable if it is too large, TookTooLong if it pauses, or takes too long over all."""
        loop, settings, body, parts = asyncio.get_running_loop(), self._settings, bytearray(), aiter(reply.aiter_raw())
        end = loop.time() + settings.picture_seconds
        while part := await self._within(max(0.0, min(settings.idle_seconds, end - loop.time())), anext(parts, b""), due, seconds):
            body += part
            if len(body) > most:
                raise Unreadable(f"its reply has more than {most} bytes")
        return bytes(body)


def check_order(order: Order) -> None:
    """Raise ModelUnsuitable for an order that no server of pictures can be asked."""
    if not order.HasField("picture"):
        raise ModelUnsuitable(order.model, "text: it makes pictures")
    if order.determinism == Determinism.DETERMINISM_EXACT:
        raise ModelUnsuitable(order.model, "weights that give the same bits whatever the load")


def fields(order: Order, index: int) -> dict[str, Any]:
    """Return what a server is asked for the order's picture that so many come before."""
    width, height = sides(order.picture)
    return {
        "model": order.model,
        "prompt": order.picture.prompt,
        "n": 1,
        "size": f"{width}x{height}",
        "response_format": "b64_json",
        # not OpenAI's, but understood by those servers that have them at all, under these names
        "width": width,
        "height": height,
        "seed": seed_of(order, index),
    }


def _json(order: Order, index: int) -> tuple[bytes, str]:
    return json.dumps(fields(order, index), ensure_ascii=False).encode(), "application/json"


def _form(order: Order, index: int) -> tuple[bytes, str]:
    """Return a form's body and its content type. Raises InvalidField for files that cannot be read. Slow."""
    picture, size = order.picture, sides(order.picture)
    name = "image" if len(picture.sources) == 1 else "image[]"  # as OpenAI's client does
    files = [
        (name, (f"image{index or ''}.png", _source(one, index, None if index else size), "image/png"))
        for index, one in enumerate(picture.sources)
    ]
    if picture.HasField("mask"):
        shown = read_mask(_file(picture.mask, "mask"), "order.picture.mask", size=size)
        files.append(("mask", ("mask.png", write_png(_cut_out(shown)), "image/png")))
    said = {name: str(value) for name, value in fields(order, index).items()}
    written = httpx.Request("POST", "http://form/", data=said, files=files)
    return written.read(), written.headers["content-type"]


def _source(source: Picture, index: int, size: tuple[int, int] | None) -> bytes:
    """Return a source as a file: the first in the new picture's size, which a mask is of; the others in their own."""
    name = f"sources[{index}]"
    return write_png(read_picture(_file(source, name), f"order.picture.{name}", size=size))


def _cut_out(shown: Mask) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the mask as OpenAI's servers read it: transparent where it is to be painted; and white there, as others do."""
    pixels = np.zeros((*shown.shape, 4), np.uint8)
    pixels[shown, :3] = 255
    pixels[~shown, 3] = 255
    return pixels


def _file(picture: Picture, name: str) -> bytes:
    if not picture.data:
        raise InvalidField(f"order.picture.{name}", "the file is not kept any more", value=picture.sha256.hex())
    return picture.data


def _given(data: bytes) -> bytes | str:
    """Return the file in a reply, or its URL. Raises Unreadable. Slow."""
    said = read_object(data)
    if (problem := complaint(said)) is not None:
        raise Unreadable(f"it gives no picture: {problem}")
    given = said.get("data")
    pictures = cast("list[object]", given) if isinstance(given, list) else []
    if len(pictures) != 1 or not isinstance(pictures[0], dict):
        raise Unreadable("its reply has no list of the one picture that was asked for")
    one = cast("dict[str, object]", pictures[0])
    text, url = one.get("b64_json"), one.get("url")
    if isinstance(url, str) and url.startswith(INLINE) and not text:
        text = url.partition(",")[2]
    if isinstance(text, str) and text:
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise Unreadable("its picture is not base64") from None
    if isinstance(url, str) and url:
        return url
    raise Unreadable("its picture has neither b64_json nor url")


def _rewritten(data: bytes, order: Order) -> Picture:
    """Return the picture as the network has pictures. Raises Unreadable, and ModelUnsuitable for one of another size. Slow."""
    size = sides(order.picture)
    try:
        found = head(data, "picture")
        if {found.width, found.height} != set(size):  # not decoded for nothing; it may lie on its side
            raise _other(order, found.width, found.height)
        pixels = read_picture(data, "picture")
        height, width, _ = pixels.shape
        if (width, height) != size:
            raise _other(order, width, height)
        return picture_of(write_png(pixels), "picture", most=FILE_BYTES)
    except InvalidField as error:
        raise Unreadable(f"its picture {error.violations[0].description}") from error


def _other(order: Order, width: int, height: int) -> ModelUnsuitable:
    """Return what the caller hears: that the size is not the server's is no fault of it."""
    asked = sides(order.picture)
    return ModelUnsuitable(order.model, f"pictures of {asked[0]} x {asked[1]} pixels: its server gives {width} x {height}")


async def open_pictures(
    client: httpx.AsyncClient, model: str, api: str, settings: UpstreamSettings, *, edits: bool, address: str = ""
) -> PictureServer:
    """Return the server of pictures at the URL ``api``, as ``upstream.open_upstream`` does; ``edits``: one that changes them."""
    target, addresses = await place_of(api, settings, address=address)
    return PictureServer(client, model, target, addresses, settings, edits=edits)
