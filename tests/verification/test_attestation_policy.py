"""What a policy takes, what it refuses, and what evidence has to be bound to."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from coincurve import PublicKey
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.errors import BadEvidence, InvalidField
from aos.v1.receipt_pb2 import Receipt
from aos.verification.attestation.check import check, read
from aos.verification.attestation.evidence import Facts, Provider
from aos.verification.attestation.policy import AHEAD_SECONDS, IMAGES_MAX, REGISTERS, TCB_STATUSES, Image, Policy, appraise
from aos.verification.attestation.statement import Statement, answer, declare
from tests.verification.evidence import NITRO, NOW, SGX, TDX, flipped, published

OPERATOR = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
"""Of the private key 1."""
NONCE = bytes(range(32))
IDENTITY = {
    SGX: ("MRENCLAVE",),
    TDX: ("MRTD", "RTMR1", "RTMR2"),
    NITRO: ("PCR0",),
}


def facts_of(name: str) -> Facts:
    return read(published(name), now=NOW[name])


def image_of(facts: Facts, *registers: str) -> Image:
    return Image("the image", facts.provider, {name: facts.measurements[name] for name in registers})


def policy_for(name: str, **options) -> Policy:
    """One that takes the published evidence's image and platform."""
    statuses = frozenset({"UpToDate", "ConfigurationAndSWHardeningNeeded"})
    return Policy(**{"images": (image_of(facts_of(name), *IDENTITY[name]),), "tcb_statuses": statuses} | options)


def bound(name: str, statement: Statement, **changes) -> Facts:
    """What the published evidence says, had its code asked for this statement."""
    own = {"nonce": statement.nonce, "public_key": None} if name == NITRO else {}
    return replace(facts_of(name), **{"bound": statement.report_data} | own | changes)


def field_of(refused: pytest.ExceptionInfo[BadEvidence]) -> str:
    return refused.value.facts["field"]


def a_receipt(**changes) -> Receipt:
    digests = ("job", "request_digest", "model_digest", "prompt_digest", "output_digest", "output_tokens_digest")
    fields = {name: bytes([index + 1]) * 32 for index, name in enumerate(digests)}
    return Receipt(**fields | {"parameters": '{"seed":"7"}', "seed": 7, "operator": bytes.fromhex(OPERATOR[2:])} | changes)


class TestStatements:
    def test_a_declaration_has_the_documented_bytes(self):
        """The key's digest, then the challenge's: any enclave in any language can make them."""
        key = hashlib.sha256(b"AOS-TEE-KEY-1\0\0\0" + bytes.fromhex("7e5f4552091a69125d5dfcb7b8c2659029395bdf")).digest()
        assert declare(OPERATOR, NONCE).report_data == key + hashlib.sha256(b"AOS-TEE-DECLARE1" + NONCE).digest()
        assert declare(OPERATOR, NONCE).report_data.hex() == (
            "d963096b28afa61af2c4ddb44d6c6a9ae466a207480755c4b352894000ff17c0"
            "c44645e8716dba46e59f37aaa8bf8a733d09db068a1861e9faf9735c91056115"
        )

    def test_an_answer_has_the_documented_bytes(self):
        """The key's digest, then that of job, model, request, prompt, parameters, answer and its tokens."""
        said = b"AOS-TEE-ANSWER-1" + b"\1" * 32 + b"\3" * 32 + b"\2" * 32 + b"\4" * 32
        said += hashlib.sha256(b'{"seed":"7"}').digest() + b"\5" * 32 + b"\6" * 32
        assert len(said) == 16 + 7 * 32
        assert answer(a_receipt()).report_data[32:] == hashlib.sha256(said).digest()
        assert answer(a_receipt()).report_data.hex() == (
            "d963096b28afa61af2c4ddb44d6c6a9ae466a207480755c4b352894000ff17c0"
            "5ca02d60724a7ffb78d0be54b15c891f4403b9293c178c1e1f9be27781507a7f"
        )

    @pytest.mark.parametrize(
        "change",
        [
            *({name: b"\x99" * 32} for name in ("job", "request_digest", "model_digest", "prompt_digest")),
            {"output_digest": b"\x99" * 32},
            {"output_tokens_digest": b"\x99" * 32},
            {"parameters": '{"seed":"8"}'},
            {"operator": b"\x99" * 20},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_nothing_of_an_answer_can_be_exchanged(self, change):
        """Job, model, prompt, parameters, answer and key each change the statement."""
        assert answer(a_receipt(**change)).report_data != answer(a_receipt()).report_data

    def test_the_signature_is_made_afterwards(self):
        """What is bound does not depend on the receipt's signature, price or time."""
        later = a_receipt(signature=b"\1" * 65, issued_at=9, price="10")
        assert answer(later) == answer(a_receipt())

    @pytest.mark.parametrize("change", [{"job": b"\1" * 31}, {"output_digest": b""}, {"operator": b"\1" * 19}])
    def test_fields_have_their_sizes(self, change):
        """A digest that is too short could run into the next one, and is refused."""
        with pytest.raises(InvalidField):
            answer(a_receipt(**change))

    @pytest.mark.parametrize(
        ("operator", "nonce"), [("0x12", NONCE), (OPERATOR[2:], NONCE), (OPERATOR, NONCE[1:]), (OPERATOR, b"")]
    )
    def test_a_declaration_is_of_an_address_and_a_nonce(self, operator, nonce):
        """Anything else is refused before evidence is asked for."""
        with pytest.raises(InvalidField):
            declare(operator, nonce)


class TestWhatIsTaken:
    @pytest.mark.parametrize("name", [SGX, TDX, NITRO])
    def test_an_allowed_image_on_a_good_platform(self, name):
        """Provider, image, key, statement, platform and times come out together."""
        statement = answer(a_receipt())
        facts = bound(name, statement)
        attested = appraise(facts, statement, policy=policy_for(name), now=NOW[name])
        assert (attested.provider, attested.image, attested.key) == (facts.provider, "the image", OPERATOR)
        assert (attested.binding, attested.tcb_status) == (statement.report_data, facts.tcb_status)
        assert attested.valid_from <= NOW[name] <= attested.valid_to
        assert attested.measurements == facts.measurements

    @pytest.mark.parametrize("name", [SGX, TDX, NITRO])
    def test_what_is_bound_to_something_else_is_not(self, name):
        """Published evidence says nothing about our jobs: all of it holds, and the binding is refused."""
        policy = policy_for(name)
        with pytest.raises(BadEvidence) as refused:
            check(published(name), declare(OPERATOR, NONCE), policy=policy, now=NOW[name])
        assert field_of(refused) == "binding"

    @settings(max_examples=50, deadline=None)
    @given(bit=st.integers(0, 511))
    def test_no_bit_of_the_binding_may_differ(self, bit):
        """Evidence of a statement that differs in one bit is of another statement."""
        statement = declare(OPERATOR, NONCE)
        with pytest.raises(BadEvidence) as refused:
            appraise(
                bound(TDX, statement, bound=flipped(statement.report_data, bit)), statement, policy=policy_for(TDX), now=NOW[TDX]
            )
        assert field_of(refused) == "binding"

    def test_an_answer_is_no_declaration(self):
        """Evidence of one kind of statement is not taken for the other, nor one job's for another's."""
        statement = answer(a_receipt())
        for other in (declare(OPERATOR, statement.nonce), answer(a_receipt(job=b"\x99" * 32))):
            with pytest.raises(BadEvidence):
                appraise(bound(TDX, statement), other, policy=policy_for(TDX), now=NOW[TDX])


class TestPlatforms:
    @pytest.mark.parametrize("name", [SGX, TDX, NITRO])
    def test_debug_is_never_taken(self, name):
        """No policy takes an enclave that its host can look into."""
        statement = declare(OPERATOR, NONCE)
        policy = policy_for(name, tcb_statuses=TCB_STATUSES)
        with pytest.raises(BadEvidence) as refused:
            appraise(bound(name, statement, debug=True), statement, policy=policy, now=NOW[name])
        assert field_of(refused) == "debug"

    def test_only_named_statuses_are_taken(self):
        """The published SGX platform needs hardening: by default it is refused, with its status and what would do."""
        statement = declare(OPERATOR, NONCE)
        with pytest.raises(BadEvidence) as refused:
            check(published(SGX), statement, policy=policy_for(SGX, tcb_statuses=frozenset({"UpToDate"})), now=NOW[SGX])
        assert refused.value.facts == {
            "provider": "intel_sgx", "field": "tcb_status", "value": "ConfigurationAndSWHardeningNeeded", "limit": "UpToDate",
        }  # fmt: skip

    @pytest.mark.parametrize("status", ["Revoked", "", "uptodate"])
    def test_a_revoked_platform_is_taken_by_none(self, status):
        """No policy can name it, and the widest refuses it."""
        with pytest.raises(InvalidField):
            Policy(tcb_statuses=frozenset({status}))
        statement = declare(OPERATOR, NONCE)
        with pytest.raises(BadEvidence) as refused:
            appraise(
                bound(TDX, statement, tcb_status=status), statement, policy=policy_for(TDX, tcb_statuses=TCB_STATUSES), now=NOW[TDX]
            )
        assert field_of(refused) == "tcb_status"

    def test_an_advisory_can_be_refused(self):
        """A platform with an advisory open that the policy names is refused whatever its status."""
        policy = policy_for(SGX, refused_advisories=frozenset({"INTEL-SA-00615"}))
        with pytest.raises(BadEvidence) as refused:
            check(published(SGX), declare(OPERATOR, NONCE), policy=policy, now=NOW[SGX])
        assert (field_of(refused), refused.value.facts["value"]) == ("advisories", "INTEL-SA-00615")


class TestImages:
    @pytest.mark.parametrize("name", [SGX, TDX, NITRO])
    def test_every_register_that_is_named_must_be_equal(self, name):
        """One register that differs is another program; the refusal says which."""
        facts, statement = facts_of(name), declare(OPERATOR, NONCE)
        for register in IDENTITY[name]:
            named = {one: facts.measurements[one] for one in IDENTITY[name]}
            other = flipped(bytes.fromhex(named[register]), 0).hex()
            policy = policy_for(name, images=(Image("other", facts.provider, named | {register: other}),))
            with pytest.raises(BadEvidence, match=f"{register} differ") as refused:
                check(published(name), statement, policy=policy, now=NOW[name])
            assert field_of(refused) == "measurements"

    def test_one_of_several_is_enough(self):
        """Old and new versions of an image are allowed side by side; the one that runs is named."""
        facts, statement = facts_of(TDX), declare(OPERATOR, NONCE)
        old = Image("old", Provider.INTEL_TDX, dict.fromkeys(IDENTITY[TDX], "ab" * 48))
        policy = policy_for(TDX, images=(old, replace(image_of(facts, *IDENTITY[TDX]), name="new")))
        assert appraise(bound(TDX, statement), statement, policy=policy, now=NOW[TDX]).image == "new"

    def test_an_image_is_of_one_provider(self):
        """Registers that are equal by chance of another provider's count for nothing."""
        nitro = facts_of(NITRO)
        policy = Policy(images=(Image("simulated", Provider.SIMULATED, {"PCR0": nitro.measurements["PCR0"]}),), production=False)
        with pytest.raises(BadEvidence) as refused:
            check(published(NITRO), declare(OPERATOR, NONCE), policy=policy, now=NOW[NITRO])
        assert field_of(refused) == "provider"

    def test_without_images_nothing_is_taken(self):
        """A policy that names none refuses all evidence, unread."""
        for name in (SGX, TDX, NITRO):
            with pytest.raises(BadEvidence) as refused:
                check(published(name), declare(OPERATOR, NONCE), policy=Policy(), now=0)
            assert field_of(refused) == "provider"

    @pytest.mark.parametrize(
        ("provider", "measurements"),
        [
            (Provider.INTEL_TDX, {}),
            (Provider.INTEL_TDX, {"MRTD": "ab" * 48}),
            (Provider.INTEL_TDX, {"MRTD": "ab" * 48, "RTMR0": "ab" * 48, "RTMR1": "ab" * 48}),
            (Provider.INTEL_SGX, {"MRSIGNER": "ab" * 32}),
            (Provider.INTEL_SGX, {"ISVPRODID": "0001"}),
            (Provider.AWS_NITRO, {"PCR1": "ab" * 48, "PCR2": "ab" * 48}),
            (Provider.AWS_NITRO, {"MRTD": "ab" * 48}),
            (Provider.AWS_NITRO, {"PCR0": "ab" * 47}),
            (Provider.AWS_NITRO, {"PCR0": "AB" * 48}),
            (Provider.AWS_NITRO, {"PCR0": "0x" + "ab" * 47}),
            (Provider.AWS_NITRO, {"PCR0": "ab" * 48, "PCR32": "ab" * 48}),
        ],
    )
    def test_one_that_others_would_pass_for_cannot_be_written(self, provider, measurements):
        """Too few registers, unknown ones and malformed values are refused when the policy is made."""
        with pytest.raises(InvalidField, match="image 'x'"):
            Image("x", provider, measurements)

    def test_sgx_may_go_by_its_signer(self):
        """MRSIGNER with its product stands for every version that the signer makes."""
        facts, statement = facts_of(SGX), declare(OPERATOR, NONCE)
        policy = policy_for(SGX, images=(image_of(facts, "MRSIGNER", "ISVPRODID"),))
        assert appraise(bound(SGX, statement), statement, policy=policy, now=NOW[SGX]).image == "the image"

    @pytest.mark.parametrize(
        "options",
        [
            {"images": (Image("x", Provider.AWS_NITRO, {"PCR0": "ab" * 48}),) * (IMAGES_MAX + 1)},
            {"tcb_statuses": frozenset({"Good"})},
            {"age_seconds": 0},
            {"age_seconds": -1},
        ],
        ids=lambda options: next(iter(options)),
    )
    def test_a_policy_has_its_limits(self, options):
        """Too many images, unknown statuses and ages that nothing has are refused when it is made, by name."""
        with pytest.raises(InvalidField) as refused:
            Policy(**options)
        assert refused.value.facts["field"] == next(iter(options))

    def test_every_provider_has_registers(self):
        """No provider is forgotten in the tables."""
        assert set(REGISTERS) == set(Provider)


class TestTime:
    @pytest.mark.parametrize(
        ("age", "taken"), [(0, True), (300, True), (301, False), (-AHEAD_SECONDS, True), (-AHEAD_SECONDS - 1, False)]
    )
    def test_a_document_is_fresh_or_refused(self, age, taken):
        """Nitro states when it signed: older than the policy says, or ahead of our clock, is refused."""
        statement = declare(OPERATOR, NONCE)
        facts = bound(NITRO, statement, issued_at=NOW[NITRO] - age)
        if taken:
            assert appraise(facts, statement, policy=policy_for(NITRO), now=NOW[NITRO]).key == OPERATOR
            return
        with pytest.raises(BadEvidence) as refused:
            appraise(facts, statement, policy=policy_for(NITRO), now=NOW[NITRO])
        assert (field_of(refused), refused.value.facts["value"]) == ("timestamp", str(abs(age)))

    @pytest.mark.parametrize("nonce", [None, b"", bytes(32), NONCE + b"\0"])
    def test_a_document_answers_the_challenge(self, nonce):
        """Another nonce, or none, is somebody else's evidence."""
        statement = declare(OPERATOR, NONCE)
        with pytest.raises(BadEvidence) as refused:
            appraise(bound(NITRO, statement, nonce=nonce), statement, policy=policy_for(NITRO), now=NOW[NITRO])
        assert field_of(refused) == "nonce"

    def test_facts_do_not_outlive_their_certificates(self):
        """Facts that were read earlier are no good after what they rest on has ended."""
        statement, facts = declare(OPERATOR, NONCE), bound(TDX, declare(OPERATOR, NONCE))
        for now in (facts.valid_from - 1, facts.valid_to + 1):
            with pytest.raises(BadEvidence) as refused:
                appraise(facts, statement, policy=policy_for(TDX), now=now)
            assert field_of(refused) == "validity"


class TestKeys:
    @pytest.mark.parametrize("compressed", [True, False])
    def test_a_documents_own_key_is_the_operators(self, compressed):
        """A document may carry the key itself, in either form of SEC 1."""
        key = PublicKey.from_valid_secret((1).to_bytes(32)).format(compressed=compressed)
        statement = declare(OPERATOR, NONCE)
        facts = bound(NITRO, statement, public_key=key)
        assert appraise(facts, statement, policy=policy_for(NITRO), now=NOW[NITRO]).key == OPERATOR

    @pytest.mark.parametrize("key", [b"", b"\4" * 65, PublicKey.from_valid_secret((2).to_bytes(32)).format()])
    def test_another_key_in_it_is_refused(self, key):
        """A document never names two keys."""
        statement = declare(OPERATOR, NONCE)
        with pytest.raises(BadEvidence) as refused:
            appraise(bound(NITRO, statement, public_key=key), statement, policy=policy_for(NITRO), now=NOW[NITRO])
        assert field_of(refused) == "public_key"

    def test_the_address_is_the_one_that_signs_receipts(self):
        """Key 1's address is that of the wallet library."""
        assert Account.from_key((1).to_bytes(32)).address == OPERATOR
