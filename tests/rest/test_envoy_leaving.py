"""Envoy when it leaves: callers are told to go elsewhere, and what runs is not cut."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import httpx
import pytest

from gateway.envoy.run import EnvoySettings, running_envoy
from tests.gateway import scripted_network as scripted
from tests.gateway.test_envoy import refuses
from tests.rest.upstream import two_upstreams

PATIENCE = 20


class Leaving:
    """An Envoy that stops when told to, while its upstreams go on."""

    def __init__(self, folder: Path, **settings) -> None:
        self._settings, self.folder = settings, folder
        self._leave, self._ready, self.left = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.port = 0

    async def __aenter__(self):
        self._task = asyncio.create_task(self._run())
        await asyncio.wait_for(self._ready.wait(), PATIENCE + 30)
        return self

    async def _run(self) -> None:
        async with two_upstreams(self.folder) as (a, b):
            where = f"unix:{a.socket},unix:{b.socket}"
            async with running_envoy(EnvoySettings(upstream=where, health_seconds=0.2, **self._settings)) as self.port:
                self._ready.set()
                await self._leave.wait()
            self.left.set()

    def leave(self) -> None:
        self._leave.set()

    async def __aexit__(self, *_) -> None:
        self.leave()
        await asyncio.wait_for(self._task, PATIENCE)

    def client(self) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {scripted.TOKEN}"}
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=PATIENCE)


@pytest.fixture
def folder():
    """A folder with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="aos-test-") as name:
        yield Path(name)


async def until_up(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await client.get("/healthz")).status_code != 200:
            await asyncio.sleep(0.05)


class TestLeaving:
    async def test_a_stream_outlives_the_drain_of_its_listener(self, folder):
        """Its listener refuses everybody, and a stream that had begun goes on to its end."""
        async with Leaving(folder, drain_seconds=PATIENCE) as envoy, envoy.client() as client:
            await until_up(client)
            async with client.stream("GET", "/v1/jobs/slow:watch") as reply:
                lines = reply.aiter_lines()
                first = await anext(lines)
                envoy.leave()
                await refuses(envoy.port)
                assert not envoy.left.is_set()
                (folder / "jobs-slow").touch()
                rest = [line async for line in lines if line]
            await asyncio.wait_for(envoy.left.wait(), PATIENCE)
        texts = [json.loads(line.removeprefix("data: "))["chunk"]["text"] for line in (first, *rest)]
        assert texts == ["one", "two"]

    async def test_callers_are_told_first(self, folder):
        """For a time it still answers, says at /healthz that it leaves, and asks whoever calls to connect anew."""
        async with Leaving(folder, notice_seconds=4, drain_seconds=PATIENCE) as envoy, envoy.client() as client:
            await until_up(client)
            before = await client.get("/v1/jobs/1")
            envoy.leave()
            async with asyncio.timeout(3):
                while (await client.get("/healthz")).status_code == 200:
                    await asyncio.sleep(0.05)
            after = await client.get("/v1/jobs/1")
        assert (before.status_code, before.headers.get("connection")) == (200, None)
        assert (after.status_code, after.headers.get("connection")) == (200, "close")
