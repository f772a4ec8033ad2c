"""How a process that serves runs: with garbage looked for seldom, and threads that take turns often."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

SWITCH_SECONDS: Final = 0.0005
"""How long a thread may wait for Python's lock: the engine's and the store's threads want it often, and for moments."""
GARBAGE: Final = 20_000
"""So many more objects there are before cycles are looked for: a job makes thousands, and hardly any of them is in one."""

T = TypeVar("T")


def serve(work: Coroutine[Any, Any, T]) -> T:
    """Return what the work returns, as asyncio.run does."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(GARBAGE, *gc.get_threshold()[1:])
    return asyncio.run(work)


def settled() -> None:
    """Look at what is there now no more when looking for garbage: to be called once all is set up that stays."""
    gc.collect()
    gc.freeze()
