"""Callers on a host of their own, whose connections stand and say nothing more."""

from __future__ import annotations

import asyncio
import subprocess

import grpc
import httpx
import pytest

from aos.client import Client
from aos.v1.dispatcher_pb2 import CreateJobRequest, ListJobsRequest, WatchJobRequest
from tests.hosts.network import LONGEST, PATIENCE, Network, eventually
from tests.hosts.work import ORDER, REST, accounted, followed, get, go, halfway, text

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(LONGEST)]

SHORT = 2.0
"""Seconds for which a caller waits that hears nothing."""


async def connections(network: Network) -> list[str]:
    """Return the connections with the caller's host that stand, as Envoy's host sees them."""
    command = network.hosts["gate"].command("ss", "-Htn", "state", "established", "dst", network.hosts["caller"].address)
    return (await asyncio.to_thread(subprocess.check_output, command, text=True)).splitlines()


async def names(client: Client) -> set[str]:
    return {job.name for job in (await client.dispatcher.ListJobs(ListJobsRequest(page_size=1000))).jobs}


class TestHalfOpen:
    async def test_while_they_watch(self, network: Network):
        """Connections are given up, of gRPC and of REST; the job goes on, and so does a new watch, where the old one stopped."""
        async with accounted(network) as jobs, network.caller() as client:
            job, seen = await halfway(network, client)
            jobs.append(job)
            watch = client.dispatcher.WatchJob(WatchJobRequest(name=job.name))
            assert (await watch.read()).sequence == 1
            transport = httpx.AsyncHTTPTransport(uds=f"{network.folder}/door")
            headers = {"authorization": f"Bearer {network.token}"}
            async with (
                httpx.AsyncClient(transport=transport, base_url="http://gate", headers=headers) as rest,
                rest.stream("GET", f"/v1/{job.name}:watch") as stream,
            ):
                parts = stream.aiter_text()  # without a name it would be closed at once, and the connection with it
                assert "data:" in await anext(parts)
                assert len(await connections(network)) == 2

                await network.cut("caller", "gate")
                await eventually(lambda: connections(network), lambda standing: not standing)
                watch.cancel()
            await go(network)
            async with network.at("one") as beside:
                await eventually(lambda: get(beside, job), lambda now: now.HasField("ended"))

            await network.heal("caller", "gate")
            async with network.caller() as again:
                assert text(await followed(again, job, seen[-1].sequence)) == REST

    async def test_when_they_submit(self, network: Network):
        """One that did not hear that its job was accepted asks again, with the same id, and has that job, paid once."""
        async with accounted(network) as jobs, network.caller() as client, network.at("one") as beside:
            before = await names(client)  # its connection stands now
            await network.mute("gate", "caller")
            request = CreateJobRequest(request_id=f"once {len(before)}", order=ORDER)
            with pytest.raises(grpc.aio.AioRpcError) as unheard:
                await client.dispatcher.CreateJob(request, timeout=SHORT)
            assert unheard.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            (made,) = await eventually(lambda: names(beside), lambda now: now > before) - before

            await network.heal("gate", "caller")
            jobs.append(await client.dispatcher.CreateJob(request, timeout=PATIENCE))
            assert jobs[0].name == made
            assert await names(beside) == before | {made}
