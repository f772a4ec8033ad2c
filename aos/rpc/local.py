"""A channel to services of this very process: stubs, statuses, tokens and deadlines as over a socket, without the socket.

What one side hands over the other gets as it is, not a copy: a message that was sent or received must not be changed. A call runs
as a task of its own, in a context of its own, and ends when its caller leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Final, NoReturn, Self

import grpc

from aos.rpc.auth import Authenticator, AuthInterceptor
from aos.rpc.server import Service
from aos.rpc.status import ErrorInterceptor

UNREAD: Final = 16
"""Most messages of a stream that wait for its reader; then the service waits."""

Handler = Any
"""A grpc.RpcMethodHandler; at run time that has no parameters."""


class LocalChannel(grpc.aio.Channel):
    """Calls servicers directly. Calls with a stream in both directions are not among what it can do."""

    def __init__(self, *services: Service, authenticate: Authenticator) -> None:
        self._methods: dict[str, Handler] = {}
        for service in services:
            service.add(service.servicer, self)  # pyright: ignore[reportArgumentType]  # all of a server that it asks for
        self._interceptors = (ErrorInterceptor(), AuthInterceptor(authenticate))
        self._guarded: dict[str, Handler] = {}

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Pass over what ``add_registered_method_handlers`` brings, too."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        """Take a service's methods; called by the generated code."""
        self._methods |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    def unary_unary(self, method: str, *_: Any, **__: Any) -> Any:
        """Return what makes calls of the method."""

        def call(request: Any, *, timeout: float | None = None, metadata: Any = None, **_: Any) -> asyncio.Task[Any]:
            context = _Context(tuple(metadata or ()))

            async def answer() -> Any:
                handler: Any = await self._handler(method)
                return await handler.unary_unary(request, context)

            return asyncio.create_task(_within(timeout, answer))

        return call

    def unary_stream(self, method: str, *_: Any, **__: Any) -> Any:
        """Return what makes calls of the method."""

        def call(request: Any, *, timeout: float | None = None, metadata: Any = None, **_: Any) -> _Stream:
            context = _Context(tuple(metadata or ()))

            async def messages() -> AsyncGenerator[Any]:
                handler: Any = await self._handler(method)
                async with aclosing(handler.unary_stream(request, context)) as answers:
                    async for answer in answers:
                        yield answer

            return _Stream(messages(), timeout)

        return call

    def stream_unary(self, method: str, *_: Any, **__: Any) -> Any:
        """Return what makes calls of the method; what the iterator raises, the service sees."""

        def call(requests: Any, *, timeout: float | None = None, metadata: Any = None, **_: Any) -> asyncio.Task[Any]:
            context = _Context(tuple(metadata or ()))

            async def answer() -> Any:
                handler: Any = await self._handler(method)
                return await handler.stream_unary(requests, context)

            return asyncio.create_task(_within(timeout, answer))

        return call

    def stream_stream(self, *_: Any, **__: Any) -> Any:
        """Return what refuses to be called."""
        return _no_streams

    async def _handler(self, method: str) -> Handler:
        if method not in self._methods:
            raise _failed(grpc.StatusCode.UNIMPLEMENTED, f"there is no method {method} here")
        if method not in self._guarded:
            handler = self._methods[method]
            details: Any = _Details(method)
            # the last one is the innermost, as in a server
            for interceptor in reversed(self._interceptors):
                handler = await interceptor.intercept_service(_giving(handler), details) or handler
            self._guarded[method] = handler
        return self._guarded[method]

    async def __aenter__(self) -> Self:
        """Return itself: there is nothing to open."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Do nothing: its calls end with their callers."""

    async def close(self, grace: float | None = None) -> None:
        """Do nothing: its calls end with their callers."""

    def get_state(self, *_: Any, **__: Any) -> grpc.ChannelConnectivity:
        """Return READY."""
        return grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return once the state is another: never, if it was READY."""
        if last_observed_state is grpc.ChannelConnectivity.READY:
            await asyncio.get_running_loop().create_future()

    async def channel_ready(self) -> None:
        """Return: it is always ready."""


class _Details:
    """What interceptors learn of a call before it is served."""

    invocation_metadata = ()

    def __init__(self, method: str) -> None:
        self.method = method


class _Context:
    """What a servicer may ask of the call that it serves."""

    def __init__(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    async def send_initial_metadata(self, metadata: Any) -> None:
        del metadata  # nobody reads what a service of ours sends before its answer

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        raise _failed(code, details, trailing_metadata)

    async def abort_with_status(self, status: Any) -> NoReturn:
        raise _failed(status.code, status.details, status.trailing_metadata)


class _Stream:
    """A running call that answers with a stream: iterate over it, or ``read`` it. Ends when nobody holds it any more."""

    def __init__(self, messages: AsyncGenerator[Any], timeout: float | None) -> None:
        self._news: asyncio.Queue[Any] = asyncio.Queue()
        self._room = asyncio.Semaphore(UNREAD)
        self._end: BaseException | None = None
        self._task = asyncio.create_task(_pump(messages, self._news, self._room, timeout))

    def __del__(self) -> None:
        """End the call."""
        self.cancel()

    def cancel(self) -> bool:
        """End the call; False if it has ended."""
        return not self._task.get_loop().is_closed() and self._task.cancel()

    def __aiter__(self) -> AsyncIterator[Any]:
        """Return itself."""
        return self

    async def __anext__(self) -> Any:
        """Return the next message. Raises AioRpcError if the call failed."""
        if self._end is None:
            message = await self._news.get()
            if not isinstance(message, BaseException):
                self._room.release()
                return message
            self._end = message
        raise self._end

    async def read(self) -> Any:
        """Return the next message; grpc.aio.EOF at the end."""
        try:
            return await anext(self)
        except StopAsyncIteration:
            return grpc.aio.EOF


async def _pump(messages: AsyncGenerator[Any], news: asyncio.Queue[Any], room: asyncio.Semaphore, seconds: float | None) -> None:
    async def every() -> None:
        async with aclosing(messages):
            async for message in messages:
                await room.acquire()
                news.put_nowait(message)

    end: BaseException = StopAsyncIteration()
    try:
        await _within(seconds, every)
    except grpc.aio.AioRpcError as error:
        end = error
    except asyncio.CancelledError as error:
        end = error
        raise
    finally:
        news.put_nowait(end)


async def _within(seconds: float | None, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    if seconds is None:
        return await work()
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            return await work()
    except TimeoutError:
        if not deadline.expired():
            raise
        raise _failed(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None


def _giving(handler: Handler) -> Callable[[Any], Coroutine[Any, Any, Handler]]:
    async def give(_: Any) -> Handler:
        return handler

    return give


def _failed(code: grpc.StatusCode, details: str, trailing: Any = ()) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*(trailing or ())), details)


def _no_streams(*_: Any, **__: Any) -> NoReturn:
    raise NotImplementedError("a local channel has no streams in both directions")
