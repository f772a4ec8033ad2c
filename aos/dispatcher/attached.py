"""The operators that are attached to the other dispatchers of the database, as far as this one has heard."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import datetime

from aos.dispatcher.checks import in_force
from aos.dispatcher.jobs import Job
from aos.dispatcher.node_store import NodeStore
from aos.dispatcher.placement import Candidate
from aos.dispatcher.presence import There
from aos.dispatcher.sessions import Session
from aos.rpc.auth import hash_token
from aos.v1.registry_pb2 import Offer


class Elsewhere:
    """Knows them by what the database says. Tells the database, in turn, who is attached here."""

    def __init__(self, store: NodeStore, node: str) -> None:
        self._store, self._node = store, node
        self._known: dict[str, There] = {}
        self._told: dict[str, There] = {}
        """What the database was told last of those that are attached here."""

    async def attach(self, session: Session) -> None:
        """Keep that the operator is attached here, and nowhere else any more. Raises ServiceUnavailable."""
        there = self._of(session)
        session.version = await self._store.attach(there)
        self._known.pop(session.operator, None)

    async def detach(self, session: Session) -> None:
        """Keep that the operator's stream ended. Raises ServiceUnavailable."""
        self._told.pop(session.operator, None)
        if session.version:
            await self._store.detach(session.operator, session.version)

    async def describe(self, sessions: Sequence[Session]) -> None:
        """Keep what the attached operators offer now, where that is new. Raises ServiceUnavailable."""
        for session in sessions:
            there = self._of(session)
            if session.version and not session.ended and self._told.get(session.operator) != there:
                await self._store.describe(there)
                self._told[session.operator] = there

    def _of(self, session: Session) -> There:
        return There(
            operator=session.operator,
            node=self._node,
            version=session.version,
            token_hash=hash_token(session.token),
            offers=() if session.leaving else tuple(session.offers.values()),
            tee=session.tee,
            vrf_key_since=session.vrf_key_since,
            broken=frozenset(model for model in session.offers if not session.works(model)),
        )

    async def look(self) -> None:
        """Read all anew. Raises ServiceUnavailable."""
        self._known = {one.operator: one for one in await self._store.attachments() if one.node != self._node}

    async def look_at(self, operator: str) -> There | None:
        """Read one anew, and return it, wherever it is. Raises ServiceUnavailable."""
        found = await self._store.attachment(operator)
        if found is None or found.node == self._node:
            self._known.pop(operator, None)
        else:
            self._known[operator] = found
        return found

    def candidates(self) -> list[Candidate]:
        """Return their offers as placement looks at them, as if all were free."""
        return [
            Candidate(
                operator=there.operator,
                model=offer.model,
                model_digest=offer.digest.lower(),
                price=offer.price,
                slots=offer.slots,
                running=0,
                embeddings=offer.embeddings,
                tee=there.tee,
                controllers=offer.controllers,
                exact=offer.exact,
            )
            for there in self._known.values()
            for offer in there.offers
            if offer.model not in there.broken
        ]

    def can_check(self, job: Job, epoch: int, *, seconds: float, exact: bool) -> bool:
        """Say whether one of them, besides the operator that has or had the job, could check it; epochs have ``seconds``."""
        return any(
            there.operator != job.operator
            and offer.model not in there.broken
            and suits(offer, job, there.vrf_key_since, epoch, seconds=seconds, exact=exact)
            for there in self._known.values()
            for offer in there.offers
            if offer.model == job.model
        )

    async def holds(self, token: str) -> bool:
        """Say whether an operator holds the token while its stream with another dispatcher stands."""
        operator = token.partition(".")[0]
        hashed = hash_token(token)
        known = self._known.get(operator)
        if known is None or not hmac.compare_digest(known.token_hash, hashed):
            known = await self.look_at(operator)
        return known is not None and known.node != self._node and hmac.compare_digest(known.token_hash, hashed)


def suits(offer: Offer, job: Job, vrf_key_since: datetime | None, epoch: int, *, seconds: float, exact: bool) -> bool:
    """Say whether an operator with the offer, and a VRF key since then, could check the job, exactly or not."""
    return (
        offer.digest.lower() == job.model_digest
        and (offer.embeddings or not job.embeds)
        and (offer.controllers or not job.controlled)
        and (offer.exact or not exact)
        and in_force(vrf_key_since, epoch, seconds)
    )
