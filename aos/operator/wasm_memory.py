"""Copies of memories that share pages until somebody writes: copying megabytes into fresh pages takes longer than a step may.

A memory is written into a file that has no name once; each copy maps that file privately over its own place, and then has only the
pages copied that the original wrote since. Which those are Linux tells, in ``/proc/self/pagemap``. Where it does not, or something
else than Linux runs, all is copied.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from aos.operator.wasm_calls import move

PAGE: Final = mmap.PAGESIZE

_MAP_FIXED: Final = 0x10
_PAGEMAP: Final = Path("/proc/self/pagemap")
_THERE: Final = np.uint64(3 << 62)
"""The page is in memory, or swapped out."""
_SHARED: Final = np.uint64(1 << 61)
"""It is the file's, and not the process's own."""

_mmap: Final = ctypes.CDLL(None, use_errno=True).mmap
_mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_mmap.restype = ctypes.c_void_p


class Frozen:
    """What was in a memory at one moment. It stays as long as somebody holds it or has it mapped."""

    def __init__(self, address: int, size: int) -> None:
        """Raises OSError."""
        self.size = size
        self._file = os.memfd_create("aos-controller", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        data = memoryview((ctypes.c_char * size).from_address(address)).cast("B")
        done = 0
        while done < size:
            done += os.pwrite(self._file, data[done:], done)

    def map(self, address: int) -> None:
        """Let the memory there, at least as large, begin with it. Nobody may use it meanwhile. Raises OSError."""
        flags = mmap.MAP_PRIVATE | _MAP_FIXED
        if _mmap(address, self.size, mmap.PROT_READ | mmap.PROT_WRITE, flags, self._file, 0) != address:
            raise OSError(ctypes.get_errno(), "a memory cannot be mapped")


def frozen(address: int, size: int) -> Frozen | None:
    """Return what is in a memory, which goes on as a copy of it; None: that cannot be done here."""
    if not size or not _works():
        return None
    with suppress(OSError):
        kept = Frozen(address, size)
        kept.map(address)
        return kept
    return None


def copy(source: int, target: int, size: int, base: Frozen | None) -> bool:
    """Copy a memory that goes on from ``base`` into a new one, full of zeros or of what the module puts there.

    Says whether the copy goes on from the base too.
    """
    if base is not None:
        with suppress(OSError):
            base.map(target)
            for start, length in _written(source, size, base.size):
                move(target + start, source + start, length)
            return True
    if size:
        move(target, source, size)
    return False


def written_bytes(address: int, size: int, base: Frozen) -> int:
    """Return how much of a memory is its own, and not that of what it goes on from. Raises OSError."""
    return sum(length for _, length in _written(address, size, base.size))


def _written(address: int, size: int, mapped: int) -> Iterator[tuple[int, int]]:
    """Give the pages that are a memory's own, as ranges; the first ``mapped`` bytes go on from a file. Raises OSError."""
    with _PAGEMAP.open("rb", buffering=0) as pages:
        pages.seek(address // PAGE * 8)
        told = np.frombuffer(pages.read(size // PAGE * 8), np.uint64)
    if len(told) != size // PAGE:
        raise OSError("the pages of a memory are not told")
    own = (told & _THERE) != 0
    own[: mapped // PAGE] &= (told[: mapped // PAGE] & _SHARED) == 0
    edges = np.flatnonzero(np.diff(own, prepend=False, append=False))
    for start, end in edges.reshape(-1, 2).tolist():
        yield start * PAGE, (end - start) * PAGE


@cache
def _works() -> bool:
    """Say whether this system tells which pages were written, found out by a try."""
    if not hasattr(os, "memfd_create"):
        return False
    with mmap.mmap(-1, 4 * PAGE) as memory, suppress(OSError):
        where = ctypes.c_char.from_buffer(memory)
        try:
            address = ctypes.addressof(where)
            memory[:] = b"\1" * len(memory)
            Frozen(address, len(memory)).map(address)
            memory[PAGE : PAGE + 1] = b"\2"
            kept = (memory[2 * PAGE], memory[PAGE]) == (1, 2)
            return kept and list(_written(address, len(memory), len(memory))) == [(PAGE, PAGE)]
        finally:
            del where
    return False
