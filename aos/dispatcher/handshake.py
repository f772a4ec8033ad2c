"""Who opens an operator's stream: the challenge, its answer, and what the registry knows of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Final

from aos.clock import Clock, within
from aos.dispatcher.peers import ask
from aos.dispatcher.settings import DispatcherSettings
from aos.errors import InvalidField, LeaseExpired, PermissionDenied, Unauthenticated
from aos.v1 import registry_pb2_grpc
from aos.v1.dispatcher_pb2 import Hello, OperatorMessage
from aos.v1.registry_pb2 import GetOperatorRequest, Offer, OperatorInfo
from aos.verification.keys import attach_statement, signer

NONCE_BYTES: Final = 32
_ADDRESS: Final = re.compile(r"0x[0-9A-Fa-f]{40}")


async def answer(stream: AsyncIterator[OperatorMessage], clock: Clock, seconds: float) -> Hello:
    """Return the hello that the stream begins with, within so many seconds. Raises Unauthenticated or InvalidField."""
    try:
        first = await within(clock, seconds, anext(stream))
    except (TimeoutError, StopAsyncIteration) as error:
        raise Unauthenticated("Answer the challenge with a hello.") from error
    if not first.HasField("hello"):
        raise InvalidField("message", "the first must be a hello", value=first.WhichOneof("message"), limit="hello")
    return first.hello


async def greet(
    hello: Hello, nonce: bytes, *, registry: registry_pb2_grpc.RegistryAsyncStub, settings: DispatcherSettings, clock: Clock
) -> tuple[str, OperatorInfo]:
    """Return the operator's address, lower-case, and what the registry knows of it; ``hello.offers`` are good.

    Raises InvalidField, BadSignature, OperatorNotFound, LeaseExpired, PermissionDenied or ServiceUnavailable.
    """
    if not _ADDRESS.fullmatch(hello.operator):
        raise InvalidField("hello.operator", "must be 0x and 40 hex digits", value=hello.operator, limit="0x + 40 hex digits")
    said = attach_statement(nonce, settings.identity, hello.operator)
    # in a thread: recovering a key takes milliseconds
    operator = (await asyncio.to_thread(signer, said, hello.signature, hello.operator)).lower()
    asked = registry.GetOperator(GetOperatorRequest(name=f"operators/{operator}"), timeout=settings.rpc_seconds)
    known = await ask("registry", asked)
    if not known.routable:
        if known.expires.ToNanoseconds() <= clock.now().timestamp() * 1e9:
            raise LeaseExpired(operator)
        raise PermissionDenied(f"a registration that can be used, and this one cannot: {known.reason}")
    check_offers(hello.offers, known)
    return operator, known


def check_offers(offers: Sequence[Offer], known: OperatorInfo) -> Sequence[Offer]:
    """Return the offers. Raises InvalidField unless each was registered as it is, with as many places or more."""
    registered = {offer.model: offer for offer in known.offers}
    if not offers:
        raise InvalidField("hello.offers", "must have at least one offer")
    for index, offer in enumerate(offers):
        if not _same(offer, registered.get(offer.model)):
            raise InvalidField(f"hello.offers[{index}]", "is not what is registered; register it first", value=offer.model)
    return offers


async def reread(
    operator: str, offers: Sequence[Offer], *, registry: registry_pb2_grpc.RegistryAsyncStub, settings: DispatcherSettings
) -> list[Offer]:
    """Return those of the offers that are registered as they are. Raises ServiceUnavailable, or what the registry says of it."""
    asked = registry.GetOperator(GetOperatorRequest(name=f"operators/{operator}"), timeout=settings.rpc_seconds)
    known = await ask("registry", asked)
    registered = {offer.model: offer for offer in known.offers}
    return [offer for offer in offers if _same(offer, registered.get(offer.model))]


def _same(offer: Offer, registered: Offer | None) -> bool:
    """Say whether the offer was registered as it is, but that it may have fewer places now."""
    return registered is not None and _facts(offer) == _facts(registered) and 1 <= offer.slots <= registered.slots


def _facts(offer: Offer) -> tuple[object, ...]:
    price = offer.price
    can = (offer.chat, offer.exact, offer.embeddings, offer.controllers)
    return (offer.digest.lower(), offer.context_length, can, price.prompt_token, price.completion_token)
