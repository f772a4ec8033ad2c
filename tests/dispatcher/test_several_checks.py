"""Checks of answers, where operators are attached to several dispatchers."""

from __future__ import annotations

import asyncio
from pathlib import Path

from eth_account import Account

from aos.dispatcher.risk import RiskSettings
from aos.v1 import dispatcher_pb2 as pb
from aos.verification.keys import OperatorKey
from aos.verification.vrf import VrfKey
from tests.dispatcher.checking import EPOCH, TEXT, TOKENS
from tests.dispatcher.hand import Hand, an_offer
from tests.dispatcher.several import Fleet, several

NOBODY = RiskSettings(plain=0, suspicion_before=0, suspicion_after=0, malicious_before=0, malicious_after=0)


async def keyed(fleet: Fleet, number: int) -> Hand:
    """An operator whose VRF key counts, not attached yet."""
    offer = an_offer()
    offer.exact = True
    key, vrf = OperatorKey(Account.from_key(bytes([number]) * 32)), VrfKey(bytes([number]) * 32)
    hand = await fleet["a"].operator(offer, attach=False, key=key, vrf=vrf)
    fleet.clock.advance(seconds=2 * EPOCH)
    return hand


class TestChecks:
    async def test_done_where_an_operator_can(self, tmp_path: Path, database_address: str):
        """A check that the job's dispatcher has no operator for is done by one that has, and concluded once."""
        async with several(tmp_path, database_address, "a", "b", epoch_seconds=EPOCH, risk=NOBODY) as fleet:
            main, second = await keyed(fleet, 1), await keyed(fleet, 2)
            await fleet.move(main, "a")
            job = await fleet["a"].submit(redundancy=2)
            lease = await main.lease()
            main.start(lease)
            main.say(lease, TEXT, TOKENS)
            await fleet.move(second, "b")
            there = fleet["a"].node._reviews._elsewhere
            await fleet["a"].eventually(lambda: asyncio.sleep(0, there.candidates()), bool)

            main.finish(lease, TEXT, TOKENS)
            await second.review(TEXT, TOKENS)

            checked = await fleet["a"].eventually(lambda: fleet["a"].job(job), lambda seen: seen.verdict_reason)
            assert checked.verdict == pb.VERDICT_CHECKED
            results = (await fleet["b"].project.ListResults(pb.ListResultsRequest(name=job.name))).results
            assert [(one.operator, one.review) for one in results] == [(main.address, False), (second.address, True)]
