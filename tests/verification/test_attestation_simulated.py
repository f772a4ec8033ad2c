"""The TEE for development: it works, it says what it is, and production refuses it."""

from __future__ import annotations

from dataclasses import replace

import cbor2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from aos.errors import BadEvidence, InvalidField
from aos.verification.attestation.check import check
from aos.verification.attestation.evidence import Provider
from aos.verification.attestation.policy import Image, Policy
from aos.verification.attestation.simulated import CERTIFICATE_SECONDS, WARNING, SimulatedTee, root
from aos.verification.attestation.statement import declare

OPERATOR = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
STATEMENT = declare(OPERATOR, bytes(range(32)))
START = 1_800_000_000
PCRS = {0: b"\1" * 48, 1: b"\2" * 48}
IMAGE = Image("dev", Provider.SIMULATED, {"PCR0": "01" * 48})
DEVELOPMENT = Policy(images=(IMAGE,), production=False)
REAL = Image("real", Provider.AWS_NITRO, {"PCR0": "01" * 48})


def refusal(evidence, *, policy=DEVELOPMENT, statement=STATEMENT, now=START) -> str:
    """The field for which it is refused."""
    with pytest.raises(BadEvidence) as refused:
        check(evidence, statement, policy=policy, now=now)
    return refused.value.facts["field"]


class TestSimulatedTee:
    def test_is_taken_in_development(self):
        """From statement to Attested, through the same code as Nitro's documents."""
        evidence = SimulatedTee(PCRS, now=START).attest(STATEMENT, now=START + 5)
        attested = check(evidence, STATEMENT, policy=DEVELOPMENT, now=START + 10)
        assert (attested.provider, attested.image, attested.key) == (Provider.SIMULATED, "dev", OPERATOR)
        assert (attested.binding, attested.tcb_status) == (STATEMENT.report_data, "")
        assert (attested.valid_from, attested.valid_to) == (START, START + CERTIFICATE_SECONDS)

    def test_says_what_it_is(self):
        """Whoever opens a document reads that it proves nothing, in its first field and in its root's name."""
        evidence = SimulatedTee(PCRS, now=START).attest(STATEMENT, now=START)
        assert cbor2.loads(cbor2.loads(evidence.document)[2])["module_id"].startswith(WARNING)
        assert WARNING in root().subject.rfc4514_string()
        assert "proves nothing" in WARNING

    def test_has_one_root_everywhere(self):
        """The root is computed, not drawn: two processes take each other's documents."""
        der = root().public_bytes(Encoding.DER)
        root.cache_clear()
        assert root().public_bytes(Encoding.DER) == der

    def test_is_refused_by_production(self):
        """The default is production, and the refusal says why."""
        evidence = SimulatedTee(PCRS, now=START).attest(STATEMENT, now=START)
        with pytest.raises(BadEvidence, match="simulated and proves nothing") as refused:
            check(evidence, STATEMENT, policy=Policy(images=(REAL,)), now=START)
        assert refused.value.facts["provider"] == "simulated"

    def test_cannot_be_allowed_in_production(self):
        """A production policy that names a simulated image is refused when it is made."""
        with pytest.raises(InvalidField, match="production"):
            Policy(images=(REAL, IMAGE))

    @pytest.mark.parametrize("provider", [one for one in Provider if one is not Provider.SIMULATED])
    def test_passes_for_no_other_provider(self, provider):
        """Under another provider's name its documents are refused."""
        names = {
            Provider.INTEL_TDX: dict.fromkeys(("MRTD", "RTMR1", "RTMR2"), "01" * 48),
            Provider.INTEL_SGX: {"MRENCLAVE": "01" * 32},
            Provider.AWS_NITRO: {"PCR0": "01" * 48},
        }
        evidence = SimulatedTee(PCRS, now=START).attest(STATEMENT, now=START)
        policy = Policy(images=(Image("real", provider, names[provider]),))
        assert refusal(replace(evidence, provider=provider), policy=policy) in {"cabundle", "collateral"}


class TestItsDocuments:
    def test_are_refused_like_real_ones(self):
        """Another statement, another image, debug, age and expiry are refused as Nitro's are."""
        tee = SimulatedTee(PCRS, now=START)
        evidence = tee.attest(STATEMENT, now=START)
        assert refusal(evidence, statement=declare(OPERATOR, bytes(32))) == "binding"
        assert refusal(SimulatedTee({0: b"\2" * 48}, now=START).attest(STATEMENT, now=START)) == "measurements"
        assert refusal(SimulatedTee({0: bytes(48)}, now=START).attest(STATEMENT, now=START)) == "debug"
        assert refusal(evidence, now=START + DEVELOPMENT.age_seconds + 1) == "timestamp"
        assert refusal(evidence, now=START + CERTIFICATE_SECONDS + 1) == "certificate"
