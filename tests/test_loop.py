"""How a process that serves runs."""

from __future__ import annotations

import subprocess
import sys

SERVES = """
import asyncio, gc, sys
from aos.loop import GARBAGE, serve, settled
async def work():
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(7)", stdout=asyncio.subprocess.PIPE)
    said, _ = await child.communicate()
    settled()
    return said, gc.get_threshold()[0] == GARBAGE, gc.get_freeze_count() > 0
print(serve(work()))
"""


class TestServing:
    def test_looks_for_garbage_seldom(self):
        """The work starts processes, has garbage looked for seldom and not among what stays, and its result comes back."""
        done = subprocess.run([sys.executable, "-c", SERVES], capture_output=True, text=True, timeout=60, check=True)

        assert done.stdout.strip() == str((b"7\n", True, True))
        assert not done.stderr
