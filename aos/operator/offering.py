"""Changing what an operator offers while it runs: what is new is registered first, what is gone the dispatcher hears of first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aos.operator.attach import Attachment
from aos.operator.registration import Registration
from aos.v1.registry_pb2 import Offer


@dataclass(frozen=True, slots=True)
class Offers:
    """What an operator offers beside its own models."""

    registered: Sequence[Offer] = field(default=())
    """What the registry is told."""
    usable: Sequence[Offer] = field(default=())
    """What dispatchers are told: of that, what may be used now, and how many places it has."""


class Offering:
    """What the operator offers: always its own models, and now and then others."""

    def __init__(self, own: Sequence[Offer], registration: Registration, attachment: Attachment) -> None:
        self._own, self._registered = list(own), list(own)
        self._registration, self._attachment = registration, attachment

    async def change(self, others: Offers) -> None:
        """Offer the operator's own and these; return once registry and dispatcher know. May be cancelled for a later change."""
        known = {offer.model for offer in self._registered}
        usable = [*self._own, *others.usable]
        # nobody is to be sent to what is gone a moment longer, whether the registry answers or not
        await self._attachment.change([offer for offer in usable if offer.model in known])
        wanted = [*self._own, *others.registered]
        if not wanted:  # the registry takes no empty list: the lease ends by itself, or what is offered next takes its place
            return
        await self._registration.change(wanted)
        if wanted != self._registered:
            self._registered = wanted
            await self._attachment.change(usable)
