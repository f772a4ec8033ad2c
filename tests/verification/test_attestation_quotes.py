"""Intel's quotes, published ones, through dcap-qvl."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.errors import BadEvidence
from aos.verification.attestation.evidence import COLLATERAL_BYTES, DOCUMENT_BYTES, Evidence, Provider
from aos.verification.attestation.quote import read
from aos.verification.attestation.simulated import root
from tests.verification.evidence import NOW, QUOTES, SGX, TDX, TDX15EX, flipped, published

SIGNED = {SGX: 48 + 384, TDX: 48 + 584, TDX15EX: 48 + 6 + 768}
"""Bytes of header and report, which the platform's key signs."""
SIGNATURE_BYTES = 64
FEW = settings(max_examples=40, deadline=None)


class TestAPublishedQuote:
    @pytest.mark.parametrize("name", QUOTES)
    def test_verifies_at_its_time(self, name):
        """Signature, certificates and collateral hold; what the quote says comes out."""
        facts = read(published(name), now=NOW[name])
        assert facts.provider is published(name).provider
        assert facts.valid_from <= NOW[name] <= facts.valid_to
        assert not facts.debug
        assert (facts.nonce, facts.public_key, facts.issued_at) == (None, None, None)

    def test_of_sgx_names_its_enclave(self):
        """MRENCLAVE, MRSIGNER, report_data and the platform's status are the published ones."""
        facts = read(published(SGX), now=NOW[SGX])
        assert facts.measurements == {
            "MRENCLAVE": "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb",
            "MRSIGNER": "815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6",
            "ISVPRODID": "0000",
            "ISVSVN": "0000",
        }
        assert facts.bound == b"Hello, world!".ljust(64, b"\0")
        assert facts.tcb_status == "ConfigurationAndSWHardeningNeeded"
        assert facts.advisories == ("INTEL-SA-00289", "INTEL-SA-00615")

    @pytest.mark.parametrize(("name", "mrtd", "bound"), [(TDX, "91eb2b44", "9a9d48e7"), (TDX15EX, "2a674327", "2945321c")])
    def test_of_tdx_names_its_domain(self, name, mrtd, bound):
        """MRTD and report_data come from where they stand in the quote, whichever version of the report it holds."""
        facts, document = read(published(name), now=NOW[name]), published(name).document
        assert facts.measurements["MRTD"].startswith(mrtd)
        assert facts.bound.hex().startswith(bound)
        start = 48 + (6 if name == TDX15EX else 0)
        assert facts.bound == document[start + 520 : start + 584]
        assert facts.measurements["MRTD"] == document[start + 136 : start + 184].hex()
        assert facts.measurements["RTMR3"] == document[start + 472 : start + 520].hex()
        assert (facts.tcb_status, facts.advisories) == ("UpToDate", ())

    @pytest.mark.parametrize("name", QUOTES)
    @pytest.mark.parametrize("days", [-60, 60])
    def test_is_refused_at_another_time(self, name, days):
        """Collateral that is not good yet, or no more, proves nothing."""
        with pytest.raises(BadEvidence) as refused:
            read(published(name), now=NOW[name] + days * 86400)
        assert refused.value.facts["field"] == "document"


class TestAChangedQuote:
    @FEW
    @given(data=st.data())
    def test_has_no_bit_that_can_be_flipped(self, data):
        """Any bit of what the platform signed, changed, is refused."""
        name = data.draw(st.sampled_from(QUOTES))
        bit = data.draw(st.integers(0, 8 * SIGNED[name] - 1))
        evidence = published(name)
        with pytest.raises(BadEvidence):
            read(replace(evidence, document=flipped(evidence.document, bit)), now=NOW[name])

    @FEW
    @given(data=st.data())
    def test_has_no_other_signature(self, data):
        """Any bit of the signature, changed, is refused."""
        name = data.draw(st.sampled_from(QUOTES))
        start = SIGNED[name] + 4  # after the length of what follows
        bit = data.draw(st.integers(8 * start, 8 * (start + SIGNATURE_BYTES) - 1))
        evidence = published(name)
        with pytest.raises(BadEvidence):
            read(replace(evidence, document=flipped(evidence.document, bit)), now=NOW[name])

    @FEW
    @given(data=st.data())
    def test_says_the_same_or_nothing(self, data):
        """Wherever a bit is flipped, in a certificate's line end or behind the quote, what is read never becomes something else."""
        name = data.draw(st.sampled_from(QUOTES))
        evidence = published(name)
        changed = flipped(evidence.document, data.draw(st.integers(0, 8 * len(evidence.document) - 1)))
        try:
            facts = read(replace(evidence, document=changed), now=NOW[name])
        except BadEvidence:
            return
        assert facts == read(evidence, now=NOW[name])

    @FEW
    @given(junk=st.binary(max_size=2000), name=st.sampled_from(QUOTES), keep=st.integers(0, 2000))
    def test_can_be_anything(self, junk, name, keep):
        """Whatever bytes come in, the answer is a refusal."""
        evidence = published(name)
        with pytest.raises(BadEvidence):
            read(replace(evidence, document=evidence.document[:keep] + junk), now=NOW[name])


class TestCollateral:
    @pytest.mark.parametrize("field", ["tcb_info", "qe_identity"])
    @pytest.mark.parametrize("name", QUOTES)
    def test_is_intels_word_and_nobody_elses(self, name, field):
        """Statements about the platform are signed: one that was made to last longer is refused."""
        collateral = json.loads(published(name).collateral)
        said = collateral[field]
        collateral[field] = said.replace('"nextUpdate":"20', '"nextUpdate":"21')
        assert collateral[field] != said
        with pytest.raises(BadEvidence):
            read(replace(published(name), collateral=json.dumps(collateral).encode()), now=NOW[name])

    @pytest.mark.parametrize("field", ["root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature"])
    @FEW
    @given(data=st.data())
    def test_has_no_bit_that_can_be_flipped(self, field, data):
        """Revocation lists and signatures, with any bit changed, are refused."""
        collateral = json.loads(published(TDX).collateral)
        part = bytes.fromhex(collateral[field])
        collateral[field] = flipped(part, data.draw(st.integers(0, 8 * len(part) - 1))).hex()
        with pytest.raises(BadEvidence):
            read(replace(published(TDX), collateral=json.dumps(collateral).encode()), now=NOW[TDX])

    def test_of_another_platform_is_refused(self):
        """SGX's collateral says nothing of TDX, nor does one platform's of another."""
        for name, other in ((TDX, SGX), (SGX, TDX)):
            with pytest.raises(BadEvidence):
                read(replace(published(name), collateral=published(other).collateral), now=NOW[name])

    @pytest.mark.parametrize("collateral", [b"", b"{}", b"null", b"\xff", b"[" * 10_000, b'{"tcb_info": 1}'])
    def test_that_cannot_be_read_is_refused(self, collateral):
        """Collateral that is none is named as the reason."""
        with pytest.raises(BadEvidence) as refused:
            read(replace(published(TDX), collateral=collateral), now=NOW[TDX])
        assert refused.value.facts["field"] == "collateral"


class TestLimits:
    def test_a_quote_is_what_it_is_called(self):
        """An SGX quote that is handed in as TDX, or the other way round, is refused."""
        for name, other in ((SGX, Provider.INTEL_TDX), (TDX, Provider.INTEL_SGX)):
            with pytest.raises(BadEvidence) as refused:
                read(replace(published(name), provider=other), now=NOW[name])
            assert refused.value.facts["field"] == "provider"

    def test_sizes_are_limited(self):
        """What is too large is refused before it is read, with its size and the limit."""
        for field, limit in (("document", DOCUMENT_BYTES), ("collateral", COLLATERAL_BYTES)):
            large = Evidence(Provider.INTEL_TDX, b"", b"") if field == "document" else published(TDX)
            with pytest.raises(BadEvidence) as refused:
                read(replace(large, **{field: bytes(limit + 1)}), now=NOW[TDX])
            assert (refused.value.facts["field"], refused.value.facts["limit"]) == (field, str(limit))
            assert refused.value.facts["value"] == str(limit + 1)

    def test_another_root_than_intels_vouches_for_nothing(self):
        """The chain must end at the root that is trusted, and no other."""
        with pytest.raises(BadEvidence):
            read(published(TDX), now=NOW[TDX], root=root().public_bytes(Encoding.DER))  # any that is not Intel's
