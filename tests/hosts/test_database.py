"""Dispatchers on hosts of their own, when the way to their database is cut, or slow."""

from __future__ import annotations

import asyncio

import pytest

from aos.errors import ServiceUnavailable
from tests.hosts.network import DISPATCHERS, LONGEST, Network, eventually
from tests.hosts.work import ORDER, REST, accounted, followed, go, halfway, text

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(LONGEST)]

SLOW_SECONDS = 0.1
"""Each way."""
MANY = 8


class TestCut:
    async def test_one_dispatcher(self, network: Network):
        """It says that it is not well, and sends its operators away; its job goes on elsewhere, and it works again once it can."""
        async with accounted(network) as jobs, network.caller() as client:
            job, _ = await halfway(network, client)
            jobs.append(job)
            alone = (await network.attached())[job.operator]
            other = next(name for name in DISPATCHERS if name != alone)
            watching = asyncio.create_task(followed(client, job))

            await network.cut(alone, "database")
            await go(network)  # what is said now is heard by the dispatcher that cannot keep it
            await network.serves(alone, well=False)
            await watching
            await eventually(network.attached, lambda seen: [*seen.values()] == [other, other])
            jobs.append(await client.submit(ORDER))
            await followed(client, jobs[-1])

            await network.heal(alone, "database")
            await network.serves(alone)
            async with network.at(alone) as back:
                jobs.append(await back.submit(ORDER))
                await followed(back, jobs[-1])

    async def test_all_dispatchers(self, network: Network):
        """Nothing goes on, and nothing is lost: all goes on when the database can be reached again."""
        async with accounted(network) as jobs, network.caller() as client:
            job, seen = await halfway(network, client)
            jobs.append(job)
            for name in DISPATCHERS:
                await network.cut(name, "database")
            await go(network)
            for name in DISPATCHERS:
                await network.serves(name, well=False)
            with pytest.raises(ServiceUnavailable):
                await client.submit(ORDER)

            for name in DISPATCHERS:
                await network.heal(name, "database")
            assert text(await followed(client, job, seen[-1].sequence)) == REST


class TestSlow:
    async def test_both_dispatchers(self, network: Network):
        """With 100 ms each way jobs take longer, and nobody is given up."""
        async with accounted(network) as jobs, network.caller() as client:
            before = await network.attached()
            for name in DISPATCHERS:
                await network.slow(name, "database", SLOW_SECONDS)
            jobs.extend(await asyncio.gather(*(client.submit(ORDER) for _ in range(MANY))))
            await asyncio.gather(*(followed(client, job) for job in jobs))
            assert await network.attached() == before
