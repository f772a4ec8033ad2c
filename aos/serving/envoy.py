"""Envoy as a process of its own, from its settings."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from aos.serving.settings import EnvoyProcess
from aos.settings import StartError
from gateway.envoy.run import EnvoyError, running_envoy


@asynccontextmanager
async def serving_envoy(settings: EnvoyProcess) -> AsyncGenerator[tuple[str, ...]]:
    """Run Envoy until the block ends, then let running calls end; gives its address. Raises StartError."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    async with AsyncExitStack() as stack:
        try:
            port = await stack.enter_async_context(running_envoy(settings))
        except EnvoyError as error:
            raise StartError(str(error)) from error
        yield (f"{host}:{port}",)
