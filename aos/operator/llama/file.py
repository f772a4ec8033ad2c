"""A GGUF file before llama.cpp sees it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Final

from aos.errors import InvalidField

MAGIC: Final = b"GGUF"


def gguf_digest(path: Path, field: str, *, expected: str = "") -> str:
    """Return the SHA-256 of a GGUF file, 64 hex digits.

    Raises InvalidField, naming ``field``, for a file that cannot be read, is no GGUF, or has not the digest that is expected.
    """
    with _gguf(path, field) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if expected not in {"", digest}:
        raise InvalidField(field, f"{path.name} was changed since it was read first", value=digest, limit=expected)
    return digest


def gguf_size(path: Path, field: str) -> int:
    """Return the bytes of a GGUF file. Raises InvalidField likewise."""
    with _gguf(path, field) as file:
        return file.seek(0, os.SEEK_END)


@contextmanager
def _gguf(path: Path, field: str) -> Generator[BufferedReader]:
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise InvalidField(field, f"{path.name} is not a GGUF file", value=path)
            file.seek(0)
            yield file
    except OSError as error:
        raise InvalidField(field, f"{path.name} cannot be read: {error.strerror}", value=path) from error
