"""Intel's quotes: TDX and SGX with DCAP, checked by dcap-qvl up to Intel's root. Takes about 10 ms: not for an event loop. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

from dcap_qvl import QuoteCollateralV3, QuotePolicy, QuoteVerifier, verify, verify_with_root_ca

from aos.errors import BadEvidence
from aos.verification.attestation.evidence import Evidence, Facts, Provider

TDX_TEE: Final = 0x81
"""tee_type of a quote's header; 0 is SGX."""

_TD_DEBUG: Final = 0xFF
"""Of TDATTRIBUTES' first byte, the group TUD: each of its bits makes a TD one that is not to be trusted (Intel TDX module)."""
_SGX_DEBUG: Final = 0x02
"""Of ATTRIBUTES' first byte (Intel SDM, volume 3D, 35.7.1)."""
_TD: Final = {
    "MRTD": "mr_td",
    "RTMR0": "rt_mr0",
    "RTMR1": "rt_mr1",
    "RTMR2": "rt_mr2",
    "RTMR3": "rt_mr3",
    "MRCONFIGID": "mr_config_id",
    "MROWNER": "mr_owner",
    "MROWNERCONFIG": "mr_owner_config",
}
_SGX: Final = {"MRENCLAVE": "mr_enclave", "MRSIGNER": "mr_signer"}


def read(evidence: Evidence, *, now: int, root: bytes | None = None) -> Facts:
    """Return what a quote says, once its signature, its certificates and its collateral have been checked for the time ``now``.

    ``now`` is in seconds since 1970-01-01 UTC; ``root`` is the DER of another root than Intel's, for tests. Raises BadEvidence.
    """
    evidence.check_size()
    provider = evidence.provider
    try:
        collateral = QuoteCollateralV3.from_json(evidence.collateral.decode())
    except ValueError as error:
        raise BadEvidence(provider, "collateral", f"cannot be read: {error}") from None
    try:
        # which statuses are taken is the policy's business: here only signatures, chains and dates are judged
        claims = QuoteVerifier(root).verify_with_policy(evidence.document, collateral, now, QuotePolicy.claims_only(now))
    except ValueError as error:
        raise BadEvidence(provider, "document", _reason(evidence.document, collateral, now, root) or _line(error)) from None
    return _facts(provider, json.loads(claims.to_json()))


def _facts(provider: Provider, claims: dict[str, Any]) -> Facts:
    tdx = claims["tee_type"] == TDX_TEE
    if tdx != (provider is Provider.INTEL_TDX):
        raise BadEvidence(provider, "provider", f"the quote is of {'TDX' if tdx else 'SGX'}")
    (report,) = claims["report"].values()
    while "base" in report:  # later versions of the TD report wrap the earlier one
        report = report["base"]
    measurements: dict[str, str] = {name: report[key] for name, key in (_TD if tdx else _SGX).items()}
    if not tdx:
        measurements |= {"ISVPRODID": f"{report['isv_prod_id']:04x}", "ISVSVN": f"{report['isv_svn']:04x}"}
    attributes = bytes.fromhex(report["td_attributes" if tdx else "attributes"])
    return Facts(
        provider=provider,
        measurements=measurements,
        bound=bytes.fromhex(report["report_data"]),
        debug=bool(attributes[0] & (_TD_DEBUG if tdx else _SGX_DEBUG)),
        valid_from=max(claims["latest_issue_date"], claims["qe_iden_latest_issue_date"]),
        valid_to=min(claims["earliest_expiration_date"], claims["qe_iden_earliest_expiration_date"]),
        tcb_status=claims["tcb"]["status"],
        advisories=tuple(claims["tcb"]["advisory_ids"]),
    )


def _reason(document: bytes, collateral: QuoteCollateralV3, now: int, root: bytes | None) -> str:
    """Return why it is refused: dcap-qvl's older call says what lies behind, `CertRevoked` say, where the newer one is silent."""
    try:
        verify(document, collateral, now) if root is None else verify_with_root_ca(document, collateral, root, now)
    except ValueError as error:
        return _line(error)
    return ""


def _line(error: ValueError) -> str:
    return " ".join(str(error).split())
