"""What an operator's evidence must answer, so that it is fresh and for this network. Pure.

Nothing is kept of a challenge: that it is one shows in that only who knows a secret can have made it. All registries of a database
share their secrets, which change.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aos.errors import InvalidField
from aos.verification.attestation.statement import NONCE_BYTES

CHALLENGE_SECONDS: Final = 60
"""How long a challenge is good."""
SKEW_SECONDS: Final = 5
"""How far ahead the clock of the registry that made a challenge may be."""
SECRET_BYTES: Final = 32
SECRET_SECONDS: Final = 3600
"""How long challenges are made with one secret."""
_TIME_BYTES: Final = 8
_ADDRESS: Final = re.compile(r"0x[0-9A-Fa-f]{40}")


@dataclass(frozen=True, slots=True)
class Secret:
    """What challenges are made with. ``made`` is in seconds since 1970-01-01 UTC."""

    made: int
    value: bytes

    def old(self, now: int) -> bool:
        """Say whether challenges are to be made with another one."""
        return now - self.made >= SECRET_SECONDS


def rotated(known: Sequence[Secret], fresh: bytes, *, now: int) -> list[Secret]:
    """Return the secrets of challenges that are still good, the newest first: ``fresh`` if all are too old to go on with."""
    kept = [one for one in known if now - one.made < SECRET_SECONDS + CHALLENGE_SECONDS + SKEW_SECONDS]
    if all(one.old(now) for one in kept):
        kept.append(Secret(now, fresh))
    return sorted(kept, key=lambda one: (one.made, one.value), reverse=True)


def challenge(operator: str, *, secret: bytes, now: int) -> bytes:
    """Return the challenge for this operator: the time, and what only the holder of ``secret`` can have made of it.

    ``now`` is in seconds since 1970-01-01 UTC. Raises InvalidField for an operator that is no address.
    """
    if not _ADDRESS.fullmatch(operator):
        raise InvalidField("operator", "must be 0x and 40 hex digits", value=operator, limit="0x + 40 hex digits")
    time = now.to_bytes(_TIME_BYTES, "big")
    made = hmac.new(secret, time + bytes.fromhex(operator[2:]), hashlib.sha256).digest()
    return time + made[: NONCE_BYTES - _TIME_BYTES]


def made_here(nonce: bytes, operator: str, secrets: Sequence[Secret]) -> bool:
    """Say whether the nonce is a challenge for this operator that was made with one of these secrets."""
    issued = int.from_bytes(nonce[:_TIME_BYTES], "big")
    return any(hmac.compare_digest(nonce, challenge(operator, secret=one.value, now=issued)) for one in secrets)


def check_challenge(nonce: bytes, operator: str, *, secrets: Sequence[Secret], now: int, at: str = "tee_nonce") -> None:
    """Raise InvalidField unless the nonce is a challenge for this operator that is still good."""
    issued = int.from_bytes(nonce[:_TIME_BYTES], "big")
    if not made_here(nonce, operator, secrets):
        raise InvalidField(at, "is no challenge of this registry for this operator; ask ChallengeOperator", value=nonce.hex())
    if not -SKEW_SECONDS <= now - issued <= CHALLENGE_SECONDS:
        problem = f"was issued {now - issued} s ago; {CHALLENGE_SECONDS} s are taken"
        raise InvalidField(at, problem, value=now - issued, limit=CHALLENGE_SECONDS)
