"""What was signed and sent, kept before it is sent: so that a restart neither pays twice nor forgets."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Sent:
    """One transaction that was decided on: all its signed forms have one nonce, so that at most one of them counts."""

    key: str
    """What it is for. A key stands for one transaction for ever."""
    nonce: int
    to: str
    data: str
    value: int
    gas: int
    fee: int
    """Most wei a unit of gas, of the latest form."""
    tip: int
    forms: tuple[str, ...]
    """Raw transactions, hex, the latest last."""
    mined: str = ""
    """The hash of the one that is in a block; empty: none is yet."""


class Outbox(Protocol):
    """Where transactions are kept. Each method returns only once it is durable."""

    async def find(self, key: str) -> Sent | None:
        """Return what was kept under the key."""
        ...

    async def keep(self, sent: Sent) -> None:
        """Keep it, in place of what was kept under its key."""
        ...

    async def unfinished(self) -> list[Sent]:
        """Return those that are in no block yet, by nonce."""
        ...


class FolderOutbox:
    """An outbox of one file a transaction."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def find(self, key: str) -> Sent | None:
        return await asyncio.to_thread(self._read, self._file(key))

    async def keep(self, sent: Sent) -> None:
        await asyncio.to_thread(self._write, sent)

    async def unfinished(self) -> list[Sent]:
        return await asyncio.to_thread(self._open)

    def _file(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json"

    def _read(self, file: Path) -> Sent | None:
        try:
            found = json.loads(file.read_text())
        except FileNotFoundError:
            return None
        return Sent(**(found | {"forms": tuple(found["forms"])}))

    def _write(self, sent: Sent) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # whole or not at all: a crash leaves the file as it was
        handle, name = tempfile.mkstemp(dir=self._folder, suffix=".new")
        with os.fdopen(handle, "w") as file:
            json.dump(asdict(sent), file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(self._file(sent.key))
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _open(self) -> list[Sent]:
        found = [self._read(file) for file in self._folder.glob("*.json")]
        return sorted((sent for sent in found if sent is not None and not sent.mined), key=lambda sent: sent.nonce)
