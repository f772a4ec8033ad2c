"""What ran, and who says so: keys, receipts, clocks. A library of pure code that every slice may import."""

import sys
from typing import Final

_DEPTH: Final = sys.getrecursionlimit()

import eth_account  # noqa: E402, F401  # pyright: ignore[reportUnusedImport]

# py_ecc, which comes with it, raises the limit to 100 000: what nests too deeply, a JSON text or a template, then overflows the
# stack and ends the process, where it should be an error that is told
sys.setrecursionlimit(_DEPTH)
