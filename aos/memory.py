"""How much memory a process can still take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

SHARE: Final = 0.75
"""Of what is available, what models may take by default: the rest is for whoever else works on the machine."""
MEMINFO: Final = Path("/proc/meminfo")
CGROUP: Final = Path("/sys/fs/cgroup")


def default_memory(sharers: int = 1) -> int:
    """Return the bytes that the models of each of so many operators here may take: three quarters of what is available, shared."""
    return int(available_memory() * SHARE) // sharers


def available_memory(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int:
    """Return the bytes that can be taken without swapping: what Linux says, or what the container's limit leaves if that is less.

    Elsewhere half of the machine's memory.
    """
    try:
        words = next(line.split() for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:"))
        free = int(words[1]) << 10
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    try:
        # "max", where there is no limit, is no number
        limit, taken = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):
        return free
    return max(0, min(free, limit - taken))
