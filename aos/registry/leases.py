"""Registrations as leases: how they begin, go on, lapse and end, and which proofs have been used. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from aos.errors import BadSignature, LeaseExpired, OperatorNotFound
from aos.registry.offers import Offer
from aos.v1.attestation_pb2 import Attested

SAME_SECOND: Final = 16
"""Most different proofs of one operator with the same `issued_at`."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof whose signature has been checked: when it was made, and a digest of what it says."""

    issued_at: int
    says: str


@dataclass(frozen=True, slots=True)
class Offered:
    """An offer, and since when this operator makes it for these weights."""

    offer: Offer
    since: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """The time that an operator has. It lapses at ``expires``, or ends at ``left`` if the operator says so."""

    operator: str
    """`0x` and 40 lower-case hex digits."""
    registered: datetime
    """When it first registered."""
    expires: datetime
    left: datetime | None = None

    @property
    def ends(self) -> datetime:
        """When it ends, or ended."""
        return self.expires if self.left is None else min(self.left, self.expires)

    def live(self, now: datetime) -> bool:
        """Say whether the operator is there."""
        return now < self.ends

    def claims(self, now: datetime, claim: timedelta) -> bool:
        """Say whether what the operator offered first still counts as first: until it leaves, or ``claim`` after it lapsed."""
        return self.left is None and now < self.expires + claim

    def why_not(self, now: datetime) -> str:
        """Say in words why the operator is not there; empty if it is."""
        if self.live(now):
            return ""
        if self.left is not None:
            return f"unregistered {_ago(now - self.left)}"
        return f"lease expired {_ago(now - self.expires)}"


@dataclass(frozen=True, slots=True)
class Registration:
    """All that is kept of one operator."""

    lease: Lease
    offers: tuple[Offered, ...]
    issued_at: int
    """Of the latest proof."""
    used: tuple[str, ...]
    """What the proofs of that second said, oldest first."""
    vrf_key: bytes = b""
    """32 bytes; empty if it has none."""
    vrf_key_since: datetime | None = None
    """When this key was registered."""
    attested: Attested | None = None
    """What the evidence that came with it was taken for; None: there was none. It ends with the lease."""
    noted: bool = False
    """Whether the audit log has been told that it lapsed."""


def register(
    before: Registration | None,
    operator: str,
    offers: Sequence[Offer],
    proof: Proof,
    *,
    now: datetime,
    lease: timedelta,
    claim: timedelta,
    vrf_key: bytes = b"",
    attested: Attested | None = None,
) -> Registration:
    """Return the registration that offers these models, with this VRF key and evidence, from now on.

    The same proof again changes nothing while it is what holds. Raises BadSignature for a proof that is out of order or used up.
    """
    if before is not None and _used(before, proof):
        same = tuple(one.offer for one in before.offers) == tuple(offers) and before.vrf_key == vrf_key
        if before.lease.live(now) and same and _binding(before.attested) == _binding(attested):
            return before
        raise BadSignature(operator, "it was used before; sign a later one")
    # the key that it had is in force since then; another one is new, however often it was there before
    kept = before.vrf_key_since if before is not None and before.vrf_key == vrf_key else now
    earlier = {one.offer.model: one for one in before.offers} if before is not None and before.lease.claims(now, claim) else {}
    return Registration(
        lease=Lease(operator, before.lease.registered if before is not None else now, now + lease),
        offers=tuple(Offered(offer, _since(earlier.get(offer.model), offer, now)) for offer in offers),
        issued_at=proof.issued_at,
        used=_using(before, operator, proof),
        vrf_key=vrf_key,
        vrf_key_since=kept if vrf_key else None,
        attested=attested,
    )


def renew(before: Registration | None, operator: str, proof: Proof, *, now: datetime, lease: timedelta) -> Registration:
    """Return the registration with its time begun anew. Raises LeaseExpired unless it is live, BadSignature as above."""
    if before is None or not before.lease.live(now):
        raise LeaseExpired(operator)
    if _used(before, proof):
        return before
    used = _using(before, operator, proof)
    return replace(before, lease=replace(before.lease, expires=now + lease), issued_at=proof.issued_at, used=used)


def unregister(before: Registration | None, operator: str, proof: Proof, *, now: datetime) -> Registration:
    """Return the registration ended by its operator. Raises OperatorNotFound if there is none to end, BadSignature as above."""
    if before is None or before.lease.left is not None:
        raise OperatorNotFound(f"operators/{operator}")
    used = _using(before, operator, proof)
    return replace(before, lease=replace(before.lease, left=now), issued_at=proof.issued_at, used=used)


def _binding(attested: Attested | None) -> bytes:
    return b"" if attested is None else attested.binding


def _since(earlier: Offered | None, offer: Offer, now: datetime) -> datetime:
    return earlier.since if earlier is not None and earlier.offer.digest == offer.digest else now


def _used(before: Registration, proof: Proof) -> bool:
    return proof.issued_at == before.issued_at and proof.says in before.used


def _using(before: Registration | None, operator: str, proof: Proof) -> tuple[str, ...]:
    """Return what has been said in the proof's second, the proof included."""
    if before is None or proof.issued_at > before.issued_at:
        return (proof.says,)
    if proof.issued_at < before.issued_at:
        raise BadSignature(operator, "a later one was used before")
    if proof.says in before.used or len(before.used) >= SAME_SECOND:
        raise BadSignature(operator, "it was used before; sign a later one")
    return (*before.used, proof.says)


def _ago(time: timedelta) -> str:
    seconds = int(time.total_seconds())
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"
