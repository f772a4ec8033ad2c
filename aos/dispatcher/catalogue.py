"""The registry's catalogue as this dispatcher last heard it, so that a submission need not ask for its model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

import grpc

from aos.clock import Clock
from aos.dispatcher.peers import ask
from aos.v1 import registry_pb2_grpc
from aos.v1.registry_pb2 import GetModelRequest, Model, OperatorInfo, WatchCatalogRequest

AGAIN_SECONDS: Final = 1.0
"""How long until the registry is asked again for its changes, after it ended the stream."""

log = logging.getLogger(__name__)


class Catalogue:
    """Follows `Registry.WatchCatalog`. While the stream is broken, and for what it does not have, the registry is asked."""

    def __init__(self, registry: registry_pb2_grpc.RegistryAsyncStub, *, clock: Clock, seconds: float) -> None:
        """``seconds`` is how long the registry may take for an answer."""
        self._registry, self._clock, self._seconds = registry, clock, seconds
        self.changed: Callable[[], None] = lambda: None
        """Called whenever something is new."""
        self._models: Mapping[str, Model] = {}
        self._operators: Mapping[str, OperatorInfo] | None = None

    async def model(self, name: str) -> Model:
        """Return the model as it stands, not to be changed. Raises ModelNotFound, or ServiceUnavailable if nobody knows."""
        known = self._models.get(name)
        if known is not None and known.routable:
            return known
        # it may have come this moment; and the registry says what there is instead
        return await ask("registry", self._registry.GetModel(GetModelRequest(name=name), timeout=self._seconds))

    def why_not(self, operator: str) -> str:
        """Say why the registry would send no job to an operator that was registered when it attached; empty if it would.

        Nothing is said while the registry is not heard.
        """
        if self._operators is None:
            return ""
        known = self._operators.get(f"operators/{operator}")
        if known is None:
            return "is not registered any more"
        return "" if known.routable else f"is not used, as the registry said: {known.reason}"

    def unroutable(self, model: str) -> str | None:
        """Say why the registry would send no job for the model anywhere; empty if it would, None while it is not heard."""
        if self._operators is None:
            return None
        known = self._models.get(model)
        if known is None:
            return "no operator offers it any more"
        return "" if known.routable else known.reason

    async def follow_forever(self) -> None:
        """Keep up with the registry."""
        while True:
            try:
                await self._follow()
            except grpc.aio.AioRpcError as error:
                log.warning("the registry's catalogue cannot be followed, will try again: %s", error.details())
            except Exception:
                log.exception("the registry's catalogue cannot be followed, will try again")
            # what was true when it was last heard is not known to be so now
            self._models, self._operators = {}, None
            await self._clock.sleep(AGAIN_SECONDS)

    async def _follow(self) -> None:
        models: dict[str, Model] = {}
        operators: dict[str, OperatorInfo] = {}
        call = self._registry.WatchCatalog(WatchCatalogRequest())
        try:
            async for part in call:
                models |= {one.name: one for one in part.models}
                operators |= {one.name: one for one in part.operators}
                if not part.more:
                    self._models, self._operators = models, operators
                    models, operators = {}, {}
                    self.changed()
        except asyncio.CancelledError:
            call.cancel()
            raise
