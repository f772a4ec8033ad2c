"""What an operator's evidence must answer, so that it is fresh and for this registry: nothing is kept of it. Pure."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

from aos.errors import InvalidField
from aos.verification.attestation.statement import NONCE_BYTES

CHALLENGE_SECONDS: Final = 60
"""How long a challenge is good."""
SECRET_BYTES: Final = 32
_TIME_BYTES: Final = 8
_ADDRESS: Final = re.compile(r"0x[0-9A-Fa-f]{40}")


def challenge(operator: str, *, secret: bytes, now: int) -> bytes:
    """Return the challenge for this operator: the time, and what only the holder of ``secret`` can have made of it.

    ``now`` is in seconds since 1970-01-01 UTC. Raises InvalidField for an operator that is no address.
    """
    if not _ADDRESS.fullmatch(operator):
        raise InvalidField("operator", "must be 0x and 40 hex digits", value=operator, limit="0x + 40 hex digits")
    time = now.to_bytes(_TIME_BYTES, "big")
    made = hmac.new(secret, time + bytes.fromhex(operator[2:]), hashlib.sha256).digest()
    return time + made[: NONCE_BYTES - _TIME_BYTES]


def check_challenge(nonce: bytes, operator: str, *, secret: bytes, now: int, at: str = "tee_nonce") -> None:
    """Raise InvalidField unless the nonce is a challenge for this operator that is still good."""
    issued = int.from_bytes(nonce[:_TIME_BYTES], "big")
    if not hmac.compare_digest(nonce, challenge(operator, secret=secret, now=issued)):
        raise InvalidField(at, "is no challenge of this registry for this operator; ask ChallengeOperator", value=nonce.hex())
    if not 0 <= now - issued <= CHALLENGE_SECONDS:
        problem = f"was issued {now - issued} s ago; {CHALLENGE_SECONDS} s are taken"
        raise InvalidField(at, problem, value=now - issued, limit=CHALLENGE_SECONDS)
