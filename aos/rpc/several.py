"""A channel to several servers that are each as good: calls go to one of them, and to the next once that one is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final, Self

import grpc

from aos.rpc.channel import channel

AWAY: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
"""What a call ends with whose server is gone, or too slow to be of use."""

log = logging.getLogger(__name__)


class SeveralChannels(grpc.aio.Channel):
    """Goes on to the next server when a call with one answer finds its server away; for streams, when it is told to.

    Only calls that begin later go there. Nothing is sent twice: who called knows whether to call again.
    """

    def __init__(self, channels: Sequence[grpc.aio.Channel], names: Sequence[str]) -> None:
        """``names`` are for the log. There is one at least."""
        self._channels, self._names = channels, names
        self._at = 0
        self._looking = set[asyncio.Task[None]]()

    @property
    def at(self) -> int:
        """Which server calls go to now; to be noted before a call, for ``leave``."""
        return self._at

    def leave(self, at: int) -> None:
        """Go on to the next, unless calls go to another than this one already."""
        if at == self._at and len(self._channels) > 1:
            self._at = (at + 1) % len(self._channels)
            log.warning("leaving %s for %s", self._names[at], self._names[self._at])

    def unary_unary(self, *args: Any, **options: Any) -> Any:
        """Return what makes calls of the method."""
        return self._watched([one.unary_unary(*args, **options) for one in self._channels])

    def stream_unary(self, *args: Any, **options: Any) -> Any:
        """Return what makes calls of the method."""
        return self._watched([one.stream_unary(*args, **options) for one in self._channels])

    def unary_stream(self, *args: Any, **options: Any) -> Any:
        """Return what makes calls of the method."""
        return self._watched([one.unary_stream(*args, **options) for one in self._channels])

    def stream_stream(self, *args: Any, **options: Any) -> Any:
        """Return what makes calls of the method."""
        return self._watched([one.stream_stream(*args, **options) for one in self._channels])

    def _watched(self, calls: Sequence[Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            at = self._at
            made = calls[at](*args, **options)
            made.add_done_callback(partial(self._look, at))
            return made

        return call

    def _look(self, at: int, call: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._ended(call, at))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def _ended(self, call: Any, at: int) -> None:
        if await call.code() in AWAY:
            self.leave(at)

    async def __aenter__(self) -> Self:
        """Return itself: each channel is opened and closed by who made it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Do nothing."""

    async def close(self, grace: float | None = None) -> None:
        """Do nothing."""

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002  # grpc's signature
        """Return the state of the channel that calls go to now."""
        return self._channels[self._at].get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return once the channel that calls go to now is in another state."""
        await self._channels[self._at].wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Return once the channel that calls go to now is ready."""
        await self._channels[self._at].channel_ready()


@asynccontextmanager
async def several_channels(addresses: Sequence[str], token: str = "") -> AsyncGenerator[SeveralChannels]:
    """Give a channel to servers at ``host:port`` or ``unix:path``, and close it with the block. Raises ValueError for none."""
    if not addresses:
        raise ValueError("there is no address to connect to")
    async with AsyncExitStack() as stack:
        yield SeveralChannels([await stack.enter_async_context(channel(one, token)) for one in addresses], addresses)
