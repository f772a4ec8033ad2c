"""What an operator may offer: the limits, and a checked offer as data. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aos.errors import BadProof, InvalidField
from aos.order import MODEL_NAME
from aos.v1 import registry_pb2
from aos.v1.types_pb2 import Price
from aos.verification.vrf import KEY_BYTES, check_key

OFFERS: Final = 64
"""Most offers of one operator."""
DIGEST_DIGITS: Final = 64
CONTEXT: Final = 1 << 24
"""Longest context, in tokens."""
SLOTS: Final = 4096
REPLICAS: Final = 256
"""Most replicas behind one offer."""
PRICE_DIGITS: Final = 30
"""Most digits of a price per token, in neurons."""

_NAME: Final = re.compile(rf"[A-Za-z0-9._:/-]{{1,{MODEL_NAME}}}")
_DIGEST: Final = re.compile(rf"[0-9A-Fa-f]{{{DIGEST_DIGITS}}}")
_REPLICA: Final = re.compile(r"[0-9a-f]{32}")
_PRICE: Final = re.compile(rf"[0-9]{{1,{PRICE_DIGITS}}}")


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that an operator runs, checked. Prices are in neurons a token; the digest is lower-case hex."""

    model: str
    digest: str
    context_length: int
    chat: bool
    prompt_price: int
    completion_price: int
    slots: int
    exact: bool = False
    embeddings: bool = False
    images: bool = False
    image_edits: bool = False
    controllers: bool = False
    replicas: tuple[str, ...] = ()
    """Ids of the registered model servers that run it; none: the operator does itself."""


def check_offers(offers: Sequence[registry_pb2.Offer], at: str = "offers") -> tuple[Offer, ...]:
    """Return the offers as data. Raises InvalidField for the first field that cannot be accepted."""
    if not 1 <= len(offers) <= OFFERS:
        raise InvalidField(at, f"must have 1 to {OFFERS} offers", value=len(offers), limit=OFFERS)
    checked: dict[str, Offer] = {}
    for index, offer in enumerate(offers):
        good = _check(offer, f"{at}[{index}]")
        if good.model in checked:
            raise InvalidField(f"{at}[{index}].model", "must not be offered twice", value=good.model, limit="different models")
        checked[good.model] = good
    return tuple(checked.values())


def _check(offer: registry_pb2.Offer, at: str) -> Offer:
    if not _NAME.fullmatch(offer.model):
        allowed = f"1 to {MODEL_NAME} letters, digits and ._:/-"
        raise InvalidField(f"{at}.model", f"must have {allowed}", value=offer.model, limit=allowed)
    if not _DIGEST.fullmatch(offer.digest):
        raise InvalidField(f"{at}.digest", f"must have {DIGEST_DIGITS} hex digits", value=offer.digest, limit=DIGEST_DIGITS)
    if not 1 <= offer.context_length <= CONTEXT:
        raise InvalidField(f"{at}.context_length", f"must be from 1 to {CONTEXT}", value=offer.context_length, limit=CONTEXT)
    if not 1 <= offer.slots <= SLOTS:
        raise InvalidField(f"{at}.slots", f"must be from 1 to {SLOTS}", value=offer.slots, limit=SLOTS)
    if len(offer.replicas) > REPLICAS or not all(_REPLICA.fullmatch(one) for one in offer.replicas):
        allowed = f"at most {REPLICAS} ids of 32 hex digits"
        raise InvalidField(f"{at}.replicas", f"must have {allowed}", value=", ".join(offer.replicas[:2]), limit=REPLICAS)
    return Offer(
        model=offer.model,
        digest=offer.digest.lower(),
        context_length=offer.context_length,
        chat=offer.chat,
        prompt_price=_price(offer.price.prompt_token, f"{at}.price.prompt_token"),
        completion_price=_price(offer.price.completion_token, f"{at}.price.completion_token"),
        slots=offer.slots,
        exact=offer.exact,
        embeddings=offer.embeddings,
        images=offer.images,
        image_edits=offer.image_edits,
        controllers=offer.controllers,
        replicas=tuple(offer.replicas),
    )


def _price(digits: str, at: str) -> int:
    if not _PRICE.fullmatch(digits):
        raise InvalidField(at, f"must be an integer of 1 to {PRICE_DIGITS} decimal digits", value=digits, limit=PRICE_DIGITS)
    return int(digits)


def check_vrf_key(key: bytes, at: str = "vrf_key") -> bytes:
    """Return the key, which may be empty. Raises InvalidField for one that no output can be trusted from."""
    if key:
        try:
            check_key(key)
        except BadProof as error:
            raise InvalidField(at, f"is no VRF key: {error.message}", value=key.hex(), limit=KEY_BYTES) from error
    return key


def offer_proto(offer: Offer) -> registry_pb2.Offer:
    """Return the offer as it is sent."""
    return registry_pb2.Offer(
        model=offer.model,
        digest=offer.digest,
        context_length=offer.context_length,
        chat=offer.chat,
        price=Price(prompt_token=str(offer.prompt_price), completion_token=str(offer.completion_price)),
        slots=offer.slots,
        exact=offer.exact,
        embeddings=offer.embeddings,
        images=offer.images,
        image_edits=offer.image_edits,
        controllers=offer.controllers,
        replicas=offer.replicas,
    )
