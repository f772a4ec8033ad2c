"""Pages of a list: how long they may be, and the opaque token that says where the next one begins. Pure."""

from __future__ import annotations

import base64
from typing import Final

from aos.errors import InvalidField

PAGE_MOST: Final = 1000
PAGE_DEFAULT: Final = 100
TOKEN_CHARS: Final = 1024
"""Longest page token that is looked at."""
NUMBER_DIGITS: Final = 18
"""Most digits of a number in a token: all such numbers fit into 63 bits."""


def page_length(page_size: int) -> int:
    """Return how many items to show. Raises InvalidField below 0 and above PAGE_MOST; 0 gives PAGE_DEFAULT."""
    if not 0 <= page_size <= PAGE_MOST:
        raise InvalidField("page_size", f"must be from 0 to {PAGE_MOST}", value=page_size, limit=PAGE_MOST)
    return page_size or PAGE_DEFAULT


def page_token(method: str, last: str) -> str:
    """Return the token for what comes after ``last`` in this method's order; it is of no use to another method."""
    return base64.urlsafe_b64encode(f"{method}\n{last}".encode()).decode().rstrip("=")


def page_start(method: str, token: str) -> str:
    """Return the ``last`` that the token was made of; empty for no token. Raises InvalidField for any other text."""
    if not token:
        return ""
    last = _last(method, token)
    # made again and compared, because base64 has more than one text for the same bytes
    if last is None or page_token(method, last) != token:
        raise _bad(method, token)
    return last


def page_start_number(method: str, token: str) -> int:
    """Return the ``last`` of a list in the order of a 64-bit number; 0 for no token. Raises InvalidField for any other text."""
    last = page_start(method, token) or "0"
    if not (last.isascii() and last.isdigit() and len(last) <= NUMBER_DIGITS):
        raise _bad(method, token)
    return int(last)


def _bad(method: str, token: str) -> InvalidField:
    return InvalidField("page_token", f"must be a next_page_token of {method}, unchanged", value=token, limit="a next_page_token")


def _last(method: str, token: str) -> str | None:
    if len(token) > TOKEN_CHARS:
        return None
    try:
        whole = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        return None
    made_by, _, last = whole.partition("\n")
    return last if made_by == method else None
