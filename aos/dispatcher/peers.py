"""Asking the registry and the broker: what they refuse is passed on, that they do not answer is said in one way."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import TypeVar

import grpc

from aos.errors import AosError, ServiceUnavailable
from aos.rpc.status import from_rpc_error

log = logging.getLogger(__name__)

T = TypeVar("T")


async def ask(service: str, call: Awaitable[T]) -> T:
    """Return the answer. Raises the AosError that the service raised, or ServiceUnavailable if nobody knows what happened."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        refusal = from_rpc_error(error)
        if refusal is None or isinstance(refusal, ServiceUnavailable):
            log.warning("the %s does not answer: %s %s", service, error.code(), error.details())
            raise ServiceUnavailable(service) from error
        raise refusal from error


def refused(error: AosError) -> bool:
    """Say whether the service decided, so that asking again gives the same answer."""
    return not isinstance(error, ServiceUnavailable)
