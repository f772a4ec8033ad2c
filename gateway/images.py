"""The AI model interface's and OpenAI's REST dialect: pictures; docs/reference/rest-images.md has the fields."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import grpc
from google.api.httpbody_pb2 import HttpBody

from aos.client import CALL_SECONDS, told
from aos.clock import Clock
from aos.fetch import Fetcher
from aos.rpc.status import answered
from aos.v1 import blobs_pb2_grpc, dispatcher_pb2_grpc
from aos.v1.blobs_pb2 import ReadBlobRequest, ShareBlobRequest
from aos.v1.dispatcher_pb2 import Job, Outcome
from aos.v1.types_pb2 import Order
from gateway.awaited import finished
from gateway.body import EDIT_BYTES, TooLarge, check, parse
from gateway.chat import without_nulls
from gateway.http import ORIGIN, Context, Metadata, header, known, passed_on, read, send
from gateway.image_requests import AUTO, EditRequest, ImageRequest, around, entry, form_fields, order_of, size_of
from gateway.model_errors import failure
from gateway.multipart import FORM, read_form
from gateway.picture_files import PictureFiles
from gateway.v1 import images_pb2_grpc

JSON: Final = "application/json"


class ImagesServicer(images_pb2_grpc.ImagesServicer):
    """Calls the Dispatcher and Blobs through ``face`` with the caller's own token, never one of its own."""

    def __init__(self, face: grpc.aio.Channel, clock: Clock, fetcher: Fetcher) -> None:
        """``fetcher`` gets the pictures whose URLs callers give."""
        self._dispatcher = dispatcher_pb2_grpc.DispatcherStub(face)
        self._blobs = blobs_pb2_grpc.BlobsStub(face)
        self._clock = clock
        self.files = PictureFiles(self._blobs, fetcher)

    async def CreateImages(self, request: HttpBody, context: Context) -> AsyncGenerator[HttpBody]:
        try:
            asked = check(ImageRequest, without_nulls((await read(request)).fields))
            order = order_of(asked, size_of(asked))
            parts = self._answer(asked, order, context)
        except Exception as error:
            yield await send(context, failure(known(error), text="prompt"))
            return
        async with aclosing(parts):
            async for part in parts:
                yield part

    async def EditImages(self, request_iterator: AsyncIterator[HttpBody], context: Context) -> AsyncGenerator[HttpBody]:
        try:
            data, content_type = await _gathered(request_iterator)
            asked = check(EditRequest, without_nulls(await asyncio.to_thread(_fields, data, content_type)))
            parts = self._answer(asked, await self._edit(asked, context), context)
        except Exception as error:
            yield await send(context, failure(known(error), text="prompt"))
            return
        async with aclosing(parts):
            async for part in parts:
                yield part

    async def _edit(self, asked: EditRequest, context: Context) -> Order:
        """Return the order, with the files that the caller named."""
        size, origin, metadata = size_of(asked), header(context, ORIGIN), passed_on(context)
        first, *others = asked.image
        async with self.files.together("image"):
            data = await self.files.get(first, "image", origin=origin, metadata=metadata)
            masked = asked.mask is not None
            source, mask, size = await self.files.source(data, size, auto=asked.size == AUTO, masked=masked)
            sources = [source]
            for index, other in enumerate(others, start=1):  # one by one: each may be large
                at = f"image[{index}]"
                sources.append(await self.files.reference(await self.files.get(other, at, origin=origin, metadata=metadata), at))
        if asked.mask is not None:
            mask = await self.files.mask(await self.files.get(asked.mask, "mask", origin=origin, metadata=metadata), size)
        return order_of(asked, size, sources, mask)

    async def _answer(self, asked: ImageRequest, order: Order, context: Context) -> AsyncGenerator[HttpBody]:
        """Yield the reply: once the pictures are there, in parts of a bounded size."""
        try:
            metadata = passed_on(context)
            job, outcome = await finished(self._dispatcher, order, user=asked.user, metadata=metadata, clock=self._clock)
            # also for who wants none: a file that is gone is found out while there is still a status to say so
            links = await self._urls(outcome, header(context, ORIGIN), metadata)
            urls = links if asked.response_format == "url" else None
        except Exception as error:
            yield await send(context, failure(known(error), text="prompt"))
            return
        async with aclosing(self._written(job, outcome, urls, metadata)) as parts:
            async for part in parts:
                yield HttpBody(content_type=JSON, data=part)

    async def _urls(self, outcome: Outcome, origin: str, metadata: Metadata) -> list[str]:
        urls: list[str] = []
        for one in outcome.pictures:
            wanted = ShareBlobRequest(name=f"blobs/{one.sha256.hex()}")
            shared = await answered(self._blobs.ShareBlob(wanted, metadata=metadata, timeout=CALL_SECONDS))
            urls.append(f"{origin}{shared.path}")
        return urls

    async def _written(self, job: Job, outcome: Outcome, urls: list[str] | None, metadata: Metadata) -> AsyncGenerator[bytes]:
        opening, closing = around(job, outcome)
        for index, one in enumerate(outcome.pictures):
            head, tail = entry(urls[index] if urls is not None else "")
            yield f"{opening if not index else ','}{head}".encode()
            if urls is None:
                wanted = ReadBlobRequest(name=f"blobs/{one.sha256.hex()}")
                with told():
                    # each part but the last has a multiple of three bytes: their base64, joined, is the file's
                    async for part in self._blobs.ReadBlob(wanted, metadata=metadata, timeout=CALL_SECONDS):
                        yield base64.b64encode(part.data)
            yield tail.encode()
        yield closing.encode()


async def _gathered(request: AsyncIterator[HttpBody]) -> tuple[bytes, str]:
    """Return the whole body, and its content type."""
    data, content_type, size = bytearray(), "", 0
    async for part in request:
        content_type, size = content_type or part.content_type, size + len(part.data)
        if size <= EDIT_BYTES:
            data += part.data
    if size > EDIT_BYTES:
        raise TooLarge(size, EDIT_BYTES)
    return bytes(data), content_type


def _fields(data: bytes, content_type: str) -> dict[str, Any]:
    if content_type.partition(";")[0].strip().lower() == FORM:
        return form_fields(read_form(data, content_type))
    return parse(data, limit=EDIT_BYTES).fields
