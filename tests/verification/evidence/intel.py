"""TDX quotes under a root of our own: the published quote's platform, with every key and signature made anew."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from aos.verification.attestation.evidence import Evidence, Provider
from tests.verification.evidence import TDX, published

SGX_EXTENSION = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
HEADER, REPORT, QE_REPORT = 48, 584, 384
REPORT_DATA, TD_ATTRIBUTES = 520, 120
"""Where they stand in a TD report 1.0."""
BORN = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
ENDS = dt.datetime(2049, 1, 1, tzinfo=dt.UTC)

Key = ec.EllipticCurvePrivateKey


def _raw(signer: Key, data: bytes) -> bytes:
    """An ECDSA signature as Intel writes them: r and s, 32 bytes each."""
    r, s = decode_dss_signature(signer.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def _point(key: Key) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


class Authority:
    """A certificate of our own, and the key for it."""

    def __init__(self, name: str, by: Authority | None = None, *, ca: bool = True, extra: x509.ExtensionType | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.COUNTRY_NAME, "US")])
        issuer = by or self
        usage = dict.fromkeys(
            ("key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
            False,
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(BORN)
            .not_valid_after(ENDS)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(
                x509.KeyUsage(digital_signature=not ca, content_commitment=not ca, key_cert_sign=ca, crl_sign=ca, **usage),
                critical=True,
            )
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if extra:
            builder = builder.add_extension(extra, critical=False)
        self.certificate = builder.sign(issuer.key, hashes.SHA256())

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def revocations(self, *revoked: Authority) -> str:
        """Its list of revoked certificates, as hex."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(BORN).next_update(ENDS)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
        ).add_extension(x509.CRLNumber(1), critical=False)
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number).revocation_date(BORN)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER).hex()


@cache
def authorities() -> tuple[Authority, Authority, Authority, Authority]:
    """Root, platform CA, the platform's own certificate with the published one's extension, and the signer of TCB info."""
    document = published(TDX).document
    pem = document[document.index(b"-----BEGIN CERTIFICATE-----") :].rstrip(b"\0\n")
    leaf = x509.load_pem_x509_certificates(pem)[0]
    extension = leaf.extensions.get_extension_for_oid(SGX_EXTENSION).value
    root = Authority("our SGX root CA")
    platform = Authority("our PCK platform CA", root)
    return root, platform, Authority("our PCK", platform, ca=False, extra=extension), Authority("our TCB signer", root, ca=False)


def root_der() -> bytes:
    return authorities()[0].certificate.public_bytes(Encoding.DER)


def quote(report_data: bytes, *, td_attributes: int = 0, status: str = "UpToDate", revoked: bool = False) -> Evidence:
    """A quote of the published TD with other report_data, under our root; it holds when the published one holds.

    ``td_attributes`` is their first byte; ``status`` is what is said of a platform that is up to date.
    """
    root, platform, pck, tcb = authorities()
    old = published(TDX).document
    body = bytearray(old[: HEADER + REPORT])
    body[HEADER + REPORT_DATA : HEADER + REPORT_DATA + 64] = report_data
    body[HEADER + TD_ATTRIBUTES] = td_attributes
    attestation = ec.generate_private_key(ec.SECP256R1())
    qe_at = HEADER + REPORT + 4 + 64 + 64 + 6
    nothing = bytes(32)  # the quoting enclave's own data, of any length
    qe_report = bytearray(old[qe_at : qe_at + QE_REPORT])
    qe_report[320:352] = hashlib.sha256(_point(attestation) + nothing).digest()
    chain = (pck.pem + platform.pem + root.pem).encode()
    certified = bytes(qe_report) + _raw(pck.key, bytes(qe_report)) + len(nothing).to_bytes(2, "little") + nothing
    certified += (5).to_bytes(2, "little") + len(chain).to_bytes(4, "little") + chain
    signed = _raw(attestation, bytes(body)) + _point(attestation)
    signed += (6).to_bytes(2, "little") + len(certified).to_bytes(4, "little") + certified
    document = bytes(body) + len(signed).to_bytes(4, "little") + signed
    collateral = json.loads(published(TDX).collateral) | {
        "pck_crl_issuer_chain": platform.pem + root.pem,
        "tcb_info_issuer_chain": tcb.pem + root.pem,
        "qe_identity_issuer_chain": tcb.pem + root.pem,
        "root_ca_crl": root.revocations(),
        "pck_crl": platform.revocations(*[pck] * revoked),
    }
    said = json.loads(collateral["tcb_info"])
    for level in said["tcbLevels"]:
        level["tcbStatus"] = status if level["tcbStatus"] == "UpToDate" else level["tcbStatus"]
    collateral["tcb_info"] = json.dumps(said)
    for field in ("tcb_info", "qe_identity"):
        collateral[f"{field}_signature"] = _raw(tcb.key, collateral[field].encode()).hex()
    return Evidence(Provider.INTEL_TDX, document, json.dumps(collateral).encode())
