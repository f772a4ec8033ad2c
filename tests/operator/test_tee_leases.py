"""An operator in an enclave at work: it declares its key, shows evidence where a lease asks for it, and says so where it cannot."""

from __future__ import annotations

import asyncio
import sys

import pytest_asyncio

from aos.operator.tee import CommandTee, SimulatedEvidence
from aos.order import with_defaults
from aos.registry.settings import RegistrySettings
from aos.testing.clock import ManualClock
from aos.v1.errors_pb2 import ErrorReason
from aos.v1.registry_pb2 import ListOperatorsRequest
from aos.verification.attestation.check import check
from aos.verification.attestation.evidence import Provider
from aos.verification.attestation.policy import Policy
from aos.verification.attestation.simulated import image
from aos.verification.attestation.statement import answer
from aos.verification.attestation.wire import check_signed, read_attestation
from tests.operator.dispatching import JOB, SECONDS, running_network
from tests.operator.orders import asking

POLICY = Policy(images=(image(),), production=False)
NOW = int(ManualClock().now().timestamp())


@pytest_asyncio.fixture
async def network(tmp_path, key):
    async with running_network(tmp_path, key, settings=RegistrySettings(tee=POLICY)) as one:
        yield one


async def finish(session, **terms):
    session.lease(with_defaults(asking("hi"), job=JOB), **terms)
    _, _, last = await session.outcome()
    return last


class TestEvidence:
    async def test_the_key_is_declared_before_it_attaches(self, network, script):
        """Whoever looks it up in the registry, as a dispatcher does, finds it attested."""
        async with network.attached(script, tee=SimulatedEvidence(network.clock)):
            assert (await network.info()).attested.key == network.key.address

    async def test_a_tee_lease_ends_with_evidence_of_its_answer(self, network, script):
        """Signed with the receipt, bound to it, and good for a policy that trusts the image; another lease ends without."""
        async with network.attached(script, tee=SimulatedEvidence(network.clock)) as (_, session):
            attested = (await finish(session, job_type="tee")).finished
            plain = (await finish(session, lease="l2")).finished
        receipt = attested.finish.receipt
        check_signed(attested.attestation, receipt)
        found = check(read_attestation(attested.attestation), answer(receipt), policy=POLICY, now=NOW)
        assert found.key == network.key.address
        assert not plain.HasField("attestation")

    async def test_no_enclave_speaks_for_what_was_computed_elsewhere(self, network, script):
        """A `tee` lease that begins behind accepted tokens fails, and would with any operator."""
        async with network.attached(script, tee=SimulatedEvidence(network.clock)) as (_, session):
            failed = (await finish(session, job_type="tee", accepted=[1, 2])).failed
        assert (failed.error.reason, failed.retryable) == (ErrorReason.ERROR_REASON_INVALID_FIELD, False)


class TestWithout:
    async def test_an_operator_in_no_enclave_gives_the_lease_up(self, network, script):
        """Another operator may have what it lacks."""
        async with network.attached(script) as (_, session):
            failed = (await finish(session, job_type="tee")).failed
        assert (failed.error.reason, failed.retryable) == (ErrorReason.ERROR_REASON_BAD_EVIDENCE, True)

    async def test_a_command_that_fails_keeps_the_operator_out(self, network, script, tmp_path, caplog):
        """Without evidence it does not register as an operator without a TEE: the log has the command's last words."""
        program = tmp_path / "evidence.py"
        program.write_text("raise SystemExit('no device')")
        async with network.operator(script, tee=CommandTee(Provider.AWS_NITRO, (sys.executable, str(program)))):
            async with asyncio.timeout(SECONDS):
                while "tee-command: ended with 1: no device" not in caplog.text:
                    await asyncio.sleep(0.005)
            listed = await network.registry.ListOperators(ListOperatorsRequest())
        assert list(listed.operators) == []
