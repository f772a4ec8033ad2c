"""One network a module, behind a real Envoy: the tests only ask, so they can share it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx
import pytest_asyncio

from aos.clock import SystemClock
from aos.testing.harness import Aos, running_aos


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def aos_rest() -> AsyncGenerator[Aos]:
    async with running_aos(envoy=True, clock=SystemClock()) as network:
        yield network


@pytest_asyncio.fixture(loop_scope="module")
async def rest(aos_rest: Aos) -> AsyncGenerator[httpx.AsyncClient]:
    """An HTTP client that sends the project's token."""
    headers = {"authorization": f"Bearer {aos_rest.token}"}
    async with httpx.AsyncClient(base_url=aos_rest.url, headers=headers, timeout=20) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def bare(aos_rest: Aos) -> AsyncGenerator[httpx.AsyncClient]:
    """An HTTP client that sends no token."""
    async with httpx.AsyncClient(base_url=aos_rest.url, timeout=20) as client:
        yield client
