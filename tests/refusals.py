"""What a test says of a call that is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from contextlib import contextmanager

import grpc
import pytest

from aos.errors import AosError
from aos.rpc.status import from_rpc_error


@contextmanager
def refused(reason: str, *, code: str = "", saying: str = "", **facts: str) -> Generator[None]:
    """Pass if the block's call is refused for this reason, with at least these facts."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    error = from_rpc_error(caught.value)
    assert isinstance(error, AosError), caught.value
    assert error.reason == reason, error.message
    assert {name: error.facts.get(name) for name in facts} == facts
    assert saying in error.message
    if code:
        assert caught.value.code().name == code


async def reason_of(call: Awaitable[object]) -> str:
    """Return for which reason a call is refused; empty if it is not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        known = from_rpc_error(error)
        return known.reason if known else error.code().name
    return ""
