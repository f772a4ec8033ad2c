"""How deep JSON text is nested, found before it is read: readers go down by recursion, and strangers write the text. Pure."""

from __future__ import annotations

import re
from typing import Final

DEPTH: Final = 32
"""Most objects and lists inside each other, in whatever a stranger gives."""

# a string that does not end goes to the end of the text, and nothing is tried twice: else a text of quotes takes its length squared
_PARTS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def too_deep(text: str, most: int = DEPTH) -> bool:
    """Say whether more than ``most`` objects and lists are inside each other. Takes time in proportion to the text, JSON or not."""
    # most texts have no more brackets than may be open, and counting them is fast: a large picture as base64 has none
    if text.count("[") + text.count("{") <= most:
        return False
    depth = 0
    for part in _PARTS.finditer(text):
        if part[0] in "[{":
            depth += 1
            if depth > most:
                return True
        elif part[0] in "]}":
            depth -= 1
    return False
