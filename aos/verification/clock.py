"""Vector clocks: what each node had seen of every other. Pure.

A clock is a map from node id to the count of that node's own events; an absent node counts 0 (Fidge 1988, Mattern 1989). A node's
clock never goes back: what it hears is merged in, and only events of its own are counted on.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Final

NODES: Final = 1024
"""Most nodes in a clock that is read from the wire."""
NODE_CHARS: Final = 128
"""Longest node id."""
COUNT_LIMIT: Final = 1 << 63
"""Counts are below: stores keep signed integers, and one more than the largest would be none."""

NODE: Final = re.compile(rf"[!-<>-~]{{1,{NODE_CHARS}}}")
"""Node ids: printable ASCII without `=`, which ends them where clocks are digested."""

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


def to_wire(clock: Mapping[str, int]) -> dict[str, str]:
    """Return the clock as JSON carries it: counts as decimal strings, because JSON's numbers end at 2^53; sorted by node."""
    return {node: str(count) for node, count in sorted(clock.items())}
