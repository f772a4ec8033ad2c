"""The controllers of one network: modules come in, are checked and kept, get tags, and are found again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from aos.clock import Clock
from aos.controller_names import MODULE_BYTES, PART_BYTES, SENT_BYTES, name_of, read_reference
from aos.dispatcher.controller_rules import TRUSTED, Holders, KeptTag, Module, Tag, Usage, check_delete, check_room, set_tags
from aos.dispatcher.controller_settings import ControllerSettings
from aos.dispatcher.store import ControllerStore
from aos.errors import ControllerNotFound, Deadline, InvalidField, QueueFull
from aos.storage.modules import Incoming, ModuleFiles
from aos.wasm_modules import Compiled, check_module


class Controllers:
    """Keeps modules in ``files`` and what is known of them in ``store``."""

    def __init__(
        self,
        store: ControllerStore,
        files: ModuleFiles,
        *,
        running: Callable[[bytes], Awaitable[bool]],
        settings: ControllerSettings,
        clock: Clock,
    ) -> None:
        """``running`` says whether a job that has not ended is for a controller."""
        self.store, self._files, self.settings, self._clock = store, files, settings, clock
        self._running, self._changing = running, asyncio.Lock()
        self._coming = Counter[str]()
        self._checks = asyncio.Semaphore(settings.checks)

    async def known(self, digest: bytes) -> bool:
        """Say whether the network has the module."""
        try:
            await self.store.get(digest)
        except ControllerNotFound:
            return False
        return await asyncio.to_thread(self._files.has, digest)

    async def resolve(self, name: str, at: str = "controller") -> bytes:
        """Return the digest of what a caller calls so. Raises ControllerNotFound, or InvalidField for what can be no name."""
        reference = read_reference(name, at)
        if reference.digest:
            return (await self.store.get(reference.digest)).digest
        kept = await self.store.tag(reference.tag)
        # else whoever comes first could set the tag that a well-known name leads to
        if kept is None or (reference.public and kept.tag.updated_by not in TRUSTED):
            raise ControllerNotFound(name)
        return kept.tag.digest

    async def create(self, owner: str, parts: AsyncIterable[bytes]) -> Module:
        """Take in a module that comes in parts, and return it as it came first.

        Raises InvalidField for what is no controller, StorageFull, QueueFull, or Deadline if it does not come.
        """
        with self._place(owner):
            opening = asyncio.create_task(asyncio.to_thread(self._files.receive))
            try:
                incoming = await asyncio.shield(opening)
                try:
                    async with asyncio.timeout(self.settings.upload_seconds):
                        await _receive(incoming, parts)
                except TimeoutError:
                    raise Deadline("module", self.settings.upload_seconds) from None
                return await self._keep(owner, incoming)
            finally:  # its sender may have left while the file was opened
                await asyncio.to_thread((await opening).discard)

    async def tag(self, owner: str, digest: bytes, names: Sequence[str]) -> Sequence[KeptTag]:
        """Let the tags stand for the controller. Raises ControllerNotFound, PermissionDenied or StorageFull."""
        now, settings = self._clock.now(), self.settings

        def decide(existing: Mapping[str, Tag], usage: Usage) -> Sequence[Tag]:
            return set_tags(names, digest, existing=existing, usage=usage, owner=owner, now=now, settings=settings)

        return await self.store.set_tags(names, digest, owner, decide)

    async def delete(self, owner: str, digest: bytes) -> bool:
        """Let a controller go that the owner has sent; say whether it is deleted, as nobody else has.

        Raises ControllerNotFound, PermissionDenied, or ControllerInUse while a tag stands for it or a job runs it.
        """
        async with self._changing:
            running = await self._running(digest)

            def decide(owners: frozenset[str], tag: str) -> bool:
                return check_delete(owner, name_of(digest), Holders(owners, tag, running))

            deleted = await self.store.drop(digest, owner, decide)
            if deleted:
                await asyncio.to_thread(self._files.remove, digest)
            return deleted

    async def read(self, digest: bytes) -> AsyncGenerator[bytes]:
        """Yield a module in parts. Raises ControllerNotFound."""
        module = await self.store.get(digest)
        for start in range(0, module.wasm_size, PART_BYTES):
            try:
                part = await asyncio.to_thread(self._files.part, digest, start, PART_BYTES)
            except FileNotFoundError:
                raise ControllerNotFound(name_of(digest)) from None
            yield part

    async def _keep(self, owner: str, incoming: Incoming) -> Module:
        digest, size = await asyncio.to_thread(incoming.finish), incoming.size
        room = partial(check_room, owner, more=size, settings=self.settings)
        if not await self.store.has(owner, digest):
            room(await self.store.usage(owner))
        found = None if await self.known(digest) else await self._checked(incoming)
        async with self._changing:
            if await self.known(digest):
                module = await self.store.get(digest)
            else:
                found = found or await self._checked(incoming)  # it was deleted meanwhile
                await asyncio.to_thread(incoming.keep)
                module = Module(digest, size, found.compiled_size, found.abi, self._clock.now())
            return await self.store.add(module, owner, room)

    async def _checked(self, incoming: Incoming) -> Compiled:
        async with self._checks:
            # a thread that waits for a process, which the limits of aos/wasm_modules.py end
            return await asyncio.to_thread(check_module, incoming.path)

    @contextmanager
    def _place(self, owner: str) -> Generator[None]:
        if self._coming.total() >= self.settings.uploads:
            raise QueueFull("controllers that come in", self.settings.uploads)
        if self._coming[owner] >= self.settings.project_uploads and owner not in TRUSTED:
            raise QueueFull(f"controllers that come in from {owner}", self.settings.project_uploads)
        self._coming[owner] += 1
        try:
            yield
        finally:
            self._coming[owner] -= 1
            if not self._coming[owner]:
                del self._coming[owner]


async def _receive(incoming: Incoming, parts: AsyncIterable[bytes]) -> None:
    async for part in parts:
        if len(part) > SENT_BYTES:
            raise InvalidField("data", f"has more than {SENT_BYTES} bytes in one message", value=len(part), limit=SENT_BYTES)
        if incoming.size + len(part) > MODULE_BYTES:
            raise InvalidField("data", f"has more than {MODULE_BYTES} bytes", value=incoming.size + len(part), limit=MODULE_BYTES)
        # in a thread: a part takes a millisecond to hash, and longer to write if the disk is busy
        await asyncio.to_thread(incoming.write, part)
