"""`tee` jobs from the command line: asked for, shown, verified offline, and refused where they prove nothing."""

from __future__ import annotations

import json

import pytest
import pytest_asyncio

from aos.testing.harness import running_aos
from aos.verification.attestation.simulated import measured


@pytest_asyncio.fixture
async def aos():
    async with running_aos(attested=1) as network:
        yield network


class TestSubmit:
    async def test_a_tee_job_says_what_was_verified_and_its_receipt_holds_offline(self, aos, on, cli, tmp_path):
        """The summary names provider and image; `aos verify` checks the evidence, shows the registers, and says what it proves."""
        receipt = tmp_path / "receipt.json"

        asked = await on("submit", "Hi", "--type", "tee", "--receipt", str(receipt))
        verified = await cli("verify", str(receipt))

        assert (asked.code, asked.out) == (0, "Scripted.\n")
        assert "attested: simulated, image simulated" in asked.err
        assert verified.code == 0
        assert "evidence of simulated execution for this very answer: it proves nothing" in verified.out
        assert measured()[0].hex() in verified.out.replace("\n", "")

    async def test_a_policy_refuses_simulated_evidence_offline(self, aos, on, cli, tmp_path):
        """Whatever programs the file trusts, a policy is for production."""
        receipt, policy = tmp_path / "receipt.json", tmp_path / "policy.json"
        image = {"name": "v1", "provider": "aws_nitro", "measurements": {"PCR0": "ab" * 48}}
        policy.write_text(json.dumps({"images": [image]}))
        await on("submit", "Hi", "--type", "tee", "--receipt", str(receipt))

        verified = await cli("verify", str(receipt), "--tee-policy", str(policy))

        assert verified.code == 1
        assert "production settings refuse it" in verified.out

    async def test_changed_evidence_is_found_offline(self, aos, on, cli, tmp_path):
        """Evidence of one receipt beside another: the signature is not for it."""
        one, other = tmp_path / "one.json", tmp_path / "other.json"
        for path in (one, other):
            await on("submit", "Hi", "--type", "tee", "--receipt", str(path))
        mixed = json.loads(one.read_text()) | {"attestation": json.loads(other.read_text())["attestation"]}
        one.write_text(json.dumps(mixed))

        verified = await cli("verify", str(one))

        assert verified.code == 1
        assert "the evidence of trusted execution" in verified.out

    async def test_models_show_the_kinds_that_are_taken(self, aos, on):
        """`tee` stands among what a model can."""
        assert "tee" in (await on("models")).out

    async def test_a_kind_that_nobody_takes_is_refused(self, aos, on):
        """With those that there are."""
        result = await on("submit", "Hi", "--type", "zkml")

        assert result.code == 1
        assert "there are: opml, tee" in result.err


class TestRefusing:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("up", "--tee", "simulated"), "tee: simulated evidence proves nothing"),
            (("up", "--tee", "intel_tdx"), "tee-command: goes with a tee that is real"),
            (("up", "--tee-command", "evidence"), "tee-command: goes with a tee that is real"),
            (("up", "--tee", "sev"), "--tee"),
            (("up", "--tee-policy", "nonesuch.json"), "tee-policy: nonesuch.json cannot be read"),
            (
                ("operator", "--dev", "--tee", "simulated", "--connect", "example.org:50051", "--key", "key"),
                "connect must be a loopback address",
            ),
        ],
        ids=lambda value: " ".join(value[:3]) if isinstance(value, tuple) else "",
    )
    async def test_what_cannot_be_is_refused_at_the_start(self, cli, tmp_path, arguments, said):
        """Simulated evidence outside development, a real TEE without its command, a policy that is not there."""
        result = await cli("--data", str(tmp_path), *arguments)

        assert result.code != 0
        assert said in result.err

    async def test_a_policy_with_a_simulated_image_is_refused_at_the_start(self, cli, tmp_path):
        """Outside development a network does not even come up with one."""
        policy = tmp_path / "policy.json"
        image = {"name": "dev", "provider": "simulated", "measurements": {"PCR0": measured()[0].hex()}}
        policy.write_text(json.dumps({"images": [image]}))

        result = await cli("--data", str(tmp_path / "data"), "up", "--tee-policy", str(policy))

        assert result.code == 1
        assert "production takes no simulated ones" in result.err
