"""The tree over receipts that are settled together: it carries sums, so that its root stands for exactly the fees under it. Pure.

Positions count: an index has one leaf. The last node of an odd level goes up as it is. aos/chain/contracts/batches.vy checks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eth_utils.crypto import keccak

from aos.errors import InvalidField

DIGEST_BYTES: Final = 32
MAX_DEPTH: Final = 20
MAX_LEAVES: Final = 1 << MAX_DEPTH
"""Receipts under one root at most."""
MAX_FEE: Final = (1 << 256) - 1
_LEAF: Final = b"\x00"
_INNER: Final = b"\x01"


@dataclass(frozen=True, slots=True)
class SumNode:
    """A node: its digest, and the fees under it in neurons."""

    digest: bytes
    total: int


def leaf(receipt: bytes, fee: int) -> SumNode:
    """Return the leaf of a receipt, by its EIP-712 digest. Raises InvalidField for another length, or a fee that is none."""
    if len(receipt) != DIGEST_BYTES:
        raise InvalidField("receipt", f"must have {DIGEST_BYTES} bytes", value=len(receipt), limit=DIGEST_BYTES)
    _check_total(fee)
    return SumNode(bytes(keccak(_LEAF + receipt + _word(fee))), fee)


def root(leaves: Sequence[SumNode]) -> SumNode:
    """Return the root: digest and sum. Raises InvalidField for no leaf or too many, or for a sum beyond 256 bits."""
    return _levels(leaves)[-1][0]


def proof(leaves: Sequence[SumNode], index: int) -> tuple[SumNode, ...]:
    """Return the siblings on the way up from the leaf at this index. Raises InvalidField as root does, or for no index."""
    levels = _levels(leaves)
    if not 0 <= index < len(leaves):
        raise InvalidField("index", f"must be from 0 to {len(leaves) - 1}", value=index, limit=len(leaves) - 1)
    siblings: list[SumNode] = []
    for level in levels[:-1]:
        if index ^ 1 < len(level):
            siblings.append(level[index ^ 1])
        index //= 2
    return tuple(siblings)


def fold(node: SumNode, index: int, count: int, siblings: Sequence[SumNode]) -> SumNode | None:
    """Return the root that follows from one leaf and its proof; None if they cannot belong together."""
    left = list(siblings)
    if not 0 <= index < count <= MAX_LEAVES:
        return None
    while count > 1:
        if index ^ 1 < count:
            if not left:
                return None
            other = left.pop(0)
            node = _inner(other, node) if index % 2 else _inner(node, other)
            if node.total > MAX_FEE:
                return None
        index //= 2
        count = (count + 1) // 2
    return None if left else node


def _levels(leaves: Sequence[SumNode]) -> list[list[SumNode]]:
    if not 1 <= len(leaves) <= MAX_LEAVES:
        raise InvalidField("receipts", f"must be 1 to {MAX_LEAVES}", value=len(leaves), limit=MAX_LEAVES)
    levels = [list(leaves)]
    _check_total(sum(node.total for node in leaves))
    while len(level := levels[-1]) > 1:
        above = [_inner(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        levels.append(above + level[len(above) * 2 :])
    return levels


def _inner(left: SumNode, right: SumNode) -> SumNode:
    both = left.total + right.total
    if both > MAX_FEE:  # what comes from strangers: no sum of fees, and no word to hash
        return SumNode(b"", both)
    return SumNode(bytes(keccak(_INNER + left.digest + _word(left.total) + right.digest + _word(right.total))), both)


def _check_total(total: int) -> None:
    if not 0 <= total <= MAX_FEE:
        raise InvalidField("fee", "must be from 0 to 2^256 - 1, and so must their sum", value=total, limit=MAX_FEE)


def _word(number: int) -> bytes:
    return number.to_bytes(DIGEST_BYTES, "big")
