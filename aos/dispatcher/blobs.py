"""Blobs over gRPC: the files that are kept for projects, to those who hold the project's token or a link."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.timestamp_pb2 import Timestamp

from aos.clock import Clock
from aos.errors import BlobNotFound
from aos.pictures import media_type
from aos.rpc.auth import own_project
from aos.storage.blobs import Blobs, read_name
from aos.storage.links import Link, owner_of
from aos.v1 import blobs_pb2_grpc
from aos.v1.blobs_pb2 import BlobPart, GetSharedBlobRequest, ReadBlobRequest, ShareBlobRequest, SharedBlob

PART: Final = 786_432
"""Bytes of a file in one message; three go into four of base64, so that parts need not wait for each other."""
HEADERS: Final = (
    # a file is shown as the picture that it is, or not at all, and runs nothing
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; sandbox"),
    ("cross-origin-resource-policy", "cross-origin"),
)


class BlobsServicer(blobs_pb2_grpc.BlobsServicer):
    """Reads files and makes links to them."""

    def __init__(self, blobs: Blobs, clock: Clock) -> None:
        self._blobs, self._clock = blobs, clock

    async def ReadBlob(self, request: ReadBlobRequest, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncGenerator[BlobPart]:
        """Send a file of the caller's project."""
        del context
        data = await self._data(owner_of(own_project()), request.name)
        for start in range(0, len(data), PART):
            yield BlobPart(data=data[start : start + PART])

    async def ShareBlob(self, request: ShareBlobRequest, context: grpc.aio.ServicerContext[Any, Any]) -> SharedBlob:
        """Make a link to a file of the caller's project."""
        del context
        digest, owner, now = read_name(request.name), owner_of(own_project()), self._now
        if not await asyncio.to_thread(self._blobs.has, owner, digest, now=now):
            raise BlobNotFound(request.name)
        link = Link(f"blobs/{digest}", owner, int(now + self._blobs.limits.link_seconds))
        return SharedBlob(path=link.path(self._blobs.secret), expires=Timestamp(seconds=link.expires))

    async def GetSharedBlob(
        self, request: GetSharedBlobRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[HttpBody]:
        """Send a file by its link."""
        link = Link(f"blobs/{read_name(request.name)}", request.owner, request.expires)
        # before anything is looked for: a stranger learns nothing, and the owner is the name of no folder until here
        link.check(request.signature, self._blobs.secret, now=self._now)
        data = await self._data(link.owner, link.name)
        await context.send_initial_metadata((*HEADERS, ("cache-control", f"private, max-age={int(link.expires - self._now)}")))
        kind = media_type(data)
        for start in range(0, len(data), PART):
            yield HttpBody(content_type=kind, data=data[start : start + PART])

    async def _data(self, owner: str, name: str) -> bytes:
        return await asyncio.to_thread(self._blobs.get, owner, read_name(name), now=self._now)

    @property
    def _now(self) -> float:
        return self._clock.now().timestamp()
