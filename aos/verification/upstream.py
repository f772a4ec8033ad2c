"""What a receipt says of an answer that a registered model server gave: no weights, no tokens, no steps. Pure.

Such a server tells a text and counts of tokens. Its operator signs for having been told so; nobody can run it again. What marks the
receipt is the model's digest: it is that of a name, not of weights, so that nobody can pass a model whose weights the network knows
off as one of these, and get around being checked.
"""

from __future__ import annotations

import hashlib
from typing import Final

from aos.v1.receipt_pb2 import Receipt

PROFILE: Final = "upstream/1"
"""Begins the profile."""
NO_TOKENS: Final = hashlib.sha256().digest()
"""Digest of no tokens: what stands for prompt and answer."""
_PURPOSE: Final = b"aos upstream 1\n"


def name_digest(model: str) -> bytes:
    """Return the 32 bytes that stand for the weights of a model server's model, which nobody has seen."""
    return hashlib.sha256(_PURPOSE + model.encode()).digest()


def profile_of(*, counted: bool) -> str:
    """Return the profile; ``counted`` is whether the server told no counts, so that its pieces were counted instead."""
    return f"{PROFILE} usage={'counted' if counted else 'stated'}"


def picture_profile(encoder: str) -> str:
    """Return the profile of pictures; ``encoder`` is what wrote their files anew (aos/pictures.py)."""
    return f"{PROFILE} {encoder}"


def is_upstream(receipt: Receipt) -> bool:
    """Say whether the receipt claims that a model server gave the answer; whether it may, its model's digest decides."""
    return receipt.profile == PROFILE or receipt.profile.startswith(f"{PROFILE} ")
