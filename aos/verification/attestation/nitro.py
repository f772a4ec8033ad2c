"""AWS Nitro's attestation documents: COSE_Sign1 with ES384, and a certificate chain to a pinned root. Takes about 50 ms. Pure.

After "Nitro Enclaves Attestation Process" of aws/aws-nitro-enclaves-nsm-api, chapters 2 and 3; revocation lists are not asked for:
what signs a document lives for three hours.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final, cast

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store, VerificationError
from cwt import COSE, COSEKey

from aos.errors import BadEvidence
from aos.verification.attestation import cbor
from aos.verification.attestation.evidence import Evidence, Facts, Provider

ROOT_G1: Final = b"""-----BEGIN CERTIFICATE-----
MIICETCCAZagAwIBAgIRAPkxdWgbkK/hHUbMtOTn+FYwCgYIKoZIzj0EAwMwSTEL
MAkGA1UEBhMCVVMxDzANBgNVBAoMBkFtYXpvbjEMMAoGA1UECwwDQVdTMRswGQYD
VQQDDBJhd3Mubml0cm8tZW5jbGF2ZXMwHhcNMTkxMDI4MTMyODA1WhcNNDkxMDI4
MTQyODA1WjBJMQswCQYDVQQGEwJVUzEPMA0GA1UECgwGQW1hem9uMQwwCgYDVQQL
DANBV1MxGzAZBgNVBAMMEmF3cy5uaXRyby1lbmNsYXZlczB2MBAGByqGSM49AgEG
BSuBBAAiA2IABPwCVOumCMHzaHDimtqQvkY4MpJzbolL//Zy2YlES1BR5TSksfbb
48C8WBoyt7F2Bw7eEtaaP+ohG2bnUs990d0JX28TcPQXCEPZ3BABIeTPYwEoCWZE
h8l5YoQwTcU/9KNCMEAwDwYDVR0TAQH/BAUwAwEB/zAdBgNVHQ4EFgQUkCW1DdkF
R+eWw5b6cp3PmanfS5YwDgYDVR0PAQH/BAQDAgGGMAoGCCqGSM49BAMDA2kAMGYC
MQCjfy+Rocm9Xue4YnwWmNJVA44fA0P5W2OpYow9OYCVRaEevL8uO1XYru5xtMPW
rfMCMQCi85sWBbJwKKXdS6BptQFuZbT73o/gBh1qUxl/nNr12UO8Yfwr6wPLb+6N
IwLz3/Y=
-----END CERTIFICATE-----
"""
"""AWS Nitro Enclaves Root G1, good to 2049-10-28: a certificate that AWS publishes. ROOT_G1_SHA256 pins it."""
ROOT_G1_SHA256: Final = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"
"""Of its DER, as AWS states it: "Verifying the root of trust", Nitro Enclaves user guide."""

CERTIFICATE_BYTES: Final = 1024
BUNDLE_MAX: Final = 8
"""Most certificates above the one that signs; AWS sends four."""
PCRS_MAX: Final = 32
PCR_BYTES: Final = 48
"""Of SHA-384."""
USER_DATA_BYTES: Final = 512
"""Of user_data and nonce."""
PUBLIC_KEY_BYTES: Final = 1024
MODULE_ID_CHARS: Final = 256

_ES384: Final = {1: -35}
"""The protected header: RFC 9053, 2.1."""
_SIGN1: Final = b"\xd2"
"""CBOR's tag 18, which AWS leaves out."""
_PARTS: Final = 4
_REQUIRED: Final = frozenset({"module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"})
_OPTIONAL: Final = {"public_key": PUBLIC_KEY_BYTES, "user_data": USER_DATA_BYTES, "nonce": USER_DATA_BYTES}


def read(evidence: Evidence, *, now: int, root: bytes = ROOT_G1) -> Facts:
    """Return what a document says, once its signature and its certificates have been checked for the time ``now``.

    ``now`` is in seconds since 1970-01-01 UTC; ``root`` is another root's PEM, for simulations and tests. Raises BadEvidence.
    """
    evidence.check_size()
    provider = evidence.provider
    document = _untagged(evidence.document)
    payload = _payload(provider, document)
    fields = _fields(provider, payload)
    chain = _chain(provider, fields, x509.load_pem_x509_certificate(root), now)
    _check_signature(provider, document, payload, chain[0])
    pcrs = _pcrs(provider, fields["pcrs"])
    return Facts(
        provider=provider,
        measurements=pcrs,
        bound=_optional(provider, fields, "user_data") or b"",
        # the hypervisor zeroes the registers of an enclave that was started with --debug-mode
        debug=not any(bytes.fromhex(pcrs.get("PCR0", ""))),
        valid_from=max(_seconds(one.not_valid_before_utc) for one in chain),
        valid_to=min(_seconds(one.not_valid_after_utc) for one in chain),
        issued_at=fields["timestamp"] // 1000,
        nonce=_optional(provider, fields, "nonce"),
        public_key=_optional(provider, fields, "public_key"),
    )


def _untagged(document: bytes) -> bytes:
    return document.removeprefix(_SIGN1)


def _payload(provider: Provider, document: bytes) -> bytes:
    """Return what is signed. Of the spellings of one document only the shortest is read: nothing can hang on unseen."""
    parts = _decode(provider, "document", document)
    if not isinstance(parts, list) or len(cast("list[Any]", parts)) != _PARTS or cbor2.dumps(parts) != document:
        raise BadEvidence(provider, "document", "is no COSE_Sign1: an array of four, in CBOR's shortest form")
    protected, unprotected, payload, _ = cast("list[Any]", parts)
    if protected != cbor2.dumps(_ES384) or unprotected != {}:
        raise BadEvidence(provider, "document", "must be signed with ES384, as its protected header says, and with no other header")
    if not isinstance(payload, bytes):
        raise BadEvidence(provider, "document", "has no payload")
    return payload


def _fields(provider: Provider, payload: bytes) -> Mapping[str, Any]:
    """Return the payload's fields, those that are null left out."""
    decoded = _decode(provider, "payload", payload)
    if not isinstance(decoded, dict):
        raise BadEvidence(provider, "payload", "must be a map")
    given = cast("dict[object, Any]", decoded)
    fields = {name: value for name, value in given.items() if isinstance(name, str) and value is not None}
    if unknown := [name for name in given if name not in _REQUIRED and name not in _OPTIONAL]:
        raise BadEvidence(provider, "payload", "has a field that is none", value=unknown[0])
    if missing := sorted(_REQUIRED - fields.keys()):
        raise BadEvidence(provider, missing[0], "is missing")
    if not isinstance(fields["module_id"], str) or not 1 <= len(fields["module_id"]) <= MODULE_ID_CHARS:
        raise BadEvidence(provider, "module_id", f"must be 1 to {MODULE_ID_CHARS} characters", limit=MODULE_ID_CHARS)
    if fields["digest"] != "SHA384":
        raise BadEvidence(provider, "digest", "must be SHA384", value=fields["digest"], limit="SHA384")
    if type(fields["timestamp"]) is not int or not 0 < fields["timestamp"] < 1 << 63:
        raise BadEvidence(provider, "timestamp", "must be milliseconds since 1970-01-01 UTC", value=fields["timestamp"])
    return fields


def _pcrs(provider: Provider, pcrs: object) -> dict[str, str]:
    if not isinstance(pcrs, dict) or not 1 <= len(cast("dict[Any, Any]", pcrs)) <= PCRS_MAX:
        raise BadEvidence(provider, "pcrs", f"must be a map of 1 to {PCRS_MAX}", limit=PCRS_MAX)
    found: dict[str, str] = {}
    for index, value in cast("dict[Any, Any]", pcrs).items():
        if type(index) is not int or not 0 <= index < PCRS_MAX:
            raise BadEvidence(provider, "pcrs", f"has an index that is not 0 to {PCRS_MAX - 1}", value=index, limit=PCRS_MAX - 1)
        if not isinstance(value, bytes) or len(value) != PCR_BYTES:
            raise BadEvidence(provider, "pcrs", f"PCR{index} must have {PCR_BYTES} bytes", limit=PCR_BYTES)
        found[f"PCR{index}"] = value.hex()
    return found


def _optional(provider: Provider, fields: Mapping[str, Any], name: str) -> bytes | None:
    value, limit = fields.get(name), _OPTIONAL[name]
    if value is not None and not (isinstance(value, bytes) and len(value) <= limit):
        raise BadEvidence(provider, name, f"must have {limit} bytes at most", limit=limit)
    return value


def _chain(provider: Provider, fields: Mapping[str, Any], root: x509.Certificate, now: int) -> list[x509.Certificate]:
    """Return the certificates, from the one that signs up to the root, once they are known to hold."""
    bundle = fields["cabundle"]
    if not isinstance(bundle, list) or not 1 <= len(cast("list[Any]", bundle)) <= BUNDLE_MAX:
        raise BadEvidence(provider, "cabundle", f"must be a list of 1 to {BUNDLE_MAX}", limit=BUNDLE_MAX)
    # AWS's order: the root first, then down; the root that counts is the one that is pinned
    above = [_certificate(provider, "cabundle", one) for one in cast("list[Any]", bundle)]
    leaf = _certificate(provider, "certificate", fields["certificate"])
    if above[0] != root:
        raise BadEvidence(provider, "cabundle", "begins with another root than the pinned one", value=above[0].subject)
    ends = ExtensionPolicy.permit_all().require_present(x509.KeyUsage, Criticality.AGNOSTIC, _signs)
    verifier = (
        PolicyBuilder()
        .store(Store([root]))
        .time(dt.datetime.fromtimestamp(now, dt.UTC))
        .max_chain_depth(BUNDLE_MAX)
        .extension_policies(ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=ends)
        .build_client_verifier()
    )
    try:
        return list(verifier.verify(leaf, above[1:]).chain)
    except (VerificationError, ValueError) as error:
        raise BadEvidence(provider, "certificate", f"does not chain to the root at {now}: {error}", value=now) from None


def _certificate(provider: Provider, field: str, der: object) -> x509.Certificate:
    if not isinstance(der, bytes) or not 1 <= len(der) <= CERTIFICATE_BYTES:
        raise BadEvidence(provider, field, f"must have 1 to {CERTIFICATE_BYTES} bytes a certificate", limit=CERTIFICATE_BYTES)
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise BadEvidence(provider, field, f"is no certificate: {error}") from None


def _signs(_policy: Policy, _leaf: x509.Certificate, usage: x509.KeyUsage) -> None:
    """Raise ValueError for a certificate whose key is not for signing."""
    if not usage.digital_signature:
        raise ValueError("its key is not for digital signatures")


def _check_signature(provider: Provider, document: bytes, payload: bytes, leaf: x509.Certificate) -> None:
    key = leaf.public_key()
    if not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1)):
        raise BadEvidence(provider, "certificate", "its key is not of P-384")
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    try:
        signed = COSE.new().decode(_SIGN1 + document, COSEKey.from_pem(pem, alg="ES384"))
    except Exception:  # cwt and what it stands on raise several kinds
        raise BadEvidence(provider, "signature", "is not of the certificate's key, or the contents were changed") from None
    if signed != payload:
        raise BadEvidence(provider, "signature", "is of something else")


def _decode(provider: Provider, field: str, data: bytes) -> object:
    try:
        return cbor.decode(data)
    except ValueError as error:
        raise BadEvidence(provider, field, f"is {error}") from None


def _seconds(when: dt.datetime) -> int:
    return int(when.timestamp())
