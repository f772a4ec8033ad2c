"""What an operator counts of the model servers that are registered behind it."""

from __future__ import annotations

import asyncio

import pytest_asyncio

from aos.metrics import CollectorRegistry, exposition
from aos.operator.hosting import Hosting
from aos.operator.offering import Offers
from aos.operator.upstream import upstream_client
from aos.operator.upstream_metrics import UpstreamMetrics
from tests.operator.dispatching import running_network
from tests.operator.model_server import model_server
from tests.operator.test_hosting import PRICE, SECONDS, SETTINGS, at, end, register, time_passes


@pytest_asyncio.fixture
async def network(tmp_path, key):
    async with running_network(tmp_path, key) as network:
        yield network


async def nobody(offers: Offers) -> None:
    """Tell no one."""


class TestUpstreamMetrics:
    async def test_states_and_looks(self, network):
        """A server that answers is healthy, a stopped one down, looks and canaries are counted; a model's series go with it."""
        registry, where = CollectorRegistry(), {"model_name": "hosted", "operator": "0xab"}

        def servers(state: str) -> float | None:
            return registry.get_sample_value("aos_upstream_servers", where | {"state": state})

        def probes(kind: str, outcome: str) -> float:
            labels = where | {"kind": kind, "outcome": outcome}
            return registry.get_sample_value("aos_upstream_probes_total", labels) or 0

        how = {"settings": SETTINGS, "own": (), "price": PRICE, "clock": network.clock, "random": lambda: 0.5}
        counts = UpstreamMetrics(registry, operator="0xab", groups=lambda: list(hosting.groups()))
        async with (
            model_server() as server,
            upstream_client() as client,
            Hosting(network.key, network.channel, client, **how, probed=counts.probed) as hosting,
            asyncio.timeout(SECONDS),
        ):
            hosting.start(nobody)
            await register(network, network.key, at(server))
            while servers("healthy") != 1:
                await asyncio.sleep(0.01)
            assert (probes("look", "good"), probes("canary", "good"), probes("look", "failed")) == (1, 1, 0)
            await server.stop()
            async with time_passes(network):
                while servers("down") != 1:
                    await asyncio.sleep(0.01)
            assert (servers("healthy"), probes("look", "failed") > 0) == (0, True)
            await end(network, network.key, force=True)
            while hosting.groups():
                await asyncio.sleep(0.01)

            assert "hosted" not in exposition(registry).data.decode()
