"""One network on hosts for all tests of faults, whole at the beginning of each."""

from __future__ import annotations

import pytest_asyncio

from tests.hosts.network import Network, network_on_hosts


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def running_network() -> Network:
    async with network_on_hosts() as network:
        yield network


@pytest_asyncio.fixture(loop_scope="package")
async def network(running_network: Network) -> Network:
    """The network, with nothing wrong."""
    await running_network.whole()
    return running_network
