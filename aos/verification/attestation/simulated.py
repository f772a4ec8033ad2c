"""A TEE for development, which proves nothing: documents of Nitro's shape under a root whose private key anybody can compute."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Final, cast

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from cwt import COSE, COSEKey

from aos.verification.attestation import nitro
from aos.verification.attestation.evidence import Evidence, Facts, Provider
from aos.verification.attestation.policy import Image
from aos.verification.attestation.statement import Statement

IMAGE: Final = "simulated"
"""What a policy calls the simulated program."""
WARNING: Final = "AOS simulated TEE: proves nothing"
"""The root's name, the first word of every module_id, and what the root's private key is computed from."""
CERTIFICATE_SECONDS: Final = 10_800
"""How long a simulated enclave's certificate is good; AWS's are for three hours, too."""

_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
"""Of P-384 (SEC 2, 2.5.1)."""
_BORN: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_ENDS: Final = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)


def measured() -> dict[int, bytes]:
    """Return the registers of the simulated program, the same in every process."""
    return {0: hashlib.sha384(WARNING.encode()).digest()}


def image() -> Image:
    """Return the simulated program as a policy that is not for production may trust it."""
    return Image(IMAGE, Provider.SIMULATED, {f"PCR{index}": value.hex() for index, value in measured().items()})


class SimulatedTee:
    """An enclave that is none, with the measurements it is given."""

    def __init__(self, pcrs: Mapping[int, bytes], *, now: int, name: str = "enclave") -> None:
        """``now``, in seconds since 1970-01-01 UTC, is when it starts; its certificate is good from then on for three hours."""
        self._pcrs, self._name = dict(pcrs), name
        self._key = ec.generate_private_key(ec.SECP384R1())
        self._certificate = _certificate(self._key, now=now, name=name)

    def attest(self, statement: Statement, *, now: int) -> Evidence:
        """Return simulated evidence for the statement."""
        payload: dict[str, object] = {
            "module_id": f"{WARNING}: {self._name}",
            "digest": "SHA384",
            "timestamp": now * 1000,
            "pcrs": self._pcrs,
            "certificate": self._certificate,
            "cabundle": [root().public_bytes(Encoding.DER)],
            "public_key": None,
            "user_data": statement.report_data,
            "nonce": statement.nonce,
        }
        return Evidence(Provider.SIMULATED, sign(cbor2.dumps(payload), self._key))


def read(evidence: Evidence, *, now: int) -> Facts:
    """Return what a simulated document says, checked as a Nitro document is, up to the simulation's root. Raises BadEvidence."""
    return nitro.read(evidence, now=now, root=root().public_bytes(Encoding.PEM))


def sign(payload: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the payload as an untagged COSE_Sign1 with ES384: as AWS sends them."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    signed = COSE.new().encode_and_sign(payload, COSEKey.from_pem(pem, alg="ES384"), protected={1: -35}, unprotected={})
    return cast("bytes", signed).removeprefix(b"\xd2")


@cache
def root() -> x509.Certificate:
    """Return the simulation's root certificate, the same in every process."""
    key, name = _root_key(), _name(WARNING)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(_BORN)
        .not_valid_after(_ENDS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384(), ecdsa_deterministic=True)
    )


def _root_key() -> ec.EllipticCurvePrivateKey:
    seed = int.from_bytes(hashlib.sha384(WARNING.encode()).digest())
    return ec.derive_private_key(seed % (_ORDER - 1) + 1, ec.SECP384R1())


def _certificate(key: ec.EllipticCurvePrivateKey, *, now: int, name: str) -> bytes:
    born = dt.datetime.fromtimestamp(now, dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(f"simulated {name}"))
        .issuer_name(_name(WARNING))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(born)
        .not_valid_after(born + dt.timedelta(seconds=CERTIFICATE_SECONDS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(_root_key().public_key()), critical=False)
        .sign(_root_key(), hashes.SHA384())
    )
    return certificate.public_bytes(Encoding.DER)


def _usage(*, certificates: bool) -> x509.KeyUsage:
    """Return what a key is for: signing certificates, or anything else."""
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
