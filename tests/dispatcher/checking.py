"""Hand-driven operators with VRF keys, and what a test looks at once they have checked a job."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from eth_account import Account

from aos.dispatcher.risk import RiskSettings
from aos.v1 import dispatcher_pb2 as pb
from aos.verification.keys import OperatorKey
from aos.verification.vrf import VrfKey
from tests.dispatcher.conftest import Harness, running
from tests.dispatcher.hand import Hand, an_offer

TEXT, TOKENS = "An answer.", (1, 2, 3)
OTHER, OTHERS = "Another.", (4, 5)
EPOCH = 1.0


class Checked(Harness):
    """A dispatcher whose operators have VRF keys. Nobody checks a job unless that is asked for."""

    async def keyed(self, number: int, *, attach: bool = True) -> Hand:
        """An operator whose VRF key counts, and whose answers are exact."""
        key = OperatorKey(Account.from_key(bytes([number]) * 32))
        offer = an_offer()
        offer.exact = True
        hand = await self.operator(offer, attach=False, key=key, vrf=VrfKey(bytes([number]) * 32))
        self.clock.advance(seconds=2 * EPOCH)
        if attach:
            await hand.attach(self.nobody)
        return hand

    async def many(self, *numbers: int) -> list[Hand]:
        """Operators whose keys count, not attached yet."""
        return [await self.keyed(number, attach=False) for number in numbers]

    async def answered(
        self, main: Hand, reviewers: list[Hand], text=TEXT, tokens=TOKENS, says: dict | None = None, **asked
    ) -> pb.Job:
        """A job that ``main`` has answered, with these attached to check it."""
        job = await self.submit(**asked)
        lease = await main.lease()
        main.start(lease)
        main.say(lease, text, tokens)
        for one in reviewers:
            await one.attach(self.nobody)
        main.finish(lease, text, tokens, **(says or {}))
        return await self.ends(job)

    async def concluded(self, job: pb.Job) -> pb.Job:
        """The job once its check is over."""
        return await self.eventually(lambda: self.job(job), lambda seen: seen.verdict_reason)

    async def results(self, job: pb.Job) -> list[pb.JobResult]:
        return list((await self.project.ListResults(pb.ListResultsRequest(name=job.name))).results)

    async def evidence(self, by=None, **fields) -> list[pb.Evidence]:
        return list((await (by or self.project).ListEvidence(pb.ListEvidenceRequest(**fields))).evidence)

    async def recorded(self, count: int = 1) -> list[pb.Evidence]:
        return await self.eventually(lambda: self.evidence(by=self.admin), lambda found: len(found) >= count)


@asynccontextmanager
async def checking(folder: Path, *, risk: RiskSettings | None = None, **settings) -> AsyncGenerator[Checked]:
    given = risk or RiskSettings(plain=0, suspicion_before=0, suspicion_after=0, malicious_before=0, malicious_after=0)
    async with running(folder, epoch_seconds=EPOCH, risk=given, **settings) as harness:
        harness.__class__ = Checked
        assert isinstance(harness, Checked)
        yield harness
