"""Amounts at the edge: neurons as integers, coins as decimal text, and nothing that rounds. Pure."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from aos.errors import InvalidField

Amount = int | str | Decimal
"""Neurons as an ``int``; coins as a ``str`` or a ``Decimal``: ``"0.1"`` is 10^17 neurons. Never a ``float``, which rounds."""

DECIMALS: Final = 18
"""Digits of a coin behind the point: it has 10^18 neurons."""
DIGITS: Final = 60
"""Longest text that is looked at."""
MOST: Final = 10**38
"""Most neurons of one amount, as at the broker."""

_COINS: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+")


def neurons(amount: Amount, at: str = "amount") -> int:
    """Return the amount in neurons.

    Raises InvalidField, naming ``at``, for floats, anything below 0, parts of a neuron, more than ``MOST``, and what is no number.
    """
    if not _holds(amount):
        problem = "must be neurons as an int, or coins as a str or a Decimal; a float cannot hold most amounts"
        raise InvalidField(at, problem, value=amount, limit="int, str or Decimal")
    found = amount if isinstance(amount, int) else _neurons(amount, at)
    if not 0 <= found <= MOST:
        # no text of a number that is too long for one
        shown = amount if found.bit_length() <= 4 * DIGITS else f"{found.bit_length()} bits"
        raise InvalidField(at, f"must be from 0 to {MOST} neurons", value=shown, limit=MOST)
    return found


def _holds(given: object) -> bool:
    return isinstance(given, int | str | Decimal) and not isinstance(given, bool)


def _neurons(amount: str | Decimal, at: str) -> int:
    if isinstance(amount, Decimal) and not amount.is_finite():
        raise InvalidField(at, "must be a number", value=amount, limit="a number")
    # fixed notation has a digit for every power of ten: a huge exponent would fill the memory
    if isinstance(amount, Decimal) and abs(amount.adjusted()) > DIGITS:
        raise InvalidField(at, f"must be from 0 to {MOST} neurons, and in whole neurons", value=amount, limit=MOST)
    text = amount if isinstance(amount, str) else f"{amount:f}"
    if text.startswith("-"):
        raise InvalidField(at, "must not be below 0", value=text, limit=0)
    if len(text) > 2 * DIGITS or not _COINS.fullmatch(text):
        raise InvalidField(at, "must be coins in decimal digits, as 0.25", value=text, limit=f"{DIGITS} digits")
    whole, _, part = text.partition(".")
    part = part.rstrip("0")
    if len(part) > DECIMALS:
        problem = f"has {len(part)} decimals; a coin has {DECIMALS}, there is nothing smaller than a neuron"
        raise InvalidField(at, problem, value=text, limit=DECIMALS)
    return int((whole or "0") + part.ljust(DECIMALS, "0"))


def coins(amount: int) -> str:
    """Return neurons as coins, to the last digit: ``neurons(coins(n)) == n`` for every amount."""
    whole, part = divmod(abs(amount), 10**DECIMALS)
    text = f"{whole}.{part:018}".rstrip("0").rstrip(".")
    return f"-{text}" if amount < 0 else text
