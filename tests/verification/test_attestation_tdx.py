"""From a TDX quote to what it attests, with quotes whose signatures are all real, under a root of our own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aos.errors import BadEvidence
from aos.v1.receipt_pb2 import Receipt
from aos.verification.attestation.check import check
from aos.verification.attestation.evidence import Attested, Evidence, Provider
from aos.verification.attestation.policy import TCB_STATUSES, Image, Policy, appraise
from aos.verification.attestation.quote import read
from aos.verification.attestation.statement import Statement, answer, declare
from tests.verification.evidence import NOW, TDX, published
from tests.verification.evidence.intel import HEADER, REPORT_DATA, quote, root_der

OPERATOR = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
OTHER = "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF"
NONCE = bytes(range(32))
STATEMENT = declare(OPERATOR, NONCE)


def policy(**options) -> Policy:
    measured = read(published(TDX), now=NOW[TDX]).measurements
    image = Image("inference 1", Provider.INTEL_TDX, {name: measured[name] for name in ("MRTD", "RTMR1", "RTMR2")})
    return Policy(images=(image,), **options)


def attest(evidence: Evidence, statement: Statement = STATEMENT, **options) -> Attested:
    facts = read(evidence, now=NOW[TDX], root=root_der())
    return appraise(facts, statement, policy=policy(**options), now=NOW[TDX])


def refusal(evidence: Evidence, statement: Statement = STATEMENT, **options) -> tuple[str, str]:
    with pytest.raises(BadEvidence) as refused:
        attest(evidence, statement, **options)
    return refused.value.facts["field"], refused.value.message


class TestABoundQuote:
    def test_attests_the_operators_key(self):
        """A quote that was made for the challenge is taken, and names image, key and platform."""
        attested = attest(quote(STATEMENT.report_data))
        assert (attested.provider, attested.image, attested.key) == (Provider.INTEL_TDX, "inference 1", OPERATOR)
        assert (attested.binding, attested.tcb_status) == (STATEMENT.report_data, "UpToDate")
        assert attested.valid_from <= NOW[TDX] <= attested.valid_to

    def test_attests_one_jobs_answer(self):
        """A quote that was made for an answer is taken for it and for no other."""
        names = ("job", "request_digest", "model_digest", "prompt_digest", "output_digest", "output_tokens_digest")
        receipt = Receipt(**dict.fromkeys(names, b"\1" * 32), parameters="{}", operator=bytes.fromhex(OPERATOR[2:]))
        evidence = quote(answer(receipt).report_data)
        assert attest(evidence, answer(receipt)).key == OPERATOR
        receipt.output_digest = b"\2" * 32
        assert refusal(evidence, answer(receipt))[0] == "binding"

    @pytest.mark.parametrize("other", [declare(OPERATOR, NONCE[::-1]), declare(OTHER, NONCE)], ids=["nonce", "key"])
    def test_is_of_one_challenge_and_one_key(self, other):
        """Last week's quote and the neighbour's quote are refused."""
        assert refusal(quote(other.report_data))[0] == "binding"


class TestAForgedQuote:
    def test_is_refused_under_intels_root(self):
        """All of it holds, under a root that is not Intel's."""
        with pytest.raises(BadEvidence) as refused:
            check(quote(STATEMENT.report_data), STATEMENT, policy=policy(), now=NOW[TDX])
        assert refused.value.facts["field"] == "document"

    def test_cannot_have_its_report_data_exchanged(self):
        """A good quote with our statement written into it is no quote."""
        evidence = quote(bytes(64))
        at = HEADER + REPORT_DATA
        changed = evidence.document[:at] + STATEMENT.report_data + evidence.document[at + 64 :]
        assert refusal(replace(evidence, document=changed))[0] == "document"

    def test_cannot_borrow_collateral(self):
        """Intel's real collateral does not vouch for our platform, nor ours for Intel's."""
        assert refusal(replace(quote(STATEMENT.report_data), collateral=published(TDX).collateral))[0] == "document"
        with pytest.raises(BadEvidence):
            read(replace(published(TDX), collateral=quote(STATEMENT.report_data).collateral), now=NOW[TDX])


class TestItsPlatform:
    def test_debug_is_refused(self):
        """A TD under debug is refused, whatever the policy."""
        field, message = refusal(quote(STATEMENT.report_data, td_attributes=1), tcb_statuses=TCB_STATUSES)
        assert field == "document"
        assert "Debug" in message

    @pytest.mark.parametrize("status", ["OutOfDate", "SWHardeningNeeded", "OutOfDateConfigurationNeeded"])
    def test_a_status_is_taken_where_it_is_allowed(self, status):
        """Intel says that patches are missing: refused by default, taken by a policy that says so."""
        evidence = quote(STATEMENT.report_data, status=status)
        assert refusal(evidence)[0] == "tcb_status"
        assert attest(evidence, tcb_statuses=frozenset({status})).tcb_status == status

    def test_revoked_is_refused(self):
        """A platform that Intel gave up on is taken by no policy."""
        assert refusal(quote(STATEMENT.report_data, status="Revoked"), tcb_statuses=TCB_STATUSES)[0] in {"document", "tcb_status"}

    def test_a_revoked_certificate_is_refused(self):
        """A platform whose certificate is on the revocation list signs nothing."""
        field, message = refusal(quote(STATEMENT.report_data, revoked=True))
        assert field == "document"
        assert "Revoked" in message
