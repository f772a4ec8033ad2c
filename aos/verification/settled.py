"""Checking that a receipt is under the root that it was settled by: nothing but the proof is needed, and nobody's word. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aos.errors import BadSettlement, InvalidField
from aos.v1.broker_pb2 import PaidReceipt
from aos.verification.sums import SumNode, fold, leaf

HASH_BYTES: Final = 32
SIBLING_BYTES: Final = 64


def check_settled(receipt: PaidReceipt) -> None:
    """Raise BadSettlement unless every proof of the receipt, of the network's batch and of the chain's, leads to its root.

    Raises it, too, for a receipt that was settled nowhere. That a chain has the root, the chain alone can tell: aos/chain/proof.py.
    """
    if not receipt.root and not receipt.HasField("chain"):
        raise BadSettlement(receipt.name, "it is in no batch yet")
    if receipt.root:
        _climb(receipt, receipt.leaf, receipt.leaves, receipt.proof, receipt.root)
    if receipt.HasField("chain"):
        said = receipt.chain
        total = _climb(receipt, said.leaf, said.leaves, said.proof, said.root)
        if str(total) != said.total:
            raise BadSettlement(receipt.name, f"the prices under the chain's root come to {total}, not {said.total}")


def _climb(receipt: PaidReceipt, index: int, count: int, proof: Sequence[bytes], root: bytes) -> int:
    """Return the sum under the root. Raises BadSettlement."""
    if any(len(one) != SIBLING_BYTES for one in proof):
        raise BadSettlement(receipt.name, f"each step of it has {SIBLING_BYTES} bytes")
    try:
        start = leaf(bytes.fromhex(receipt.name.removeprefix("receipts/")), int(receipt.price))
    except (ValueError, InvalidField) as error:
        raise BadSettlement(receipt.name, "its digest or its price is none") from error
    siblings = [SumNode(one[:HASH_BYTES], int.from_bytes(one[HASH_BYTES:], "big")) for one in proof]
    found = fold(start, index, count, siblings)
    if found is None or found.digest != root:
        raise BadSettlement(receipt.name, "it leads to another root")
    return found.total
