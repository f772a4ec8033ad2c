"""Operators that declare their key as attested: what the registry asks for, what it takes, and what the catalogue shows then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import grpc
import pytest
import pytest_asyncio

from aos.errors import QueueFull
from aos.registry.challenges import CHALLENGE_SECONDS
from aos.registry.settings import RegistrySettings
from aos.rpc.status import from_rpc_error
from aos.testing.clock import ManualClock
from aos.v1 import registry_pb2 as pb
from aos.v1.attestation_pb2 import TeeProvider
from aos.verification.attestation.check import read
from aos.verification.attestation.evidence import Evidence
from aos.verification.attestation.policy import Image, Policy
from aos.verification.attestation.simulated import SimulatedTee, image, measured
from aos.verification.attestation.statement import declare
from aos.verification.attestation.wire import evidence_digest, write_attestation
from aos.verification.keys import OperatorKey, prove
from tests.refusals import refused
from tests.registry.conftest import Harness, an_offer, running
from tests.verification.evidence import NITRO, NOW, SGX, TDX, published

DEVELOPMENT = RegistrySettings(tee=Policy(images=(image(),), production=False))
REGISTERS = {SGX: ("MRENCLAVE",), TDX: ("MRTD", "RTMR1", "RTMR2"), NITRO: ("PCR0",)}


@dataclass
class Declaring:
    """A registry, and an operator that says what the test says."""

    registry: Harness
    key: OperatorKey

    async def nonce(self) -> bytes:
        return (await self.registry.stub.ChallengeOperator(pb.ChallengeOperatorRequest(operator=self.key.address))).nonce

    def evidence(self, nonce: bytes, *, key: OperatorKey | None = None) -> Evidence:
        now = self.registry.second
        return SimulatedTee(measured(), now=now).attest(declare((key or self.key).address, nonce), now=now)

    async def declare(self, evidence: Evidence, nonce: bytes, *, signed: Evidence | None = None) -> pb.OperatorInfo:
        offers = [an_offer()]
        digest = evidence_digest(signed or evidence)
        proof = prove(self.key, "register", offers, issued_at=self.registry.second, evidence=digest)
        return await self.registry.stub.RegisterOperator(
            pb.RegisterOperatorRequest(proof=proof, offers=offers, attestation=write_attestation(evidence), tee_nonce=nonce)
        )

    async def declared(self) -> pb.OperatorInfo:
        nonce = await self.nonce()
        return await self.declare(self.evidence(nonce), nonce)

    async def job_types(self) -> list[str]:
        return list((await self.registry.model()).job_types)


@pytest_asyncio.fixture
async def declaring(database_address, key) -> AsyncGenerator[Declaring]:
    async with running(database_address, clock=ManualClock(), settings=DEVELOPMENT) as registry:
        yield Declaring(registry, key)


class TestDeclaring:
    async def test_the_catalogue_shows_it(self, declaring):
        """The model of an operator with an attested key takes `tee` jobs besides the others, and the operator shows its image."""
        info = await declaring.declared()
        assert (info.attested.provider, info.attested.image) == (TeeProvider.TEE_PROVIDER_SIMULATED, "simulated")
        assert info.attested.key == declaring.key.address
        assert await declaring.registry.operator(declaring.key) == info
        assert await declaring.job_types() == ["opml", "tee"]

    async def test_without_evidence_there_is_none(self, declaring):
        """An operator that shows nothing takes `opml` jobs; beside one that does, the model takes both."""
        await declaring.registry.register(declaring.key)
        assert await declaring.job_types() == ["opml"]
        assert not (await declaring.registry.operator(declaring.key)).HasField("attested")
        await Declaring(declaring.registry, OperatorKey.create()).declared()
        assert await declaring.job_types() == ["opml", "tee"]

    async def test_it_ends_with_the_registration(self, declaring):
        """Renewed, it goes on; lapsed or replaced without evidence, it is over."""
        await declaring.declared()
        declaring.registry.clock.advance(seconds=20)
        await declaring.registry.renew(declaring.key)
        declaring.registry.clock.advance(seconds=20)
        assert await declaring.job_types() == ["opml", "tee"]
        await declaring.registry.register(declaring.key)
        assert await declaring.job_types() == ["opml"]
        await declaring.registry.unregister(declaring.key)
        assert await declaring.job_types() == []

    async def test_a_retry_changes_nothing(self, declaring):
        """The same request again, as after a lost reply, gives the same registration."""
        nonce = await declaring.nonce()
        evidence = declaring.evidence(nonce)
        first = await declaring.declare(evidence, nonce)
        assert await declaring.declare(evidence, nonce) == first

    async def test_it_is_kept(self, database_address, key):
        """A registry that starts again shows it still; one for production, over the same file, does not."""
        clock, path = ManualClock(), database_address
        async with running(path, clock=clock, settings=DEVELOPMENT) as registry:
            await Declaring(registry, key).declared()
        async with running(path, clock=clock, settings=DEVELOPMENT) as registry:
            assert await Declaring(registry, key).job_types() == ["opml", "tee"]
        async with running(path, clock=clock) as registry:
            assert await Declaring(registry, key).job_types() == ["opml"]
            assert not (await registry.operator(key)).HasField("attested")


class TestFreshness:
    async def test_a_challenge_is_good_for_a_minute(self, declaring):
        """Evidence for an older one is refused, and registers nothing."""
        nonce = await declaring.nonce()
        evidence = declaring.evidence(nonce)
        declaring.registry.clock.advance(seconds=CHALLENGE_SECONDS + 1)
        with refused("INVALID_FIELD", field="tee_nonce", limit=str(CHALLENGE_SECONDS)):
            await declaring.declare(evidence, nonce)
        with refused("OPERATOR_NOT_FOUND"):
            await declaring.registry.operator(declaring.key)

    @pytest.mark.parametrize("nonce", [b"", bytes(31), bytes(32), b"\xff" * 32, bytes(40)], ids=len)
    async def test_an_operator_cannot_choose_its_own(self, declaring, nonce):
        """What this registry did not make for it answers nothing."""
        with refused("INVALID_FIELD", field="tee_nonce"):
            await declaring.declare(declaring.evidence(bytes(32)), nonce)

    async def test_another_operators_challenge_is_refused(self, declaring):
        """A challenge is for one address alone."""
        other = Declaring(declaring.registry, OperatorKey.create())
        nonce = await other.nonce()
        with refused("INVALID_FIELD", field="tee_nonce"):
            await declaring.declare(declaring.evidence(nonce), nonce)

    async def test_evidence_for_an_earlier_challenge_is_refused(self, declaring):
        """What was recorded once does not answer the next challenge."""
        recorded = declaring.evidence(await declaring.nonce())
        declaring.registry.clock.advance(seconds=1)
        with refused("BAD_EVIDENCE", field="binding"):
            await declaring.declare(recorded, await declaring.nonce())

    async def test_only_an_address_is_challenged(self, declaring):
        """Anything else is refused."""
        with refused("INVALID_FIELD", field="operator"):
            await declaring.registry.stub.ChallengeOperator(pb.ChallengeOperatorRequest(operator="0x12"))


class TestRefusing:
    async def test_another_key_in_the_enclave(self, declaring):
        """An enclave that holds somebody else's key attests nothing about this one."""
        nonce = await declaring.nonce()
        with refused("BAD_EVIDENCE", field="binding", provider="simulated"):
            await declaring.declare(declaring.evidence(nonce, key=OperatorKey.create()), nonce)

    async def test_evidence_that_the_operator_did_not_sign(self, declaring):
        """The proof of the registration speaks of the evidence: nobody can exchange it on the way."""
        nonce = await declaring.nonce()
        signed, sent = declaring.evidence(nonce), declaring.evidence(nonce)
        with refused("BAD_SIGNATURE"):
            await declaring.declare(sent, nonce, signed=signed)

    async def test_simulated_evidence_in_production(self, registry, key):
        """The registry's own defaults refuse it, whatever it says."""
        with refused("BAD_EVIDENCE", field="provider", saying="production settings refuse it"):
            await Declaring(registry, key).declared()

    @pytest.mark.parametrize("name", [SGX, TDX, NITRO])
    async def test_published_evidence_says_something_else(self, database_address, key, name):
        """Genuine hardware, in time, of an image that is trusted: but it does not answer the challenge with this key."""
        found = read(published(name), now=NOW[name])
        trusted = Image("published", found.provider, {one: found.measurements[one] for one in REGISTERS[name]})
        statuses = frozenset({"UpToDate", "ConfigurationAndSWHardeningNeeded"})
        settings = RegistrySettings(tee=Policy(images=(trusted,), tcb_statuses=statuses))
        clock = ManualClock(datetime.fromtimestamp(NOW[name], UTC))
        async with running(database_address, clock=clock, settings=settings) as registry:
            declaring = Declaring(registry, key)
            with refused("BAD_EVIDENCE", field="binding", provider=found.provider):
                await declaring.declare(published(name), await declaring.nonce())

    async def test_published_evidence_of_another_program(self, database_address, key):
        """An image that nobody trusts is refused by its registers."""
        other = Image("other", read(published(NITRO), now=NOW[NITRO]).provider, {"PCR0": "11" * 48})
        clock = ManualClock(datetime.fromtimestamp(NOW[NITRO], UTC))
        settings = RegistrySettings(tee=Policy(images=(other,)))
        async with running(database_address, clock=clock, settings=settings) as registry:
            declaring = Declaring(registry, key)
            with refused("BAD_EVIDENCE", field="measurements"):
                await declaring.declare(published(NITRO), await declaring.nonce())


class TestFlood:
    async def test_declarations_beyond_what_can_wait_are_refused_at_once(self, database_address, key):
        """Anyone may hand in evidence: so many are verified, the others are told to come again, and the registry goes on."""
        settings = replace(DEVELOPMENT, declarations=1)
        async with running(database_address, clock=ManualClock(), settings=settings) as registry:
            await self.flood(Declaring(registry, key))

    async def flood(self, declaring: Declaring) -> None:
        declarers = [Declaring(declaring.registry, OperatorKey.create()) for _ in range(16)]
        prepared = [(one, nonce, one.evidence(nonce)) for one in declarers for nonce in [await one.nonce()]]
        calls = [one.declare(evidence, nonce) for one, nonce, evidence in prepared]
        said = await asyncio.gather(*calls, return_exceptions=True)
        taken = [one for one in said if isinstance(one, pb.OperatorInfo)]
        refusals = [from_rpc_error(one) for one in said if isinstance(one, grpc.aio.AioRpcError)]
        assert taken
        assert {(type(one), one.facts["limit"]) for one in refusals} == {(QueueFull, "1")}
        assert len(taken) + len(refusals) == len(said)
        assert (await declaring.declared()).attested.image == "simulated"
