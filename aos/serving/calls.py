"""Calling the other services: one channel for all of them, over all their addresses, with the powers that a call needs."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, NoReturn, Self

import grpc

from aos.rpc.auth import ON_BEHALF
from aos.rpc.channel import OPTIONS, bearer
from aos.serving.targets import target

OWNERS: Final = {
    "Registry": "registry",
    "Broker": "broker",
    "Requests": "broker",
    "Dispatcher": "dispatchers",
    "Blobs": "dispatchers",
    "Callbacks": "dispatchers",
    "Controllers": "dispatchers",
}
"""Which process serves a service of `aos.v1`."""
SPREAD: Final = json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}})
"""gRPC's own words for: in turn over all addresses that are connected and say that they are ready."""


@asynccontextmanager
async def spread(address: str, token: str = "", *, acting: bool = False) -> AsyncGenerator[grpc.aio.Channel]:
    """Give a channel over all that ``address`` names, which sends ``token``, and close it with the block.

    With ``acting``, a call's own token is taken for the name of a project, `projects/…`, and the call is made as that project.
    """
    options = [*OPTIONS, ("grpc.service_config", SPREAD)]
    interceptors = [*(_acting() if acting else ()), *(bearer(token) if token else ())]
    opened = grpc.aio.insecure_channel(target(address), options=options, interceptors=interceptors or None)
    try:
        yield opened
    finally:
        await opened.close(0)


@asynccontextmanager
async def to_services(addresses: Mapping[str, str], token: str = "", *, acting: bool = False) -> AsyncGenerator[Routed]:
    """Give one channel to all services; ``addresses`` are by the values of ``OWNERS``; the rest is as for ``spread``."""
    async with AsyncExitStack() as stack:
        opened = {name: await stack.enter_async_context(spread(one, token, acting=acting)) for name, one in addresses.items()}
        yield Routed(opened)


class Routed(grpc.aio.Channel):
    """Sends each call to the process that serves its method. Closed by whoever opened the channels behind it."""

    def __init__(self, channels: Mapping[str, grpc.aio.Channel]) -> None:
        """``channels`` are by the values of ``OWNERS``."""
        self._channels = channels

    def _to(self, method: str) -> grpc.aio.Channel:
        service = method.split("/")[1].rpartition(".")[2]
        return self._channels[OWNERS[service]]

    def unary_unary(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Return what makes calls of the method."""
        return self._to(method).unary_unary(method, *arguments, **named)

    def unary_stream(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Return what makes calls of the method."""
        return self._to(method).unary_stream(method, *arguments, **named)

    def stream_unary(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Return what makes calls of the method."""
        return self._to(method).stream_unary(method, *arguments, **named)

    def stream_stream(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Return what makes calls of the method."""
        return self._to(method).stream_stream(method, *arguments, **named)

    async def close(self, grace: float | None = None) -> None:
        """Leave the channels to those who opened them."""

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Do as ``close``."""

    def get_state(self, try_to_connect: bool = False) -> NoReturn:  # noqa: FBT001, FBT002  # grpc's signature
        """Raise: it has as many states as channels."""
        raise NotImplementedError

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Raise: it has as many states as channels."""
        raise NotImplementedError

    async def channel_ready(self) -> None:
        """Return once all channels are connected."""
        for one in self._channels.values():
            await one.channel_ready()


def _acting() -> list[grpc.aio.ClientInterceptor]:
    """Return interceptors that say for which project a service calls, in place of a token of its own."""

    def details(given: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        sent = list(given.metadata or ())
        kept = [(key, value) for key, value in sent if key != "authorization"]
        project = next((str(value).partition(" ")[2] for key, value in sent if key == "authorization"), "")
        if not project:
            raise ValueError("a call for a project must name it")
        metadata = grpc.aio.Metadata(*kept, (ON_BEHALF, project))
        return grpc.aio.ClientCallDetails(given.method, given.timeout, metadata, given.credentials, given.wait_for_ready)

    class UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            return await continuation(details(client_call_details), request)

    class UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
        async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            return await continuation(details(client_call_details), request)

    return [UnaryUnary(), UnaryStream()]
