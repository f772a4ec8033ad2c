"""What the network offers: models over the operators that run them, and why one of either cannot be used. Pure.

A model's name stands for one set of weights. Those that were offered first decide, until no operator claims them any more: an
operator that leaves gives its claim up at once, one that lapses after a while, so that a short loss hands no name to a stranger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from aos.registry.leases import Lease, Offered, Registration
from aos.registry.replicas import State, Word
from aos.v1.attestation_pb2 import Attested
from aos.verification.attestation.policy import Policy
from aos.verification.attestation.wire import NAMES

SHOWN_OPERATORS: Final = 3
"""Most operators that a model's reason speaks of."""
SHOWN_REPLICAS: Final = 3
"""Most model servers that an operator's reason speaks of."""
SHOWN_API: Final = 100
"""Most characters of a model server's URL in a reason."""
SHOWN_WHY: Final = 200
"""Most characters of what is wrong with it."""
SHOWN_DIGITS: Final = 12
"""Digits of a digest in a reason."""
OPML: Final = "opml"
"""The kind of job that every operator takes: whatever it offers it runs itself, and signs for."""
TEE: Final = "tee"
"""The kind that those with an attested key take, too."""
NO_POLICY: Final = Policy()
"""That takes no evidence."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One offer of one operator."""

    lease: Lease
    offered: Offered
    attested: Attested | None = None
    """Of the operator."""
    blocked: str = ""
    """Why it is not used although its operator is there; empty if it is. See ``behind``."""

    def live(self, now: datetime) -> bool:
        """Say whether jobs may be sent there."""
        return not self.blocked and self.lease.live(now)

    def why_not(self, now: datetime) -> str:
        """Say in words why not; empty if they may."""
        return self.lease.why_not(now) or self.blocked


@dataclass(frozen=True, slots=True)
class Model:
    """A model over all its operators. Prices are in neurons a token, the dearest that may be met."""

    name: str
    digest: str
    context_length: int
    chat: bool
    exact: bool
    """Whether one of them can be exact: jobs that are to be go to such."""
    embeddings: bool
    """Whether one of them turns texts into vectors: jobs that ask for them go to such."""
    images: bool
    """Whether one of them makes pictures."""
    image_edits: bool
    """Whether one of them changes pictures."""
    controllers: bool
    """Whether one of them runs controllers: jobs that have one go to such."""
    prompt_price: int
    completion_price: int
    operators: tuple[str, ...]
    """Those that can be used now, in the order of their addresses."""
    reason: str
    """Why there is none; empty if there is."""
    created: datetime
    job_types: tuple[str, ...] = ()
    """The kinds of jobs that those that can be used take."""


def attested(said: Attested | None, policy: Policy) -> bool:
    """Say whether evidence that was taken for this makes an operator take `tee` jobs."""
    return said is not None and policy.trusts(NAMES[said.provider], said.image)


def claimant(listings: Iterable[Listing], *, now: datetime, claim: timedelta) -> Listing | None:
    """Return the offer that decides which weights the model's name stands for; None: nobody claims it."""
    claims = [one for one in listings if one.lease.claims(now, claim)]
    return min(claims, key=lambda one: (one.offered.since, one.lease.operator), default=None)


def model(name: str, listings: Sequence[Listing], *, now: datetime, claim: timedelta, policy: Policy = NO_POLICY) -> Model:
    """Return the model that these offers of it, at least one, amount to. ``policy`` is what evidence has to satisfy."""
    first = claimant(listings, now=now, claim=claim) or max(listings, key=lambda one: (one.lease.ends, one.lease.operator))
    digest = first.offered.offer.digest
    same = [one for one in listings if one.offered.offer.digest == digest]
    usable = sorted((one for one in same if one.live(now)), key=lambda one: one.lease.operator)
    # of a model that cannot be used, what it last was
    offers = [one.offered.offer for one in usable or same]
    return Model(
        name=name,
        digest=digest,
        context_length=max(offer.context_length for offer in offers),
        chat=any(offer.chat for offer in offers),
        exact=any(offer.exact for offer in offers),
        embeddings=any(offer.embeddings for offer in offers),
        images=any(offer.images for offer in offers),
        image_edits=any(offer.image_edits for offer in offers),
        controllers=any(offer.controllers for offer in offers),
        prompt_price=max(offer.prompt_price for offer in offers),
        completion_price=max(offer.completion_price for offer in offers),
        operators=tuple(one.lease.operator for one in usable),
        reason="" if usable else _reasons(listings, first, now),
        created=min(one.offered.since for one in listings),
        job_types=_job_types(usable, policy),
    )


def _job_types(usable: Sequence[Listing], policy: Policy) -> tuple[str, ...]:
    if not usable:
        return ()
    return (OPML, TEE) if any(attested(one.attested, policy) for one in usable) else (OPML,)


def why_not(registration: Registration, claimants: Mapping[str, Listing], *, now: datetime, states: Mapping[str, Word]) -> str:
    """Say why no job may be sent to the operator; empty if one may.

    ``claimants`` are those of the models that it offers, ``states`` the words of the replicas behind them. An operator is used for
    those of its models that it may run.
    """
    lapsed = registration.lease.why_not(now)
    if lapsed:
        return lapsed
    operator = registration.lease.operator
    conflicts = [_blocked(operator, one, states) or _conflict(one, claimants.get(one.offer.model)) for one in registration.offers]
    return "" if not all(conflicts) else "; ".join(conflicts[:SHOWN_OPERATORS])


def behind(listing: Listing, states: Mapping[str, Word]) -> Listing | None:
    """Return the listing with the word of the registered replicas behind it; None: none of them is registered any more.

    ``states`` are the words of the replicas. What an operator runs itself has none.
    """
    offer = listing.offered.offer
    if not offer.replicas:
        return listing
    if not _registered(listing.lease.operator, listing.offered, states):
        return None
    return replace(listing, blocked=_blocked(listing.lease.operator, listing.offered, states))


def _registered(operator: str, offered: Offered, states: Mapping[str, Word]) -> list[Word]:
    mine = (states[one] for one in offered.offer.replicas if one in states and states[one].operator in {operator, ""})
    return [one for one in mine if one.state not in {State.DRAINING, State.GONE}]


def _blocked(operator: str, offered: Offered, states: Mapping[str, Word]) -> str:
    if not offered.offer.replicas:
        return ""
    there = _registered(operator, offered, states)
    if any(one.state in {State.REGISTERED, State.HEALTHY} for one in there):
        return ""
    how = ", ".join(sorted({one.state.lower() for one in there})) or "unregistered"
    said = [f"{one.api[:SHOWN_API]}: {one.why_not[:SHOWN_WHY]}" for one in sorted(there, key=lambda one: (one.api, one.why_not))]
    more = [f"{len(said) - SHOWN_REPLICAS} more"] if len(said) > SHOWN_REPLICAS else []
    named = f" ({'; '.join([*said[:SHOWN_REPLICAS], *more])})" if said else ""
    return f"offers {offered.offer.model!r} by model servers that are {how}{named}"


def _conflict(offered: Offered, claim: Listing | None) -> str:
    mine = offered.offer
    if claim is None or claim.offered.offer.digest == mine.digest:
        return ""
    theirs = claim.offered.offer.digest
    return (
        f"offers {mine.model!r} with weights {mine.digest[:SHOWN_DIGITS]}, "
        f"but {claim.lease.operator} offered it first with weights {theirs[:SHOWN_DIGITS]}"
    )


def _reasons(listings: Sequence[Listing], first: Listing, now: datetime) -> str:
    newest = sorted(listings, key=lambda one: (one.lease.ends, one.lease.operator), reverse=True)
    reasons = [f"{one.lease.operator} {one.why_not(now) or _conflict(one.offered, first)}" for one in newest]
    more = len(reasons) - SHOWN_OPERATORS
    return "; ".join(reasons[:SHOWN_OPERATORS]) + (f"; and {more} more" if more > 0 else "")
