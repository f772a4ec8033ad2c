"""Pytest fixtures: say ``pytest_plugins = ["aos.testing.plugin"]`` and ask for ``aos``, ``aos_rest``, ``aos_real`` or ``anvil``.

Fixtures only, so that importing the harness never needs pytest. They need pytest-asyncio.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import pytest
import pytest_asyncio

from aos.clock import SystemClock
from aos.settings import bundled_model
from aos.testing.anvil import Anvil, anvil_beside
from aos.testing.harness import Aos, running_aos


@pytest_asyncio.fixture
async def aos() -> AsyncGenerator[Aos]:
    """A network with one scripted operator and a clock that the test turns; no Envoy."""
    async with running_aos() as network:
        yield network


@pytest_asyncio.fixture
async def aos_rest() -> AsyncGenerator[Aos]:
    """The same behind a real Envoy, on the machine's clock."""
    async with running_aos(envoy=True, clock=SystemClock()) as network:
        yield network


@pytest_asyncio.fixture
async def aos_real() -> AsyncGenerator[Aos]:
    """A network on the bundled model and the real llama.cpp, behind a real Envoy."""
    from aos.operator.llama import loaded

    async with (
        loaded(bundled_model()) as model,
        running_aos(model, name=bundled_model().stem, envoy=True, clock=SystemClock()) as network,
    ):
        yield network


@pytest.fixture(scope="session")
def anvil() -> Generator[Anvil]:
    """A chain for the whole session: take a snapshot before a test, and go back to it behind."""
    with anvil_beside() as chain:
        yield chain
