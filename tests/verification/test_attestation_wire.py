"""Evidence on its way: as messages carry it, as operators sign it, as files allow it, and as anyone checks it offline."""

from __future__ import annotations

import json

import pytest
from eth_account import Account

from aos.errors import BadEvidence, BadSignature, InvalidField
from aos.v1.attestation_pb2 import Attestation
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.v1.receipt_pb2 import Receipt
from aos.verification.attestation.bundle import check_attestation
from aos.verification.attestation.evidence import DOCUMENT_BYTES, Evidence, Provider
from aos.verification.attestation.policy import IMAGES_MAX, Image, Policy
from aos.verification.attestation.policy_file import POLICY_BYTES, read_policy
from aos.verification.attestation.simulated import SimulatedTee, image, measured
from aos.verification.attestation.statement import answer
from aos.verification.attestation.wire import check_signed, evidence_digest, read_attestation, sign_answer, write_attestation
from aos.verification.keys import OperatorKey, prove
from aos.verification.receipts import sign
from tests.receipts import a_receipt
from tests.registry.conftest import an_offer
from tests.verification.evidence import NITRO, TDX, flipped, published

KEY = OperatorKey(Account.from_key(bytes([1]) * 32))
DEVELOPMENT = Policy(images=(image(),), production=False)
PCR0 = measured()[0].hex()


def signed(**changes) -> Receipt:
    receipt = a_receipt()
    receipt.MergeFrom(Receipt(**changes))
    return sign(receipt, KEY)


def a_bundle(receipt: Receipt, *, made_for: Receipt | None = None, age: int = 0) -> ReceiptBundle:
    made = receipt.issued_at - age
    evidence = SimulatedTee(measured(), now=made).attest(answer(made_for or receipt), now=made)
    return ReceiptBundle(receipt=receipt, attestation=sign_answer(evidence, receipt, KEY))


class TestMessages:
    @pytest.mark.parametrize("name", [TDX, NITRO])
    def test_evidence_comes_back_as_it_was(self, name):
        """Provider, document and collateral, byte for byte."""
        assert read_attestation(write_attestation(published(name))) == published(name)

    @pytest.mark.parametrize(
        ("message", "field"),
        [(Attestation(document=b"1"), "provider"), (Attestation(provider=1, document=bytes(DOCUMENT_BYTES + 1)), "document")],
    )
    def test_what_cannot_be_read_is_refused(self, message, field):
        """Before any of it is looked at."""
        with pytest.raises(BadEvidence) as refused:
            read_attestation(message)
        assert refused.value.facts["field"] == field

    def test_a_digest_is_of_all_of_it(self):
        """Provider, document and collateral each change it, and no byte can move from one to the other."""
        evidence = [
            Evidence(Provider.INTEL_TDX, b"ab", b"c"),
            Evidence(Provider.INTEL_TDX, b"a", b"bc"),
            Evidence(Provider.INTEL_SGX, b"ab", b"c"),
        ]
        assert len({evidence_digest(one) for one in evidence}) == len(evidence)

    def test_a_registration_speaks_of_its_evidence(self):
        """The proof differs with it, and without it is what it always was."""
        plain = prove(KEY, "register", [an_offer()], issued_at=1)
        assert prove(KEY, "register", [an_offer()], issued_at=1, evidence=b"") == plain
        digests = [evidence_digest(published(name)) for name in (TDX, NITRO)]
        assert len({prove(KEY, "register", [an_offer()], issued_at=1, evidence=one).signature for one in (b"", *digests)}) == 3


class TestSignatures:
    def test_the_operator_signs_for_its_receipt(self):
        """Its own evidence with its own receipt is good."""
        receipt = signed()
        check_signed(sign_answer(published(NITRO), receipt, KEY), receipt)

    @pytest.mark.parametrize("what", ["document", "collateral", "provider", "receipt", "key"])
    def test_nothing_of_it_can_be_exchanged(self, what):
        """Another document, collateral, provider, receipt or key breaks the signature."""
        receipt = signed()
        message = sign_answer(published(TDX), receipt, OperatorKey.create() if what == "key" else KEY)
        if what in ("document", "collateral"):
            setattr(message, what, flipped(getattr(message, what), 9))
        if what == "provider":
            message.provider += 1
        with pytest.raises(BadSignature):
            check_signed(message, signed(price="12") if what == "receipt" else receipt)


class TestOffline:
    def test_a_receipt_without_evidence_says_nothing_of_it(self):
        """Other jobs' receipts are checked as ever."""
        assert list(check_attestation(ReceiptBundle(receipt=signed()), None)) == []

    def test_without_a_policy_the_program_is_only_told(self):
        """The evidence holds for this answer; the registers are shown, for whoever has to compare them."""
        holds, program = check_attestation(a_bundle(signed()), None)
        assert (holds.good, holds.why) == (None, "it proves nothing: its key is public")
        assert program.good is None
        assert PCR0 in program.why

    def test_a_policy_says_whether_the_program_is_trusted(self):
        """By its registers: the development policy knows the simulated image, another one does not, production takes none."""
        other = Policy(images=(Image("other", Provider.SIMULATED, {"PCR0": "11" * 48}),), production=False)
        good, bad, never = (list(check_attestation(a_bundle(signed()), one))[-1] for one in (DEVELOPMENT, other, Policy()))
        assert (good.good, bad.good, never.good) == (True, False, False)
        assert "PCR0 differ" in bad.why
        assert "production settings refuse it" in never.why

    def test_evidence_of_another_answer_is_bad(self):
        """Replayed from another job, whose receipt is as good."""
        (finding,) = check_attestation(a_bundle(signed(), made_for=signed(job=b"\7" * 32)), DEVELOPMENT)
        assert finding.good is False
        assert "binding" in finding.why

    def test_it_is_judged_as_of_the_receipt(self):
        """Years later it is as good as on the day; evidence that was too old then stays so."""
        assert list(check_attestation(a_bundle(signed()), DEVELOPMENT))[-1].good is True
        stale = list(check_attestation(a_bundle(signed(), age=400), DEVELOPMENT))[-1]
        assert (stale.good, "timestamp" in stale.why) == (False, True)

    @pytest.mark.parametrize("bit", range(0, 4000, 397))
    def test_a_changed_document_is_bad(self, bit):
        """Wherever it was changed, and whoever signs it again."""
        receipt = signed()
        made = SimulatedTee(measured(), now=receipt.issued_at).attest(answer(receipt), now=receipt.issued_at)
        changed = Evidence(made.provider, flipped(made.document, bit))
        (finding,) = check_attestation(ReceiptBundle(receipt=receipt, attestation=sign_answer(changed, receipt, KEY)), None)
        assert finding.good is False

    @pytest.mark.parametrize("receipt", [Receipt(), Receipt(job=b"\1" * 31)])
    def test_it_raises_nothing(self, receipt):
        """A bundle may be anybody's."""
        bundle = ReceiptBundle(receipt=receipt, attestation=write_attestation(published(NITRO)))
        assert [finding.good for finding in check_attestation(bundle, None)] == [False]


class TestPolicyFiles:
    def test_a_file_says_all_that_a_policy_can(self):
        """Images, statuses, advisories, age; whether it is for production follows from how the network runs."""
        text = json.dumps(
            {
                "images": [{"name": "v1", "provider": "aws_nitro", "measurements": {"PCR0": "ab" * 48}}],
                "tcb_statuses": ["UpToDate", "SWHardeningNeeded"],
                "refused_advisories": ["INTEL-SA-00615"],
                "age_seconds": 60,
            }
        )
        assert read_policy(text) == Policy(
            images=(Image("v1", Provider.AWS_NITRO, {"PCR0": "ab" * 48}),),
            tcb_statuses=frozenset({"UpToDate", "SWHardeningNeeded"}),
            refused_advisories=frozenset({"INTEL-SA-00615"}),
            age_seconds=60,
        )
        assert read_policy("{}") == Policy()
        assert read_policy("{}", production=False).production is False

    @pytest.mark.parametrize(
        ("text", "field"),
        [
            ("[", "policy"),
            ("[" * 100_000, "policy"),
            ("[]", "policy"),
            ('{"image": []}', "policy"),
            ('{"production": false}', "policy"),
            (" " * (POLICY_BYTES + 1), "policy"),
            ('{"images": {}}', "images"),
            ('{"images": [1]}', "images[0]"),
            ('{"images": [{}]}', "images[0].name"),
            ('{"images": [{"name": "a", "provider": "sev"}]}', "images[0].provider"),
            ('{"images": [{"name": "a", "provider": []}]}', "images[0].provider"),
            ('{"images": [{"name": "a", "provider": "aws_nitro"}]}', "images[0].measurements"),
            ('{"images": [{"name": "a", "provider": "aws_nitro", "measurements": {"PCR0": 1}}]}', "images[0].measurements"),
            ('{"images": [{"name": "a", "provider": "aws_nitro", "measurements": {"PCR1": "00"}}]}', "image 'a'"),
            (
                json.dumps({"images": [{"name": "a", "provider": "simulated", "measurements": {"PCR0": PCR0}}]}),
                "images",
            ),
            (
                json.dumps({"images": [{"name": "a", "provider": "aws_nitro", "measurements": {"PCR0": PCR0}}] * (IMAGES_MAX + 1)}),
                "images",
            ),
            ('{"tcb_statuses": "UpToDate"}', "tcb_statuses"),
            ('{"tcb_statuses": ["Revoked"]}', "tcb_statuses"),
            ('{"age_seconds": true}', "age_seconds"),
            ('{"age_seconds": 0}', "age_seconds"),
        ],
        ids=lambda value: value[:40],
    )
    def test_what_cannot_be_is_refused_with_its_name(self, text, field):
        """No typo becomes a default, and no simulated image is trusted in production."""
        with pytest.raises(InvalidField) as refused:
            read_policy(text)
        assert refused.value.facts["field"] == field
