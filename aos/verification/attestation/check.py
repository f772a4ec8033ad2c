"""From an operator's evidence to what it attests, in one call. Up to 50 ms of arithmetic: not for an event loop. Pure."""

from __future__ import annotations

from aos.verification.attestation import nitro, quote, simulated
from aos.verification.attestation.evidence import Attested, Evidence, Facts, Provider
from aos.verification.attestation.policy import Policy, appraise
from aos.verification.attestation.statement import Statement


def check(evidence: Evidence, statement: Statement, *, policy: Policy, now: int) -> Attested:
    """Return what the evidence attests: that the statement was made in an image that the policy trusts.

    ``now`` is in seconds since 1970-01-01 UTC. Raises BadEvidence, whatever the evidence holds; of providers that the policy
    has no use for nothing is read.
    """
    policy.admit(evidence.provider)
    return appraise(read(evidence, now=now), statement, policy=policy, now=now)


def read(evidence: Evidence, *, now: int) -> Facts:
    """Return what the evidence's provider signed. Raises BadEvidence."""
    match evidence.provider:
        case Provider.INTEL_TDX | Provider.INTEL_SGX:
            return quote.read(evidence, now=now)
        case Provider.AWS_NITRO:
            return nitro.read(evidence, now=now)
        case Provider.SIMULATED:
            return simulated.read(evidence, now=now)
