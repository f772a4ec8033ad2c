from __future__ import annotations

from collections.abc import Iterator

import pytest

from aos.testing.anvil import Anvil
from tests.contracts.world import World


@pytest.fixture(scope="session")
def deployed(anvil: Anvil) -> Iterator[World]:
    world = World(anvil)
    yield world
    world.close()


@pytest.fixture
def world(deployed: World) -> Iterator[World]:
    """The contracts as they were deployed; what the test does to them is undone."""
    before = deployed.rpc("evm_snapshot")
    yield deployed
    assert deployed.rpc("evm_revert", before)
