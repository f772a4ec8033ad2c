"""The controllers that come with the package: brought in and tagged when a network starts that does not have them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aos.clock import Clock
from aos.controller_names import SENT_BYTES
from aos.dispatcher.controller_rules import SHIPPED, Tag, Usage, shipped_tags
from aos.dispatcher.controllers import Controllers
from aos.errors import AosError

MANIFEST: Final = "manifest.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shipped:
    """A controller of the package."""

    path: Path
    tags: tuple[str, ...]


def read_manifest(folder: Path) -> list[Shipped]:
    """Return the controllers in the folder; none if it is not there.

    Raises OSError, ValueError or KeyError for a manifest that is broken.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return []
    entries: list[dict[str, Any]] = json.loads(path.read_text())
    return [Shipped(folder / str(one["file"]), tuple(map(str, one["tags"]))) for one in entries]


async def install(controllers: Controllers, folder: Path, clock: Clock) -> None:
    """Bring in what the folder has and the network has not. What cannot be brought in is logged, and the others are."""
    try:
        found = await asyncio.to_thread(read_manifest, folder)
    except (OSError, ValueError, KeyError):
        log.exception("no controllers are installed: %s cannot be read", folder / MANIFEST)
        return
    places = asyncio.Semaphore(controllers.settings.checks)

    async def bring(one: Shipped) -> bytes | None:
        async with places:
            try:
                return await _bring(controllers, one)
            except (AosError, OSError):
                log.exception("the controller %s of this package is not installed", one.path.name)
                return None

    digests = await asyncio.gather(*map(bring, found))
    for one, digest in zip(found, digests, strict=True):
        if digest is not None:
            await _tag(controllers, one, digest, clock)


async def _bring(controllers: Controllers, shipped: Shipped) -> bytes:
    """Return the controller's digest, once the network has it."""
    data = await asyncio.to_thread(shipped.path.read_bytes)
    digest = hashlib.sha256(data).digest()
    if not await controllers.known(digest):
        await controllers.create(SHIPPED, _parts(data))
    return digest


async def _tag(controllers: Controllers, shipped: Shipped, digest: bytes, clock: Clock) -> None:
    def decide(existing: Mapping[str, Tag], usage: Usage) -> Sequence[Tag]:
        del usage
        return [Tag(name, digest, clock.now(), SHIPPED) for name in shipped_tags(shipped.tags, digest, existing=existing)]

    await controllers.store.set_tags(shipped.tags, digest, SHIPPED, decide)


async def _parts(data: bytes) -> AsyncGenerator[bytes]:
    for start in range(0, len(data), SENT_BYTES):
        yield data[start : start + SENT_BYTES]
