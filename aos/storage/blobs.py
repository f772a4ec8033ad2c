"""Files by what they hold, in a folder: each owner's in a folder of its own, named by their SHA-256, and kept for a time.

One process writes to the folder. Its methods wait for the disk: they are for a thread, and may be called on any.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

from aos.errors import BlobNotFound
from aos.storage.links import SECRET_BYTES

SECRET: Final = "link.key"  # noqa: S105  # a file's name
DIGITS: Final = 64
HEX: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobLimits:
    """How much is kept, and for how long. Raises ValueError for a value that cannot work."""

    keep_seconds: float = 86_400.0
    """How long a file is kept after it came last."""
    owner_files: int = 1000
    """Most files of one owner; the oldest go first."""
    owner_bytes: int = 1 << 30
    """Most bytes of one owner's files; the oldest go first."""
    total_bytes: int = 8 << 30
    """Most bytes of all files; the oldest go first."""
    link_seconds: float = 3600.0
    """How long a link to a file is good."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not getattr(self, name) > 0:
                raise ValueError(f"blob limit {name} must be above 0, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that is there."""

    owner: str
    digest: str
    """64 hex digits."""
    size: int
    since: float
    """When it came last, in seconds since 1970."""


def outdated(files: Iterable[Kept], limits: BlobLimits, *, now: float) -> list[Kept]:
    """Return the files that are to go: too old, or the oldest where there are too many."""
    owners: dict[str, tuple[int, int]] = {}
    total, gone = 0, list[Kept]()
    for file in sorted(files, key=lambda one: -one.since):
        count, size = owners.get(file.owner, (0, 0))
        count, size, total = count + 1, size + file.size, total + file.size
        young = now - file.since < limits.keep_seconds
        if young and count <= limits.owner_files and size <= limits.owner_bytes and total <= limits.total_bytes:
            owners[file.owner] = count, size
        else:
            total -= file.size
            gone.append(file)
    return gone


def read_name(name: str) -> str:
    """Return the digest's hex digits. Raises BlobNotFound for what is no name of a file."""
    head, _, digest = name.partition("/")
    if head != "blobs" or len(digest) != DIGITS or not HEX.issuperset(digest):
        raise BlobNotFound(name[: 2 * DIGITS])
    return digest


class Blobs:
    """The files. Made over a folder that nobody else writes to."""

    def __init__(self, folder: Path, limits: BlobLimits | None = None) -> None:
        """Find what is there. The folder is made if it is not."""
        self._folder, self.limits = folder, limits or BlobLimits()
        self._lock = Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.secret = _secret(folder / SECRET)
        """The key of links: it outlives the process, so links do."""
        self._files = {(one.owner, one.digest): one for one in _found(folder)}

    def put(self, owner: str, data: bytes, *, now: float) -> bytes:
        """Keep the file, on disk when this returns; return its digest, 32 bytes. ``now`` is in seconds since 1970."""
        digest = hashlib.sha256(data).digest()
        path = self._path(owner, digest.hex())
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not path.exists():
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(path)
            sync_folder(path.parent)
        os.utime(path, (now, now))
        with self._lock:
            self._files[owner, digest.hex()] = Kept(owner, digest.hex(), len(data), now)
        self.sweep(now=now)
        return digest

    def get(self, owner: str, digest: str, *, now: float) -> bytes:
        """Return the file. Raises BlobNotFound."""
        with self._lock:
            kept = self._files.get((owner, digest))
        if kept is None or now - kept.since >= self.limits.keep_seconds:
            raise BlobNotFound(f"blobs/{digest}")
        try:
            return self._path(owner, digest).read_bytes()
        except OSError as error:
            raise BlobNotFound(f"blobs/{digest}") from error

    def has(self, owner: str, digest: str, *, now: float) -> bool:
        """Say whether ``get`` would give it."""
        with self._lock:
            kept = self._files.get((owner, digest))
        return kept is not None and now - kept.since < self.limits.keep_seconds

    def sweep(self, *, now: float) -> Sequence[Kept]:
        """Delete what is to go, and return it."""
        with self._lock:
            gone = outdated(self._files.values(), self.limits, now=now)
            for one in gone:
                del self._files[one.owner, one.digest]
        for one in gone:
            with suppress(OSError):
                self._path(one.owner, one.digest).unlink()
        return gone

    def _path(self, owner: str, digest: str) -> Path:
        return self._folder / owner / digest


def _found(folder: Path) -> Iterable[Kept]:
    for path in folder.iterdir():
        if path.is_file() and path.name != SECRET:  # half written when the process was killed
            path.unlink()
        elif path.is_dir():
            for file in path.iterdir():
                there = file.stat()
                yield Kept(path.name, file.name, there.st_size, there.st_mtime)


def _secret(path: Path) -> bytes:
    if not path.exists():
        path.touch(mode=0o600)
    known = path.read_bytes()
    if len(known) != SECRET_BYTES:
        known = secrets.token_bytes(SECRET_BYTES)
        path.write_bytes(known)
    return known


def sync_folder(folder: Path) -> None:
    """Let the names in the folder survive a loss of power, too."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
