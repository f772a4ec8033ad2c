"""Whether a server should get calls: what it needs is asked, again and again, and whoever balances over servers is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

ASK_SECONDS: Final = 1.0
"""How often what is needed is asked."""
ANSWER_SECONDS: Final = 2.0
"""How long it may take to answer."""
LIVE: Final = "live"
"""The name under which health says only that the process works, whatever it needs: for whoever would end it otherwise."""

log = logging.getLogger(__name__)

Need = Callable[[], Awaitable[Any]]
"""Returns if what is needed is there, and raises if it is not."""


class Readiness:
    """Ready while everything that is needed answers, until ``leave``."""

    def __init__(self, needs: Mapping[str, Need]) -> None:
        """``needs`` are asked by their names, which the log has."""
        self._needs, self._leaving = needs, asyncio.Event()
        self._ready = asyncio.Event()

    def leave(self) -> None:
        """Be ready no more; to be called some time before calls are refused. Idempotent."""
        self._leaving.set()

    async def ready(self) -> None:
        """Return once everything that is needed has answered."""
        await self._ready.wait()

    async def follow(self, tell: Callable[[bool], Awaitable[None]]) -> None:
        """``tell`` whether it is ready whenever that changes; returns after ``leave``."""
        told: bool | None = None
        missing: str | None = None
        while not self._leaving.is_set():
            if (found := await self._missing()) != missing:
                missing = found
                log.warning("not ready: %s", missing) if missing else log.info("ready")
            if told is not (now := not missing and not self._leaving.is_set()):
                told = now
                self._ready.set() if now else self._ready.clear()
                await tell(now)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), ASK_SECONDS)
        if told is not False:
            await tell(False)  # said by the parameter's name

    async def _missing(self) -> str:
        """Return what does not answer, and why; empty if all is well."""
        answers = await asyncio.gather(*(_asked(name, need) for name, need in self._needs.items()))
        return "; ".join(one for one in answers if one)


async def _asked(name: str, need: Need) -> str:
    try:
        await asyncio.wait_for(need(), ANSWER_SECONDS)
    except TimeoutError:
        return f"{name} does not answer within {ANSWER_SECONDS:g} s"
    except grpc.aio.AioRpcError as error:
        return f"{name}: {error.code().name}"
    except Exception as error:
        return f"{name}: {type(error).__name__}"
    return ""


class NotServing(Exception):
    """A server answers, and is not ready itself."""


def serves(channel: grpc.aio.Channel) -> Need:
    """Return what asks a server whether it is ready."""
    stub: Any = health_pb2_grpc.HealthStub(channel)

    async def ask() -> None:
        reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=ANSWER_SECONDS)
        if reply.status != health_pb2.HealthCheckResponse.SERVING:
            raise NotServing

    return ask
