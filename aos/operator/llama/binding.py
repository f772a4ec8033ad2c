"""The C library: its functions, its log, what it was built with."""

from __future__ import annotations

import ctypes
import logging
import os
from collections import deque
from threading import Lock
from typing import Any, Final

# Read once, when llama.cpp's OpenMP is loaded. Threads that spin while they wait for each other starve on a machine that has other
# work: a step of a millisecond then takes half a second.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import llama_cpp

c: Any = llama_cpp.llama_cpp
"""The C functions; their Python signatures are typed in part, and wrong in places."""

log = logging.getLogger(__name__)

_LOGITS: Final = ctypes.cast(c.llama_get_logits, ctypes.c_void_p).value or 0
logits_at: Final = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(_LOGITS)
"""`llama_get_logits`, as an address. It keeps Python's lock: a thread that let it go for such a moment would wait for it again."""
awaited_logits_at: Final = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(_LOGITS)
"""The same for models of which a GPU computes a part: there it waits for the GPU, and lets the others go on."""

loading = Lock()
"""Loading takes its turn: llama.cpp's log, where the reason of a failure stands, is one for the process."""

_last_errors: deque[str] = deque(maxlen=5)
_WARNING: Final = 3
_ERROR: Final = 4
"""Of ggml_log_level."""


@c.llama_log_callback
def _log(level: int, text: bytes, _data: Any) -> None:
    line = text.decode(errors="replace").strip()
    if not line:
        return
    if level == _ERROR:
        _last_errors.append(line)
    # what matters of an error is raised; llama.cpp's own lines are for those who look for them
    log.log(logging.INFO if level in (_WARNING, _ERROR) else logging.DEBUG, "%s", line)


def begin() -> None:
    """Call before anything is loaded, holding ``loading``: ``reason`` tells what is logged from here on."""
    _last_errors.clear()
    c.llama_log_set(_log, ctypes.c_void_p(0))
    c.llama_backend_init()


def reason() -> str:
    """Return why what was begun failed, in llama.cpp's words."""
    return "; ".join(_last_errors) or "it says no more"


def build_features() -> tuple[str, tuple[str, ...]]:
    """Return the binding's version and what llama.cpp was built with, as it says itself: `AVX2`, `OPENMP`, …."""
    # it says "CPU : SSE3 = 1 | AVX = 1 | ..."
    said = c.llama_print_system_info().decode()
    used = (part.split(":")[-1].split("=")[0].strip() for part in said.split("|") if part.strip().endswith("= 1"))
    return llama_cpp.__version__, tuple(used)
