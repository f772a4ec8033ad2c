"""Serving: health, reflection, limits, errors, auth, and a shutdown that lets running calls end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from aos.rpc.auth import Authenticator, AuthInterceptor
from aos.rpc.readiness import LIVE, Readiness
from aos.rpc.status import ErrorInterceptor

MESSAGE_BYTES: Final = 8 << 20
"""Largest message a server takes; an order is at most 1 MiB of text, which JSON escapes can make several times longer."""

OPTIONS: Final = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
    # clients may ping every 10 s, as streams that wait for long need to (else GOAWAY too_many_pings); on a busy machine two pings
    # arrive closer to each other than they were sent
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # find half-open connections: an operator whose machine is gone is noticed within 30 s even between heartbeats
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


@dataclass(frozen=True, slots=True)
class Service:
    """A servicer and how it is added to a server."""

    descriptor: ServiceDescriptor
    add: Callable[[Any, grpc.aio.Server], None]
    servicer: Any


@asynccontextmanager
async def serving(
    *services: Service,
    authenticate: Authenticator,
    addresses: tuple[str, ...] = ("127.0.0.1:0",),
    grace: float = 10.0,
    readiness: Readiness | None = None,
) -> AsyncGenerator[list[int]]:
    """Serve until the block ends; then refuse new calls and give running ones ``grace`` seconds.

    Gives the ports of ``addresses`` in their order (for ``unix:`` addresses, 1). Health says SERVING, or, with ``readiness``, what
    that says; under the name `live` it says SERVING as long as the process works. Raises RuntimeError if an address is taken.
    """
    # outermost first: a refusal by auth is a status like any other
    server = grpc.aio.server(interceptors=[ErrorInterceptor(), AuthInterceptor(authenticate)], options=OPTIONS)
    alive: Any = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue]  # its stubs lack it
    taking = cast("grpc.aio.Server", _Generic(server))
    health_pb2_grpc.add_HealthServicer_to_server(alive, taking)
    names = [service.descriptor.full_name for service in services]
    for service in services:
        service.add(service.servicer, taking)
    # enable_server_reflection() would take ``taking`` for a server with threads
    listing = reflection.aio.ReflectionServicer([*names, health.SERVICE_NAME, reflection.SERVICE_NAME])
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(listing, taking)
    ports = [server.add_insecure_port(address) for address in addresses]

    async def tell(ready: bool) -> None:  # noqa: FBT001  # called by Readiness
        said = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ["", *names]:
            await alive.set(name, said)

    await alive.set(LIVE, health_pb2.HealthCheckResponse.SERVING)
    await tell(readiness is None)
    await server.start()
    following = asyncio.create_task(readiness.follow(tell)) if readiness is not None else None
    try:
        yield ports
    finally:
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        await alive.enter_graceful_shutdown()
        await server.stop(grace)


class _Generic:
    """A server as generated code fills it, which finds its methods by their names, one waiting call for all of them.

    For methods that are registered, grpc.aio has a waiting call each, and looks at all of them whenever a call comes: with the
    hundred methods of the network that took a tenth of a job's time.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Take a service's methods."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Pass over what ``add_generic_rpc_handlers`` brings, too."""
