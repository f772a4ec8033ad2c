"""Dispatchers on hosts of their own, when the way to the callers and operators, or to the broker, is cut without a word."""

from __future__ import annotations

import pytest

from aos.errors import ServiceUnavailable
from aos.v1.dispatcher_pb2 import JobState
from tests.hosts.network import DISPATCHERS, LONGEST, Network, eventually
from tests.hosts.work import ORDER, REST, accounted, followed, get, go, halfway, text

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(LONGEST)]


class TestCutFromEnvoy:
    async def test_one_of_two(self, network: Network):
        """Its operators and watchers are the other's before long, and its job goes on there."""
        async with accounted(network) as jobs, network.caller() as client:
            job, seen = await halfway(network, client)
            jobs.append(job)
            alone = (await network.attached())[job.operator]
            other = next(name for name in DISPATCHERS if name != alone)

            await network.cut(alone, "gate")
            await go(network)
            assert text(await followed(client, job, seen[-1].sequence)) == REST
            assert set((await eventually(network.attached, lambda now: set(now.values()) == {other} and len(now) == 2)).values())
            jobs.append(await client.submit(ORDER))
            await followed(client, jobs[-1])


class TestCutFromBroker:
    async def test_all(self, network: Network):
        """What runs ends, and is paid for later; nothing new is taken in, and asking again takes in one job."""
        async with accounted(network) as jobs, network.caller() as client:
            job, _ = await halfway(network, client)
            jobs.append(job)
            for name in DISPATCHERS:
                await network.cut(name, "services")
            async with network.at("one") as beside:
                with pytest.raises(ServiceUnavailable):
                    await beside.submit(ORDER, request_id=f"after {job.name}")
                await go(network)
                done = await eventually(lambda: get(beside, job), lambda now: now.HasField("ended"))
                assert done.state == JobState.JOB_STATE_COMPLETED
                assert int((await network.account()).held) > 0

                for name in DISPATCHERS:
                    await network.heal(name, "services")
                    await network.serves(name)
                jobs.append(await beside.submit(ORDER, request_id=f"after {job.name}"))
