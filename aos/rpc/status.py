"""Errors as ``google.rpc.Status``, in both directions: one mapping for servers and clients."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from inspect import iscoroutinefunction
from typing import Any, Final, TypeVar

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from aos.errors import REASONS, AosError, ServiceUnavailable, Violation

DOMAIN = "aos"
# A status travels as trailers, of which clients take 8 KiB: the message twice, once with each byte as up to 3 characters.
MESSAGE_BYTES: Final = 1000
FACT_BYTES: Final = 500

T = TypeVar("T")

log = logging.getLogger(__name__)


def to_status(error: AosError) -> status_pb2.Status:
    """Return the status that says all the error says: ErrorInfo, then field violations, then when to retry."""
    message = _cut(error.message, MESSAGE_BYTES)
    facts = {key: _cut(value, FACT_BYTES) for key, value in error.facts.items()}
    details = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=facts)]
    packed = [_pack(detail) for detail in details]
    if error.violations:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(
                field=_cut(one.field, FACT_BYTES), description=_cut(one.description, FACT_BYTES)
            )
            for one in error.violations
        ]
        packed.append(_pack(error_details_pb2.BadRequest(field_violations=violations)))
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after * 1e9))
        packed.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=code_pb2.Code.Value(error.code), message=message, details=packed)


def _cut(text: str, most: int) -> str:
    kept = text.encode(errors="replace")
    return text if len(kept) <= most else f"{kept[: most - 3].decode(errors='ignore')}..."


def _pack(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def from_rpc_error(error: grpc.aio.AioRpcError) -> AosError | None:
    """Return the AosError that a server raised, or None for a status that no server of ours made.

    UNAVAILABLE from the transport itself becomes ServiceUnavailable.
    """
    status = rpc_status.from_call(error)  # pyright: ignore[reportArgumentType]  # an AioRpcError has what it reads
    if status is None:
        return ServiceUnavailable("server") if error.code() is grpc.StatusCode.UNAVAILABLE else None
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status.details:
        for kind in (info, bad, retry):
            detail.Unpack(kind)
    if info.domain != DOMAIN or info.reason not in REASONS:
        return None
    violations = tuple(Violation(one.field, one.description) for one in bad.field_violations)
    delay = retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None
    return REASONS[info.reason].rebuild(status.message, dict(info.metadata), violations, delay)


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns what a handler raises into a status. Servicers never call ``context.abort``."""

    def __init__(self) -> None:
        self._wrapped = Wrapped()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None:  # no such method, and grpc says so
            return None
        return self._wrapped.of(handler_call_details.method, handler, lambda: _told)


Around = Callable[[grpc.aio.ServicerContext[Any, Any]], Any]


class Wrapped:
    """Handlers that are wrapped already, by their methods: gRPC asks for the same ones again with each call."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Any, grpc.RpcMethodHandler[Any, Any]]] = {}

    def of(self, method: str, handler: Any, around: Callable[[], Around]) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the method's handler wrapped in what ``around`` makes, made once as long as the handler is the same."""
        known = self._made.get(method)
        if known is None or known[0] is not handler:
            known = self._made[method] = handler, wrap(handler, around())
        return known[1]


def wrap(handler: Any, around: Around) -> grpc.RpcMethodHandler[Any, Any]:
    """Return the handler run inside the async context manager that ``around`` makes of each call's context."""

    def unary(method: Any) -> Any:
        async def guarded(request: Any, context: Any) -> Any:
            async with around(context):
                return await method(request, context)

        return guarded

    def streaming(method: Any) -> Any:
        async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
            # aclosing: when the client leaves, the handler's `finally` runs now, not when it is collected
            async with around(context), aclosing(method(request, context)) as messages:
                async for message in messages:
                    yield message

        # a servicer may also write its messages to the context, as grpc.health's does
        return unary(method) if iscoroutinefunction(method) else guarded

    makers: dict[tuple[bool, bool], tuple[Any, Any, Any]] = {
        (False, False): (grpc.unary_unary_rpc_method_handler, unary, handler.unary_unary),
        (False, True): (grpc.unary_stream_rpc_method_handler, streaming, handler.unary_stream),
        (True, False): (grpc.stream_unary_rpc_method_handler, unary, handler.stream_unary),
        (True, True): (grpc.stream_stream_rpc_method_handler, streaming, handler.stream_stream),
    }
    make, guard, method = makers[handler.request_streaming, handler.response_streaming]
    return make(guard(method), handler.request_deserializer, handler.response_serializer)


@asynccontextmanager
async def _told(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncGenerator[None]:
    try:
        yield
    except AosError as error:
        await context.abort_with_status(rpc_status.to_status(to_status(error)))
    except grpc.aio.AbortError:  # someone else's servicer, grpc.health say, already answered
        raise
    except grpc.aio.AioRpcError as error:
        # a service behind this one refused: its word is passed on, whole
        passed = from_rpc_error(error)
        if passed is None:
            log.exception("a call to another service failed")
            await context.abort(grpc.StatusCode.INTERNAL, "Internal error.")
        else:
            await context.abort_with_status(rpc_status.to_status(to_status(passed)))
    except Exception:
        log.exception("unexpected failure")
        await context.abort(grpc.StatusCode.INTERNAL, "Internal error.")


async def answered(call: Awaitable[T]) -> T:
    """Return what a call returns, or raise the AosError that the server raised. Other statuses stay AioRpcError."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) or error from None
