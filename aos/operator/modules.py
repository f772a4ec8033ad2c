"""Controllers' modules, as an operator gets them: from its dispatcher once, then from a folder, by their SHA-256."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import grpc

from aos.controller_names import MODULE_BYTES, name_of
from aos.errors import ControllerNotFound, ServiceUnavailable
from aos.rpc.status import from_rpc_error
from aos.v1.controllers_pb2 import ReadControllerRequest
from aos.v1.controllers_pb2_grpc import ControllersStub

FOLDER_BYTES: Final = 1 << 30
"""Most bytes of modules that are kept; those that were used longest ago go first."""
READ_SECONDS: Final = 60.0
"""How long getting a module may take."""
ENDING: Final = ".wasm"

log = logging.getLogger(__name__)


class Modules:
    """Gives modules by their digests. One operator has one; nobody else writes to its folder."""

    def __init__(self, dispatcher: grpc.aio.Channel, folder: Path, *, token: Callable[[], str], most: int = FOLDER_BYTES) -> None:
        """``token`` gives what lets the operator read, as of now. The folder is made once it is needed; ``most`` is in bytes."""
        self._stub: Any = ControllersStub(dispatcher)
        self._folder, self._token, self._most = folder, token, most
        self._fetching: dict[bytes, asyncio.Task[bytes]] = {}

    async def get(self, digest: bytes) -> bytes:
        """Return the module. Who asks while it is fetched waits for the same fetch.

        Raises ControllerNotFound if the network does not have it, or ServiceUnavailable if it cannot be had now.
        """
        found = await asyncio.to_thread(self._kept, digest)
        if found is not None:
            return found
        task = self._fetching.get(digest)
        if task is None:
            task = self._fetching[digest] = asyncio.create_task(self._fetch(digest))
            task.add_done_callback(lambda done: self._fetched(digest, done))
        # shielded: the others still want it
        return await asyncio.shield(task)

    def _fetched(self, digest: bytes, task: asyncio.Task[bytes]) -> None:
        del self._fetching[digest]
        if not task.cancelled():
            task.exception()  # whoever waited was told

    async def _fetch(self, digest: bytes) -> bytes:
        name = name_of(digest)
        try:
            async with asyncio.timeout(READ_SECONDS):
                data = await self._read(name)
        except TimeoutError as error:
            raise ServiceUnavailable("dispatcher") from error
        except grpc.aio.AioRpcError as error:
            refusal = from_rpc_error(error)
            if isinstance(refusal, ControllerNotFound):
                raise refusal from error
            log.warning("%s cannot be read: %s", name, refusal or error.details())
            raise ServiceUnavailable("dispatcher") from error
        if await asyncio.to_thread(_digest, data) != digest:
            log.error("what the dispatcher sent as %s is something else", name)
            raise ServiceUnavailable("dispatcher")
        try:
            await asyncio.to_thread(self._keep, digest, data)
        except OSError as error:  # it is fetched again when it is needed again
            log.warning("%s cannot be kept: %s", name, error)
        return data

    async def _read(self, name: str) -> bytes:
        token = self._token()
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        call = self._stub.ReadController(ReadControllerRequest(name=name), metadata=metadata)
        data = bytearray()
        try:
            async for part in call:
                data += part.data
                if len(data) > MODULE_BYTES:
                    log.error("the dispatcher sends more than %d bytes as %s", MODULE_BYTES, name)
                    raise ServiceUnavailable("dispatcher")
        finally:
            call.cancel()
        return bytes(data)

    def _kept(self, digest: bytes) -> bytes | None:
        path = self._path(digest)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if _digest(data) != digest:  # damaged on disk
            path.unlink(missing_ok=True)
            return None
        with suppress(OSError):
            os.utime(path)
        return data

    def _keep(self, digest: bytes, data: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
            file.write(data)
        Path(file.name).replace(self._path(digest))
        self._sweep(keep=self._path(digest))

    def _sweep(self, keep: Path) -> None:
        there = sorted((one for one in self._folder.glob(f"*{ENDING}") if one != keep), key=lambda one: -one.stat().st_mtime)
        total = keep.stat().st_size
        for one in there:
            total += one.stat().st_size
            if total > self._most:
                one.unlink(missing_ok=True)

    def _path(self, digest: bytes) -> Path:
        return self._folder / f"{digest.hex()}{ENDING}"


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
