"""AWS Nitro's documents: a published one, and ones of our own root with everything that can be wrong about them."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import replace
from functools import cache
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.errors import BadEvidence
from aos.verification.attestation.evidence import DOCUMENT_BYTES, Evidence, Provider
from aos.verification.attestation.nitro import BUNDLE_MAX, ROOT_G1, ROOT_G1_SHA256, read
from aos.verification.attestation.simulated import sign
from tests.verification.evidence import NITRO, NOW, flipped, published

START = 1_800_000_000
HOUR = 3600


def name_of(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """A certificate of our own, and the key for it."""

    def __init__(self, name: str, by: Authority | None = None, *, ca: bool = True, curve: Any = None, signs: bool = True) -> None:
        self.key = ec.generate_private_key(curve or ec.SECP384R1())
        issuer = by or self
        start = dt.datetime.fromtimestamp(START - HOUR, dt.UTC)
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
            False,
        )
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name_of(name))
            .issuer_name(issuer.certificate.subject if by else name_of(name))
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + dt.timedelta(hours=3))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(digital_signature=signs and not ca, key_cert_sign=ca, crl_sign=ca, **usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
            .sign(issuer.key, hashes.SHA384())
        )

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


@cache
def chain() -> tuple[Authority, Authority, Authority]:
    """A root, one below it, and one that signs documents."""
    root = Authority("our root")
    zone = Authority("our zone", root)
    return root, zone, Authority("our enclave", zone, ca=False)


def payload(**changes: Any) -> dict[str, Any]:
    root, zone, leaf = chain()
    fields = {
        "module_id": "i-0-enc0",
        "digest": "SHA384",
        "timestamp": START * 1000,
        "pcrs": {0: b"\1" * 48, 1: b"\2" * 48, 2: b"\3" * 48},
        "certificate": leaf.der,
        "cabundle": [root.der, zone.der],
        "public_key": None,
        "user_data": b"bound",
        "nonce": b"fresh",
    }
    return {name: value for name, value in (fields | changes).items() if value is not ...}


def document(*, by: Authority | None = None, **changes: Any) -> Evidence:
    return Evidence(Provider.AWS_NITRO, sign(cbor2.dumps(payload(**changes)), (by or chain()[2]).key))


def read_own(evidence: Evidence, *, now: int = START) -> Any:
    return read(evidence, now=now, root=chain()[0].certificate.public_bytes(Encoding.PEM))


def refusal(evidence: Evidence, *, now: int = START) -> str:
    """The field for which it is refused."""
    with pytest.raises(BadEvidence) as refused:
        read_own(evidence, now=now)
    return refused.value.facts["field"]


def shared(levels: int) -> bytes:
    """Lists that hold the one below twice, by reference: a few hundred bytes that are 2^levels items."""
    item = b"\xd8\x1c\x80"
    for level in range(levels):
        item = b"\xd8\x1c\x82" + item + b"\xd8\x1d" + cbor2.dumps(levels - level)
    return item


class TestThePublishedDocument:
    def test_verifies_at_its_time(self):
        """Signature and chain hold up to AWS's own root; what the hypervisor measured comes out."""
        facts = read(published(NITRO), now=NOW[NITRO])
        assert facts.measurements["PCR0"].startswith("ec74bfbe7f7445a6")
        assert facts.measurements["PCR4"].endswith("1207c2c09dde609f87481b6f6c94")
        assert len(facts.measurements) == 16
        assert (facts.issued_at, facts.debug, facts.bound, facts.nonce) == (NOW[NITRO], False, b"", None)
        assert facts.public_key is not None
        assert facts.public_key.hex().startswith("0433a4701fa871b1")

    def test_holds_for_three_hours(self):
        """Until the certificate that signed it ends, and from its beginning, to the second."""
        facts = read(published(NITRO), now=NOW[NITRO])
        assert facts.valid_to - facts.valid_from == 3 * HOUR + 3
        for now in (facts.valid_from, facts.valid_to):
            assert read(published(NITRO), now=now) == facts
        for now in (facts.valid_from - 1, facts.valid_to + 1):
            with pytest.raises(BadEvidence) as refused:
                read(published(NITRO), now=now)
            assert refused.value.facts["field"] == "certificate"

    def test_chains_to_the_root_that_aws_states(self):
        """The pinned root is the one whose fingerprint AWS publishes."""
        der = x509.load_pem_x509_certificate(ROOT_G1).public_bytes(Encoding.DER)
        assert hashlib.sha256(der).hexdigest() == ROOT_G1_SHA256

    @settings(max_examples=60, deadline=None)
    @given(bit=st.integers(0, 8 * 4528 - 1))
    def test_has_no_bit_that_can_be_flipped(self, bit):
        """Any bit, changed, is refused: headers, payload, certificates, signature and the CBOR around them."""
        evidence = published(NITRO)
        assert len(evidence.document) == 4528
        with pytest.raises(BadEvidence):
            read(replace(evidence, document=flipped(evidence.document, bit)), now=NOW[NITRO])

    def test_may_carry_its_tag(self):
        """COSE_Sign1's tag 18, which AWS leaves out, changes nothing."""
        evidence = published(NITRO)
        assert read(replace(evidence, document=b"\xd2" + evidence.document), now=NOW[NITRO]) == read(evidence, now=NOW[NITRO])

    @pytest.mark.parametrize("extra", [b"\0", b"\xf6", b"\xd2"])
    def test_has_nothing_behind_it(self, extra):
        """Bytes after the document are refused."""
        evidence = published(NITRO)
        with pytest.raises(BadEvidence):
            read(replace(evidence, document=evidence.document + extra), now=NOW[NITRO])


class TestChains:
    def test_a_chain_of_our_own_holds_under_our_root(self):
        """The documents that the refusals below are changed from are good."""
        facts = read_own(document())
        assert (facts.bound, facts.nonce, facts.issued_at, facts.debug) == (b"bound", b"fresh", START, False)
        assert facts.measurements["PCR2"] == "03" * 48

    def test_our_root_is_not_awss(self):
        """A document that is good under another root is refused under AWS's."""
        with pytest.raises(BadEvidence) as refused:
            read(document(), now=START)
        assert refused.value.facts["field"] == "cabundle"

    def test_the_pinned_root_must_have_signed(self):
        """To show AWS's root and another's certificates is not enough."""
        shown = x509.load_pem_x509_certificate(ROOT_G1).public_bytes(Encoding.DER)
        forged = document(cabundle=[shown, chain()[1].der])
        with pytest.raises(BadEvidence) as refused:
            read(forged, now=START)
        assert refused.value.facts["field"] == "certificate"

    def test_an_enclave_makes_no_certificates(self):
        """What an enclave's key signs is no certificate, though the chain looks whole."""
        root, zone, leaf = chain()
        below = Authority("below", leaf, ca=False)
        assert refusal(document(by=below, certificate=below.der, cabundle=[root.der, zone.der, leaf.der])) == "certificate"

    def test_one_that_is_missing_breaks_the_chain(self):
        """The bundle has to reach from the root to the certificate."""
        assert refusal(document(cabundle=[chain()[0].der])) == "certificate"

    @pytest.mark.parametrize("options", [{"signs": False}, {"curve": ec.SECP256R1()}])
    def test_the_key_must_be_for_this(self, options):
        """A certificate whose key is not for signatures, or not of P-384, signs no document."""
        other = Authority("other", chain()[1], ca=False, **options)
        good = sign(cbor2.dumps(payload(certificate=other.der)), chain()[2].key)
        assert refusal(Evidence(Provider.AWS_NITRO, good)) == "certificate"

    def test_another_key_signs_nothing(self):
        """The signature must be of the key in the certificate."""
        assert refusal(document(by=Authority("other", chain()[1], ca=False))) == "signature"

    @pytest.mark.parametrize("now", [START - HOUR - 1, START + 2 * HOUR + 1])
    def test_certificates_have_their_time(self, now):
        """Before and after it they prove nothing."""
        assert refusal(document(), now=now) == "certificate"


class TestFields:
    @pytest.mark.parametrize("name", ["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"])
    @pytest.mark.parametrize("value", [None, ...], ids=["null", "absent"])
    def test_six_are_required(self, name, value):
        """A document without one of them is refused, and the field named."""
        assert refusal(document(**{name: value})) == name

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("module_id", ""),
            ("module_id", "x" * 257),
            ("module_id", b"i-0"),
            ("digest", "SHA256"),
            ("timestamp", 0),
            ("timestamp", -1),
            ("timestamp", "1"),
            ("timestamp", True),
            ("timestamp", 1 << 63),
            ("pcrs", {}),
            ("pcrs", []),
            ("pcrs", {32: b"\1" * 48}),
            ("pcrs", {-1: b"\1" * 48}),
            ("pcrs", {"0": b"\1" * 48}),
            ("pcrs", {0: b"\1" * 32}),
            ("pcrs", {0: "\1" * 48}),
            ("certificate", b""),
            ("certificate", b"\1" * 1025),
            ("certificate", b"\1" * 1024),
            ("cabundle", []),
            ("cabundle", {}),
            ("cabundle", [b"\1"] * (BUNDLE_MAX + 1)),
            ("cabundle", [b""]),
            ("user_data", b"\1" * 513),
            ("user_data", "text"),
            ("nonce", b"\1" * 513),
            ("public_key", b"\1" * 1025),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_each_has_its_kind_and_size(self, name, value):
        """What AWS says a field may hold is all that it may hold; the refusal names it."""
        assert refusal(document(**{name: value})) == name

    def test_there_are_no_others(self):
        """A field that AWS does not know is refused."""
        assert refusal(document(more=1)) == "payload"

    @pytest.mark.parametrize("pcrs", [{0: bytes(48), 1: b"\1" * 48}, {1: b"\1" * 48}], ids=["zero", "absent"])
    def test_an_enclave_in_debug_mode_measures_nothing(self, pcrs):
        """PCR0 of zeros, or none, is an enclave that its host can look into."""
        assert read_own(document(pcrs=pcrs)).debug

    def test_optional_ones_may_be_absent(self):
        """Without user_data nothing is bound."""
        facts = read_own(document(user_data=..., nonce=..., public_key=...))
        assert (facts.bound, facts.nonce, facts.public_key) == (b"", None, None)


class TestEncodings:
    def test_the_header_says_es384_and_nothing_else(self):
        """Other algorithms and headers beside the signed one are refused before anything is computed."""
        protected, _, signed, signature = cbor2.loads(document().document)
        for parts in (
            [cbor2.dumps({1: -7}), {}, signed, signature],
            [cbor2.dumps({}), {}, signed, signature],
            [b"", {}, signed, signature],
            [protected, {4: b"kid"}, signed, signature],
            [protected, {}, None, signature],
            [protected, {}, signed],
        ):
            assert refusal(Evidence(Provider.AWS_NITRO, cbor2.dumps(parts))) == "document"

    def test_a_payload_may_end_when_it_ends(self):
        """AWS writes its map with or without a length; both are read, and say the same."""
        stated = cbor2.dumps(payload())
        signed = sign(b"\xbf" + stated[1:] + b"\xff", chain()[2].key)
        assert read_own(Evidence(Provider.AWS_NITRO, signed)) == read_own(document())

    @pytest.mark.parametrize("signature", [b"", b"\0" * 96, b"\xff" * 96, b"\1" * 95, None, "text"])
    def test_a_signature_is_one(self, signature):
        """Whatever stands where the signature should be."""
        parts = cbor2.loads(document().document)
        assert refusal(Evidence(Provider.AWS_NITRO, cbor2.dumps([*parts[:3], signature]))) == "signature"

    @pytest.mark.parametrize("inner", [b"", b"\xff", cbor2.dumps([]), cbor2.dumps(1), b"\x81" * 10_000])
    def test_a_payload_is_a_map(self, inner):
        """Whatever stands where the document should be."""
        protected, _, _, signature = cbor2.loads(document().document)
        assert refusal(Evidence(Provider.AWS_NITRO, cbor2.dumps([protected, {}, inner, signature]))) == "payload"

    @settings(max_examples=80, deadline=None)
    @given(junk=st.binary(max_size=400), keep=st.integers(0, 900))
    def test_anything_else_is_refused(self, junk, keep):
        """Whatever bytes come in, the answer is a refusal."""
        with pytest.raises(BadEvidence):
            read_own(Evidence(Provider.AWS_NITRO, published(NITRO).document[:keep] + junk))

    @pytest.mark.parametrize(
        "bomb",
        [
            b"\x9b\x7f" + b"\xff" * 7,
            b"\x5b\x00\x00\x00\x7f" + b"\xff" * 4,
            b"\xbb\x00\x00\x00\x7f" + b"\xff" * 4,
            b"\x81" * DOCUMENT_BYTES,
            b"\xc1" * DOCUMENT_BYTES,
            b"\xd8\x23\x79\x3e\x80" + b"(" * 16_000,
            b"\xc4\x82\x1a\x7f\xff\xff\xff\x01",
            b"\xc5\x82\x1a\x7f\xff\xff\xff\x01",
            b"\xa1" + shared(60) + b"\x01",
            b"\x84" + shared(60) + b"\xa0\x40\x40",
        ],
        ids=["array", "bytes", "map", "nested", "tags", "pattern", "decimal", "bigfloat", "shared key", "shared part"],
    )
    def test_bombs_do_not_go_off(self, bomb):
        """Lengths that are not there, nesting, and tags that compute are refused."""
        assert refusal(Evidence(Provider.AWS_NITRO, bomb)) == "document"

    def test_its_size_is_limited(self):
        """What is too large is refused before it is read."""
        with pytest.raises(BadEvidence) as refused:
            read_own(Evidence(Provider.AWS_NITRO, bytes(DOCUMENT_BYTES + 1)))
        assert refused.value.facts["limit"] == str(DOCUMENT_BYTES)
