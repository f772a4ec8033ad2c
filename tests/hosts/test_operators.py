"""Operators on hosts of their own, when the way to their dispatcher is cut without a word, in both directions or in one."""

from __future__ import annotations

import pytest

from tests.hosts.network import LONGEST, OPERATORS, Network
from tests.hosts.work import REST, accounted, followed, get, go, halfway, text

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(LONGEST)]


class TestCut:
    @pytest.mark.parametrize("unheard", ["both", "operator", "network"])
    async def test_mid_answer(self, network: Network, unheard: str):
        """Its job goes on with the other, behind the tokens that were kept; what it says later adds nothing."""
        async with accounted(network) as jobs, network.caller() as client:
            job, seen = await halfway(network, client)
            jobs.append(job)
            lost = network.which(job.operator)
            other = next(name for name in OPERATORS if name != lost)
            if unheard != "network":
                await network.mute(lost, "gate")
            if unheard != "operator":
                await network.mute("gate", lost)

            await go(network, other)
            assert text(await followed(client, job, seen[-1].sequence)) == REST
            ended = await get(client, job)
            assert (ended.operator, ended.attempts) == (network.operators[other].address, 2)

            await go(network, lost)  # it answers over a link that is cut still, so that all comes at once, and late
            await network.whole()
            assert await get(client, job) == ended
