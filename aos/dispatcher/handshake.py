"""Who opens an operator's stream: the challenge, its answer, and what the registry knows of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Final

from aos.clock import Clock
from aos.dispatcher.peers import ask
from aos.dispatcher.settings import DispatcherSettings
from aos.errors import InvalidField, LeaseExpired, PermissionDenied
from aos.v1 import registry_pb2_grpc
from aos.v1.dispatcher_pb2 import Hello
from aos.v1.registry_pb2 import GetOperatorRequest, Offer, OperatorInfo
from aos.verification.keys import attach_statement, signer

NONCE_BYTES: Final = 32
_ADDRESS: Final = re.compile(r"0x[0-9A-Fa-f]{40}")


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
    """Return the offers. Raises InvalidField unless each was registered as it is."""
    registered = {offer.model: _facts(offer) for offer in known.offers}
    if not offers:
        raise InvalidField("hello.offers", "must have at least one offer")
    for index, offer in enumerate(offers):
        if registered.get(offer.model) != _facts(offer):
            raise InvalidField(f"hello.offers[{index}]", "is not what is registered; register it first", value=offer.model)
    return offers


def _facts(offer: Offer) -> tuple[object, ...]:
    price = offer.price
    can = (offer.chat, offer.exact, offer.embeddings)
    return (offer.digest.lower(), offer.context_length, can, offer.slots, price.prompt_token, price.completion_token)
