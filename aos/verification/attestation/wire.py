"""Evidence as it is sent, signed and shown. Pure."""

from __future__ import annotations

import hashlib
from typing import Final

from eth_account.messages import SignableMessage

from aos.errors import BadEvidence
from aos.v1.attestation_pb2 import Attestation, TeeProvider
from aos.v1.attestation_pb2 import Attested as AttestedMessage
from aos.v1.receipt_pb2 import Receipt
from aos.verification.attestation.evidence import Attested, Evidence, Provider
from aos.verification.keys import OperatorKey, signer, statement
from aos.verification.receipts import address
from aos.verification.receipts import digest as receipt_digest

PROVIDERS: Final = {
    Provider.INTEL_TDX: TeeProvider.TEE_PROVIDER_INTEL_TDX,
    Provider.INTEL_SGX: TeeProvider.TEE_PROVIDER_INTEL_SGX,
    Provider.AWS_NITRO: TeeProvider.TEE_PROVIDER_AWS_NITRO,
    Provider.SIMULATED: TeeProvider.TEE_PROVIDER_SIMULATED,
}
"""As messages carry them."""
NAMES: Final = {number: provider for provider, number in PROVIDERS.items()}
SIGNATURE_BYTES: Final = 65

_FIELDS: Final = [("receipt", "bytes32"), ("provider", "string"), ("document", "bytes32"), ("collateral", "bytes32")]


def read_attestation(message: Attestation) -> Evidence:
    """Return the evidence that the message carries. Raises BadEvidence for an unknown provider, or what is too large to be read."""
    provider = NAMES.get(message.provider)
    if provider is None:
        raise BadEvidence("an unknown provider", "provider", f"must be of {', '.join(Provider)}", value=message.provider)
    evidence = Evidence(provider, message.document, message.collateral)
    evidence.check_size()
    return evidence


def write_attestation(evidence: Evidence) -> Attestation:
    """Return the evidence as it is sent, unsigned: with a declaration."""
    return Attestation(provider=PROVIDERS[evidence.provider], document=evidence.document, collateral=evidence.collateral)


def evidence_digest(evidence: Evidence) -> bytes:
    """Return what a registration's proof says of the evidence: 32 bytes."""
    return hashlib.sha256(evidence.provider.encode() + _digest(evidence.document) + _digest(evidence.collateral)).digest()


def sign_answer(evidence: Evidence, receipt: Receipt, key: OperatorKey) -> Attestation:
    """Return the evidence as it is sent with the answer of the receipt: signed, so that false evidence stays its operator's."""
    message = write_attestation(evidence)
    message.signature = key.sign(_said(evidence, receipt))
    return message


def check_signed(message: Attestation, receipt: Receipt) -> None:
    """Raise BadSignature unless the operator of the receipt, which is signed, sent this evidence with it; BadEvidence as above."""
    signer(_said(read_attestation(message), receipt), message.signature, address(receipt))


def write_attested(found: Attested, *, now: int) -> AttestedMessage:
    """Return what evidence was taken for as it is shown; ``now`` is in seconds since 1970-01-01 UTC."""
    return AttestedMessage(
        provider=PROVIDERS[found.provider],
        image=found.image,
        measurements=found.measurements,
        key=found.key,
        binding=found.binding,
        tcb_status=found.tcb_status,
        verified=now,
    )


def _said(evidence: Evidence, receipt: Receipt) -> SignableMessage:
    message = {
        "receipt": receipt_digest(receipt),
        "provider": evidence.provider.value,
        "document": _digest(evidence.document),
        "collateral": _digest(evidence.collateral),
    }
    return statement("Attestation", _FIELDS, message)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
