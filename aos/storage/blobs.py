"""Files by what they hold, in a folder: each owner's in a folder of its own, named by their SHA-256, and kept for a time.

Several processes, on one machine or several, may have the same folder: each serves what any of them has put, and nothing goes that
one of them has put anew. What others have put counts against the limits once it was looked for. The methods wait for the disk: they
are for a thread, and may be called on any.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
import time
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
SECRET_SECONDS: Final = 1.0
"""How long a key is waited for that another process has begun to write; then that one was killed."""
GRAIN_SECONDS: Final = 1.0
"""Times of files may be kept no more exactly than this."""


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
    writing_seconds: float = 3600.0
    """After how long a file that is still not whole was left behind by a process that was killed."""

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
    """The files, over a folder that nobody but others of these writes to."""

    def __init__(self, folder: Path, limits: BlobLimits | None = None) -> None:
        """Find what is there. The folder is made if it is not."""
        self._folder, self.limits = folder, limits or BlobLimits()
        self._lock = Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.secret = _secret(folder / SECRET)
        """The key of links: it outlives the process, so links do, and it is the same for all who have the folder."""
        self._files = {(one.owner, one.digest): one for one in self._found()}

    def put(self, owner: str, data: bytes, *, now: float) -> bytes:
        """Keep the file, on disk when this returns; return its digest, 32 bytes. ``now`` is in seconds since 1970."""
        digest = hashlib.sha256(data).digest()
        path = self._path(owner, digest.hex())
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not _touched(path, now):
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.utime(file.name, (now, now))
            Path(file.name).replace(path)
            sync_folder(path.parent)
        with self._lock:
            self._files[owner, digest.hex()] = Kept(owner, digest.hex(), len(data), now)
        self.sweep(now=now)
        return digest

    def get(self, owner: str, digest: str, *, now: float) -> bytes:
        """Return the file, whoever has put it. Raises BlobNotFound."""
        if not self.has(owner, digest, now=now):
            raise BlobNotFound(f"blobs/{digest}")
        try:
            return self._path(owner, digest).read_bytes()
        except OSError as error:
            raise BlobNotFound(f"blobs/{digest}") from error

    def has(self, owner: str, digest: str, *, now: float) -> bool:
        """Say whether ``get`` would give it."""
        kept = _kept(self._path(owner, digest))
        with self._lock:
            if kept is None:
                self._files.pop((owner, digest), None)
            else:
                self._files[owner, digest] = kept
        return kept is not None and now - kept.since < self.limits.keep_seconds

    def sweep(self, *, now: float) -> Sequence[Kept]:
        """Delete what is to go as far as is known here, and return it."""
        with self._lock:
            gone = outdated(self._files.values(), self.limits, now=now)
            for one in gone:
                del self._files[one.owner, one.digest]
        return [one for one in gone if not self._put_anew(one)]

    def sweep_all(self, *, now: float) -> Sequence[Kept]:
        """Look for what others have put or deleted, then delete what is to go, and return it."""
        with self._lock:
            before = dict(self._files)
        found = {(one.owner, one.digest): one for one in self._found()}
        with self._lock:
            meanwhile = {key: one for key, one in self._files.items() if before.get(key) != one}
            self._files = found | meanwhile
        return self.sweep(now=now)

    def _put_anew(self, one: Kept) -> bool:
        """Delete the file, unless somebody has put it anew since; say whether somebody has."""
        path, aside = self._path(one.owner, one.digest), self._folder / f"gone-{secrets.token_hex(8)}"
        try:
            path.rename(aside)  # who puts it anew from here on finds that it is not there
            young = aside.stat().st_mtime > one.since + GRAIN_SECONDS
            if young and not path.exists():
                aside.rename(path)
            else:
                aside.unlink()
        except OSError:  # another was faster
            return False
        if young and (kept := _kept(path)) is not None:
            with self._lock:
                self._files[one.owner, one.digest] = kept
        return young

    def _found(self) -> Iterable[Kept]:
        for path in self._folder.iterdir():
            if path.is_dir():
                yield from filter(None, map(_kept, path.iterdir()))
            elif path.name != SECRET:
                with suppress(OSError):
                    if time.time() - path.stat().st_ctime > self.limits.writing_seconds:
                        path.unlink()

    def _path(self, owner: str, digest: str) -> Path:
        return self._folder / owner / digest


def _touched(path: Path, now: float) -> bool:
    """Make the file as young as one that comes now; say whether it is there."""
    try:
        os.utime(path, (now, now))
    except FileNotFoundError:
        return False
    return path.exists()  # whoever takes it away from here on sees that it is young


def _kept(path: Path) -> Kept | None:
    try:
        there = path.stat()
    except OSError:
        return None
    return Kept(path.parent.name, path.name, there.st_size, there.st_mtime)


def _secret(path: Path) -> bytes:
    fresh, until = secrets.token_bytes(SECRET_BYTES), time.monotonic() + SECRET_SECONDS
    with suppress(FileExistsError):  # of several that begin at once, one makes it
        _write(path, fresh, os.O_EXCL)
    while len(known := path.read_bytes()) != SECRET_BYTES:
        if time.monotonic() > until:
            _write(path, fresh, os.O_TRUNC)
        time.sleep(SECRET_SECONDS / 100)  # another process is writing it: there is no event to wait for
    return known


def _write(path: Path, data: bytes, how: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Let the names in the folder survive a loss of power, too."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
