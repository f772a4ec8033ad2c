"""Pictures' files on their way through the dispatcher: orders and logs have their names, a folder has what they hold."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from aos.clock import Clock
from aos.errors import BadReceipt, BlobNotFound, InvalidField
from aos.picture_order import FILE_BYTES, MASK_BYTES, check_total, files, sides, with_digests, without_files
from aos.pictures import head, picture_of
from aos.storage.blobs import Blobs
from aos.storage.links import owner_of
from aos.v1.operator_pb2 import Chunk
from aos.v1.types_pb2 import Order, Picture

AT: Final = "order.picture"

log = logging.getLogger(__name__)


class Files:
    """Takes files out of messages and puts them in again. Reading, writing and hashing are done beside the event loop."""

    def __init__(self, blobs: Blobs, clock: Clock) -> None:
        self._blobs, self._clock = blobs, clock

    async def sweep_forever(self, seconds: float) -> None:
        """Delete what was kept long enough, as often as that."""
        while True:
            await self._clock.sleep(seconds)
            try:
                await asyncio.to_thread(self._blobs.sweep_all, now=self._clock.now().timestamp())
            except Exception:
                log.exception("could not delete old files, will try again")

    async def take_in(self, order: Order, project: str) -> Order:
        """Return a caller's order, checked before, with its files' names alone: the files are kept.

        Raises InvalidField for a file that is no picture, BlobNotFound for a name of none that the project has.
        """
        return await asyncio.to_thread(self._take_in, order, owner_of(project)) if order.HasField("picture") else order

    def _take_in(self, order: Order, owner: str) -> Order:
        full, now = with_digests(order), self._clock.now().timestamp()
        for name, file in files(full.picture):
            at, most = f"{AT}.{name}", MASK_BYTES if name == "mask" else FILE_BYTES
            data = file.data or self._blobs.get(owner, file.sha256.hex(), now=now)
            found = head(data, f"{at}.data" if file.data else f"{at}.sha256", most=most)
            self._blobs.put(owner, data, now=now)  # what was there already is kept anew
            file.width, file.height, file.size = found.width, found.height, len(data)
        check_total(sum(source.size for source in full.picture.sources), AT)
        return without_files(full)

    async def filled(self, order: Order, project: str) -> Order:
        """Return the order with its files, as far as they are still kept."""
        return await asyncio.to_thread(self._filled, order, owner_of(project)) if order.HasField("picture") else order

    def _filled(self, order: Order, owner: str) -> Order:
        full, now = Order(), self._clock.now().timestamp()
        full.CopyFrom(order)
        for _, file in files(full.picture):
            try:
                file.data = self._blobs.get(owner, file.sha256.hex(), now=now)
            except BlobNotFound:
                continue
        return full

    async def keep(self, chunk: Chunk, order: Order, *, project: str, job: str) -> Chunk:
        """Return an operator's chunk with its pictures' names alone: the files are kept. Raises BadReceipt if they are none."""
        return await asyncio.to_thread(self._keep, chunk, order, owner_of(project), job) if chunk.pictures else chunk

    def _keep(self, chunk: Chunk, order: Order, owner: str, job: str) -> Chunk:
        named = named_pictures(chunk, order, job=job)
        for picture in chunk.pictures:
            self._blobs.put(owner, picture.data, now=self._clock.now().timestamp())
        return named


def named_pictures(chunk: Chunk, order: Order, *, job: str) -> Chunk:
    """Return the chunk with its pictures' names alone, found out from the files. Slow. Raises BadReceipt for others than asked."""
    named: list[Picture] = []
    for picture in chunk.pictures:
        try:
            found = picture_of(picture.data, "pictures", most=FILE_BYTES)
            kind = head(picture.data, "pictures").kind
        except InvalidField as error:
            raise BadReceipt(job, "pictures", error.violations[0].description) from error
        if kind != "PNG" or (found.width, found.height) != sides(order.picture):
            problem = f"a {kind} of {found.width} x {found.height} pixels was not asked for"
            raise BadReceipt(job, "pictures", problem)
        found.ClearField("data")
        named.append(found)
    bare = Chunk()
    bare.CopyFrom(chunk)
    del bare.pictures[:]
    bare.pictures.extend(named)
    return bare
