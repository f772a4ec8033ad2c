"""Modules in a folder, named by their SHA-256: they come in parts, are hashed on the way, and are there whole or not at all.

Several processes may write to the folder. All of it waits for the disk: it is for a thread, and may be called on any.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from aos.storage.blobs import sync_folder

ENDING: Final = ".wasm"
INCOMING: Final = ".part"
LEFT_SECONDS: Final = 3600.0
"""A half to which nothing was added for so long is nobody's: a younger one may be another process's."""


class Incoming:
    """A module that is coming in. To be ended by ``keep`` or ``discard``."""

    def __init__(self, folder: Path) -> None:
        """Open a file for it in the folder."""
        number, name = tempfile.mkstemp(dir=folder, suffix=INCOMING)
        self._folder, self._file, self.path = folder, os.fdopen(number, "wb"), Path(name)
        self._hash = hashlib.sha256()
        self.size = 0
        """Bytes that have come."""

    def write(self, data: bytes) -> None:
        """Add the next part."""
        self._hash.update(data)
        self._file.write(data)
        self.size += len(data)

    def finish(self) -> bytes:
        """Return the SHA-256 of what has come, all of which is on disk when this returns. Idempotent."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        return self._hash.digest()

    def keep(self) -> None:
        """Make it one of the folder's modules, on disk when this returns."""
        self.path.replace(self._folder / f"{self.finish().hex()}{ENDING}")
        sync_folder(self._folder)

    def discard(self) -> None:
        """Forget it, unless it is kept. Idempotent."""
        self._file.close()
        with suppress(FileNotFoundError):
            self.path.unlink()


class ModuleFiles:
    """The modules in one folder, which other processes may share."""

    def __init__(self, folder: Path) -> None:
        """Make the folder if it is not there; forget what was coming in when an earlier process ended, ``LEFT_SECONDS`` ago."""
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in folder.glob(f"*{INCOMING}"):
            with suppress(FileNotFoundError):  # it has come, or is discarded
                if time.time() - left.stat().st_mtime > LEFT_SECONDS:
                    left.unlink()

    def receive(self) -> Incoming:
        """Begin to take a module in."""
        return Incoming(self._folder)

    def has(self, digest: bytes) -> bool:
        """Say whether the module is there."""
        return self.path(digest).is_file()

    def path(self, digest: bytes) -> Path:
        """Return where the module is, if it is there."""
        return self._folder / f"{digest.hex()}{ENDING}"

    def remove(self, digest: bytes) -> None:
        """Forget the module. Idempotent."""
        self.path(digest).unlink(missing_ok=True)

    def part(self, digest: bytes, start: int, size: int) -> bytes:
        """Return at most ``size`` bytes of the module, from ``start`` on. Raises FileNotFoundError."""
        with self.path(digest).open("rb") as file:
            file.seek(start)
            return file.read(size)
