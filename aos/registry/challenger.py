"""Challenges with the secrets that all registries of a database share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aos.registry.challenges import SECRET_BYTES, Secret, challenge, check_challenge, made_here, rotated
from aos.registry.store import SecretStore


class Challenger:
    """Makes challenges, and knows those that any registry of the database made.

    The database is asked once in a secret's time, and when somebody shows a challenge that is not known.
    """

    def __init__(self, store: SecretStore, randomness: Callable[[int], bytes]) -> None:
        self._store, self._randomness = store, randomness
        self._secrets: Sequence[Secret] = ()

    async def make(self, operator: str, *, now: int) -> bytes:
        """Return the challenge for this operator, at ``now`` seconds since 1970-01-01 UTC. Raises InvalidField."""
        if not self._secrets or self._secrets[0].old(now):
            await self._read(now)
        return challenge(operator, secret=self._secrets[0].value, now=now)

    async def check(self, nonce: bytes, operator: str, *, now: int) -> None:
        """Raise InvalidField unless the nonce is a challenge for this operator that is still good."""
        if not made_here(nonce, operator, self._secrets):
            await self._read(now)  # another registry may have begun a new secret
        check_challenge(nonce, operator, secrets=self._secrets, now=now)

    async def _read(self, now: int) -> None:
        fresh = self._randomness(SECRET_BYTES)
        self._secrets = await self._store.secrets(lambda known: rotated(known, fresh, now=now))
