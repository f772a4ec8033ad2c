"""What comes in: a provider's document, and what it says once its signatures have been checked. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aos.errors import BadEvidence

DOCUMENT_BYTES: Final = 16384
"""Largest quote or document that is read; published ones have about 5000."""
COLLATERAL_BYTES: Final = 131_072
"""Largest collateral that is read; published ones have up to 25000."""


class Provider(enum.StrEnum):
    """Whose word the evidence is."""

    INTEL_TDX = "intel_tdx"
    INTEL_SGX = "intel_sgx"
    AWS_NITRO = "aws_nitro"
    SIMULATED = "simulated"
    """Nobody's: its signing key is public. For development."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an operator hands in. Nothing of it has been checked."""

    provider: Provider
    document: bytes
    """A DCAP quote, version 3 to 5, or a COSE_Sign1 attestation document."""
    collateral: bytes = b""
    """Of quotes: Intel's signed statements about the platform, as dcap-qvl's JSON. Whoever fetched it need not be trusted."""

    def check_size(self) -> None:
        """Raise BadEvidence for what is too large to be read."""
        for field, data, limit in (
            ("document", self.document, DOCUMENT_BYTES),
            ("collateral", self.collateral, COLLATERAL_BYTES),
        ):
            if len(data) > limit:
                raise BadEvidence(
                    self.provider, field, f"has {len(data)} bytes; at most {limit} are read", value=len(data), limit=limit
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the provider signed. Whether that is enough is for a policy to say."""

    provider: Provider
    measurements: Mapping[str, str]
    """What runs, by register: `MRTD`, `RTMR0`, `MRENCLAVE`, `PCR0` and so on, as lower-case hex."""
    bound: bytes
    """What the code inside asked to have signed: report_data, 64 bytes, or user_data; empty for none."""
    debug: bool
    """Whether the host can look inside."""
    valid_from: int
    """When the youngest of the certificates and statements behind it began to hold, in seconds since 1970-01-01 UTC."""
    valid_to: int
    """When the first of them ends."""
    tcb_status: str = ""
    """Intel's word on the platform's patches; empty for other providers."""
    advisories: tuple[str, ...] = ()
    """Intel's security advisories that concern the platform."""
    issued_at: int | None = None
    """When it was made; quotes do not say."""
    nonce: bytes | None = None
    """The document's own nonce; quotes have none."""
    public_key: bytes | None = None
    """The document's own key; quotes have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """Evidence that was taken: this key, in this image, on such a platform, made this statement."""

    provider: Provider
    image: str
    """Name of the policy's image that it runs."""
    measurements: Mapping[str, str]
    key: str
    """Address of the secp256k1 key that is in the enclave's hands: `0x` and 40 hex digits, in EIP-55 mixed case."""
    binding: bytes
    """The statement, 64 bytes."""
    tcb_status: str
    valid_from: int
    """In seconds since 1970-01-01 UTC, as is ``valid_to``: the time in which the same evidence would verify again."""
    valid_to: int
