"""Files in one archive, each with its digest: written beside its name and put there whole, read back only if every digest is right.

An archive is a tar whose last member, ``aos-backup.json``, names all others with their sizes and SHA-256. It waits for the disk: it
is for a process, or a thread, that has nothing else to do.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

MANIFEST: Final = "aos-backup.json"
FORMAT: Final = 1
CHUNK: Final = 1 << 20
"""Bytes that are read at once."""
MANIFEST_BYTES: Final = 256 << 20
"""Longest list of files: some two million."""
PART: Final = ".part"
"""Ends the name of what is not whole yet."""


class BadArchive(Exception):
    """The file is no archive of this kind, or not as it was written."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in an archive."""

    size: int
    sha256: str
    mode: int


def write(archive: Path, files: Iterable[tuple[str, Path]], *, facts: dict[str, str]) -> dict[str, Entry]:
    """Write the files under these names, with the facts, and return what was written; a file that is gone is left out.

    The archive has its name only once all of it is on disk; only its owner may read it. Raises OSError, FileExistsError among them.
    """
    if archive.exists():
        raise FileExistsError(archive)
    part, written = archive.with_name(archive.name + PART), dict[str, Entry]()
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for name, path in files:
                    if (entry := _add(tar, name, path)) is not None:
                        written[name] = entry
                said: dict[str, Any] = {"format": FORMAT, **facts, "files": {name: asdict(one) for name, one in written.items()}}
                data = json.dumps(said, indent=1).encode()
                info = tarfile.TarInfo(MANIFEST)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            out.flush()
            os.fsync(out.fileno())
        part.rename(archive)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return written


def _add(tar: tarfile.TarFile, name: str, path: Path) -> Entry | None:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        status = os.fstat(file.fileno())
        info, hashed = tarfile.TarInfo(name), _Hashed(file)
        info.size, info.mode, info.mtime = status.st_size, status.st_mode & 0o777, int(status.st_mtime)
        tar.addfile(info, hashed)
        return Entry(info.size, hashed.sha256.hexdigest(), info.mode)


class _Hashed(io.RawIOBase):
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        return data


def read(archive: Path, folder: Path) -> dict[str, str]:
    """Put the archive's files into a new folder, and return its facts. Raises BadArchive, OSError or FileExistsError.

    The folder has its name only once every digest was right; an empty one may be there.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(folder)
    part = folder.with_name(folder.name + PART)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700, parents=True)
    try:
        facts = _read(archive, part)
        part.rename(folder)  # in place of an empty one
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return facts


def _read(archive: Path, folder: Path) -> dict[str, str]:
    found, manifest = dict[str, Entry](), None
    try:
        with tarfile.open(archive, "r:") as tar:
            for info in tar:
                member = tar.extractfile(info) if info.isreg() else None
                if member is None:
                    raise BadArchive(f"{info.name!r} is not a plain file")
                if info.name == MANIFEST:
                    manifest = _manifest(member, info.size)
                    continue
                found[info.name] = _extract(member, _inside(folder, info.name), info)
    except (tarfile.TarError, EOFError) as error:
        raise BadArchive(f"it cannot be read: {error}") from error
    if manifest is None:
        raise BadArchive("it is not whole: its list of files, which comes last, is missing")
    facts, listed = manifest
    for name in sorted(listed.keys() | found.keys()):
        if listed.get(name) != found.get(name):
            raise BadArchive(f"{name!r} is not as it was written")
    return facts


def _manifest(member: IO[bytes], size: int) -> tuple[dict[str, str], dict[str, Entry]]:
    if size > MANIFEST_BYTES:
        raise BadArchive(f"its list of files has {size} bytes; at most {MANIFEST_BYTES} are read")
    try:
        said = json.loads(member.read())
        if said.pop("format") != FORMAT:
            raise BadArchive("it was written by another version")
        files = {str(name): Entry(**entry) for name, entry in said.pop("files").items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadArchive(f"its list of files is damaged: {error}") from error
    return {str(key): str(value) for key, value in said.items()}, files


def _inside(folder: Path, name: str) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or str(path) != name:
        raise BadArchive(f"{name!r} is not a name of a file in a folder")
    return folder / path


def _extract(member: IO[bytes], path: Path, info: tarfile.TarInfo) -> Entry:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    sha256, mode = hashlib.sha256(), info.mode & 0o777
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        while data := member.read(CHUNK):
            sha256.update(data)
            out.write(data)
        out.flush()
        os.fsync(out.fileno())
    path.chmod(mode)
    return Entry(info.size, sha256.hexdigest(), mode)
