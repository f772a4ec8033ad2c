"""Connecting to a server of the network."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc

from aos.rpc.server import MESSAGE_BYTES

OPTIONS: Final = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # a server that comes back is found within seconds, not after grpc's two minutes
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # how long one attempt may take: pauses between attempts are the two above
    ("grpc.min_reconnect_backoff_ms", 5_000),
]


@asynccontextmanager
async def channel(address: str, token: str = "") -> AsyncGenerator[grpc.aio.Channel]:
    """Give a channel to ``host:port`` or ``unix:path`` that sends ``token`` with every call, and close it with the block."""
    opened = grpc.aio.insecure_channel(address, options=OPTIONS, interceptors=bearer(token) if token else None)
    try:
        yield opened
    finally:
        await opened.close(0)


def traceparent(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Return the caller's place in a trace, as it was sent; empty if nothing was."""
    for key, value in context.invocation_metadata() or ():
        if key == "traceparent" and isinstance(value, str):
            return value
    return ""


def bearer(token: str) -> list[grpc.aio.ClientInterceptor]:
    """Return interceptors, one a kind of call, that add the token unless the call brings its own."""

    def details(given: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(given.metadata or ()))
        if "authorization" not in metadata:
            metadata.add("authorization", f"Bearer {token}")
        return grpc.aio.ClientCallDetails(given.method, given.timeout, metadata, given.credentials, given.wait_for_ready)

    class UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Continuation, client_call_details: Any, request: Any) -> Any:
            return await continuation(details(client_call_details), request)

    class UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
        async def intercept_unary_stream(self, continuation: Continuation, client_call_details: Any, request: Any) -> Any:
            return await continuation(details(client_call_details), request)

    class StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
        async def intercept_stream_unary(self, continuation: Continuation, client_call_details: Any, request_iterator: Any) -> Any:
            return await continuation(details(client_call_details), request_iterator)

    class StreamStream(grpc.aio.StreamStreamClientInterceptor):
        async def intercept_stream_stream(self, continuation: Continuation, client_call_details: Any, request_iterator: Any) -> Any:
            return await continuation(details(client_call_details), request_iterator)

    return [UnaryUnary(), UnaryStream(), StreamUnary(), StreamStream()]


Continuation = Callable[[Any, Any], Awaitable[Any]]
