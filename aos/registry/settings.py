"""What a registry can be told."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Final

from aos.addresses import LOOPBACK, Network
from aos.registry.replicas import Terms
from aos.verification.attestation.policy import Policy
from aos.verification.keys import PROOF_SECONDS

SHORTEST_LEASE: Final = 2.0
"""Seconds. Proofs count whole seconds and are good once, so a lease of a second could not be renewed in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """How long registrations last and how many there may be. Raises ValueError, naming the setting, for a value that cannot be."""

    lease: float = 30.0
    """Seconds that a registration lasts unless it is renewed."""
    claim: float = 300.0
    """Seconds that a lapsed operator still decides which weights its models' names stand for."""
    forget_after: float = 86_400.0
    """Seconds that an operator that lapsed or left stays listed."""
    operators: int = 10_000
    """Most operators that are known at once, lapsed ones too."""
    declarations: int = 64
    """Most operators whose evidence of trusted execution is verified or waits for that; more are refused."""
    tee: Policy = field(default_factory=Policy)
    """Which evidence makes an operator's key attested; by default none is taken."""
    projects: int = 10_000
    """Most AI projects that are known at once, lapsed ones and those that are gone and remembered too."""
    replica_lease: float = 30.0
    """Seconds that a replica is good for after its operator has reported it; operators report three times in that time."""
    drain: float = 600.0
    """Seconds that running requests of a replica that was unregistered get to end."""
    watchers: int = 20_000
    """Most streams of changes at once: one an operator, and one a dispatcher."""
    api_networks: Collection[Network] = LOOPBACK
    """Networks that the URLs of replicas may lead to: the operator's own machine, unless exceptions are named."""
    unsigned: bool = False
    """Whether AI projects are registered without a proof: in loopback development mode only."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
                raise ValueError(f"{one.name}: must be above 0, not {value}")
        if not self.api_networks:
            raise ValueError("api_networks: must name at least one network")
        if self.lease < SHORTEST_LEASE:
            raise ValueError(f"lease: must be at least {SHORTEST_LEASE:g}, not {self.lease:g}")
        # a proof that could still be used again must not be forgotten
        least = 2 * PROOF_SECONDS
        if self.forget_after < max(least, self.claim):
            raise ValueError(f"forget_after: must be at least {least} and at least claim, not {self.forget_after:g}")

    @property
    def terms(self) -> Terms:
        """How long replicas last."""
        seconds = (self.replica_lease, self.drain, self.forget_after)
        return Terms(*(timedelta(seconds=one) for one in seconds))
