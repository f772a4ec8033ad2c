"""Vector clocks: what each node had seen of every other. Pure.

A clock is a map from node id to the count of that node's own events; an absent node counts 0 (Fidge 1988, Mattern 1989). A node's
clock never goes back: what it hears is merged in, and only events of its own are counted on.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from typing import Final

from aos.errors import InvalidField

NODES: Final = 1024
"""Most nodes in a clock that is read from the wire."""
NODE_CHARS: Final = 128
"""Longest node id."""
COUNT_LIMIT: Final = 1 << 63
"""Counts are below: stores keep signed integers, and one more than the largest would be none."""

NODE: Final = re.compile(rf"[!-<>-~]{{1,{NODE_CHARS}}}")
"""Node ids: printable ASCII without `=`, which ends them where clocks are digested."""
# one spelling a count, because clocks are signed; ASCII digits only, which \d is not
_COUNT: Final = re.compile(r"0|[1-9][0-9]{0,18}")

Clock = dict[str, int]


class Order(enum.Enum):
    """How two clocks stand to each other."""

    BEFORE = "before"
    AFTER = "after"
    EQUAL = "equal"
    CONCURRENT = "concurrent"


def merge(*clocks: Mapping[str, int]) -> Clock:
    """Return the least clock that is before none of them."""
    merged: Clock = {}
    for clock in clocks:
        for node, count in clock.items():
            if count > merged.get(node, 0):
                merged[node] = count
    return merged


def tick(node: str, *clocks: Mapping[str, int]) -> Clock:
    """Return the clock of one more event at ``node``, which has seen ``clocks``."""
    merged = merge(*clocks)
    merged[node] = merged.get(node, 0) + 1
    return merged


def compare(a: Mapping[str, int], b: Mapping[str, int]) -> Order:
    """Say how ``a`` stands to ``b``."""
    nodes = a.keys() | b.keys()
    less = any(a.get(node, 0) < b.get(node, 0) for node in nodes)
    more = any(a.get(node, 0) > b.get(node, 0) for node in nodes)
    match less, more:
        case False, False:
            return Order.EQUAL
        case True, False:
            return Order.BEFORE
        case False, True:
            return Order.AFTER
        case _:
            return Order.CONCURRENT


def fallen(earlier: Mapping[str, int], later: Mapping[str, int]) -> list[str]:
    """Return the nodes whose count fell, sorted: a node that shows ``later`` after ``earlier`` took back what it had seen."""
    return sorted(node for node, count in earlier.items() if later.get(node, 0) < count)


def believed(claimed: Mapping[str, int], *, known: Mapping[str, int], itself: str, sender: str) -> Clock:
    """Return the part of a sender's clock that ``itself``, which knows ``known``, can merge without harm.

    ``itself`` alone knows how many events it had, counts have a limit, and a clock of very many nodes adds none that is new but the
    sender.
    """
    counts = {node: count for node, count in claimed.items() if 0 < count < COUNT_LIMIT and node != itself}
    if len(known.keys() | counts.keys() | {itself}) > NODES:
        counts = {node: count for node, count in counts.items() if node in known or node == sender}
    return counts


def to_wire(clock: Mapping[str, int]) -> dict[str, str]:
    """Return the clock as JSON carries it: counts as decimal strings, because JSON's numbers end at 2^53; sorted by node."""
    return {node: str(count) for node, count in sorted(clock.items())}


def from_wire(clock: Mapping[str, object], at: str = "clock") -> Clock:
    """Return the clock that JSON carried; ``at`` is where, for the error. Raises InvalidField for anything that is none."""
    if len(clock) > NODES:
        raise InvalidField(at, f"must have at most {NODES} nodes", value=len(clock), limit=NODES)
    return dict(_entries(clock.items(), at))


def _entries(entries: Iterable[tuple[str, object]], at: str) -> Iterable[tuple[str, int]]:
    for node, count in entries:
        if not NODE.fullmatch(node):
            problem = f"a node's id must be 1 to {NODE_CHARS} printable ASCII characters without `=`"
            raise InvalidField(at, problem, value=node, limit=NODE_CHARS)
        if not isinstance(count, str) or not _COUNT.fullmatch(count) or int(count) >= COUNT_LIMIT:
            raise InvalidField(f"{at}.{node}", "must be a decimal string from 0 to 2^63 - 1", value=count, limit=COUNT_LIMIT - 1)
        yield node, int(count)
