"""A hand-driven operator in a simulated TEE, and a network that takes its evidence."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from aos.testing.clock import ManualClock
from aos.v1 import dispatcher_pb2 as pb
from aos.v1 import registry_pb2, registry_pb2_grpc
from aos.v1.attestation_pb2 import Attestation
from aos.v1.operator_pb2 import Finish
from aos.v1.types_pb2 import FinishReason
from aos.verification.attestation.evidence import Evidence
from aos.verification.attestation.policy import Policy
from aos.verification.attestation.simulated import SimulatedTee, image, measured
from aos.verification.attestation.statement import answer, declare
from aos.verification.attestation.wire import evidence_digest, sign_answer, write_attestation
from aos.verification.keys import prove
from tests.dispatcher.conftest import Harness, running
from tests.dispatcher.hand import Hand
from tests.receipts import a_trace

TEXT, TOKENS = "An answer.", (1, 2, 3)
POLICY = Policy(images=(image(),), production=False)


class Enclave(Hand):
    """Its key is declared as attested when it registers."""

    def start_enclave(self, now: int) -> None:
        self.now, self.tee = now, SimulatedTee(measured(), now=now)

    async def register(self, registry: registry_pb2_grpc.RegistryAsyncStub, *, now: int) -> None:
        self.start_enclave(now)
        asked = registry_pb2.ChallengeOperatorRequest(operator=self.key.address)
        nonce = (await registry.ChallengeOperator(asked)).nonce
        evidence = self.tee.attest(declare(self.key.address, nonce), now=now)
        proof = prove(self.key, "register", self.offers, issued_at=now, evidence=evidence_digest(evidence))
        request = registry_pb2.RegisterOperatorRequest(
            proof=proof, offers=self.offers, attestation=write_attestation(evidence), tee_nonce=nonce
        )
        await registry.RegisterOperator(request)

    def answer(
        self, lease: pb.Lease, *, evidence: Evidence | None = None, message: Attestation | None = None, **changes
    ) -> pb.Lease:
        """Run the lease to its end, with its own evidence unless other is given, or another message."""
        self.start(lease)
        self.say(lease, TEXT, TOKENS)
        receipt = self.receipt(lease, TEXT, TOKENS, **changes)
        given = evidence or self.tee.attest(answer(receipt), now=self.now)
        finish = Finish(reason=FinishReason.FINISH_REASON_STOP, receipt=receipt, trace=a_trace(TOKENS))
        said = message or sign_answer(given, receipt, self.key)
        self.send(finished=pb.LeaseFinished(lease=lease.id, finish=finish, attestation=said))
        return lease


class Enclosed(Harness):
    """A dispatcher that takes simulated evidence."""

    async def enclave(self, *, attach: bool = True) -> Enclave:
        hand = Enclave()
        await hand.register(self.registry, now=int(self.clock.now().timestamp()))
        if attach:
            await hand.attach(self.nobody)
        return hand

    async def evidence(self) -> list[pb.Evidence]:
        return list((await self.admin.ListEvidence(pb.ListEvidenceRequest())).evidence)


@asynccontextmanager
async def enclosed(
    folder: Path, *, policy: Policy = POLICY, clock: ManualClock | None = None, **settings
) -> AsyncGenerator[Enclosed]:
    async with running(folder, clock=clock, tee=policy, **settings) as harness:
        harness.__class__ = Enclosed
        assert isinstance(harness, Enclosed)
        yield harness
