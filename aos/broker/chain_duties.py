"""What a network does for its operators on the chain after settlement: it claims what they earned, and answers disputes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final

from aos.broker.chain import ChainBatch, Evidence, Placed
from aos.broker.chain_store import ChainStore, DutyChain, DutyStore
from aos.errors import AosError, ChainRefused, ServiceUnavailable

AT_ONCE: Final = 32
"""How many claims, and how many disputes, one round looks at."""
AGAIN_SECONDS: Final = 60
"""When what could not be done now is looked at again, in the chain's clock."""
KEEP_SECONDS: Final = 7 * 86_400
"""How long what answers a dispute is kept once a batch's window is over: longer than any answer may take."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChainDuties:
    """Claims and answers, a round at a time. Whatever ends a round, the next one goes on from what is kept."""

    chain: DutyChain
    batches: ChainStore
    store: DutyStore

    async def round(self) -> None:
        """Answer the disputes that can be answered, then claim what can be claimed. Raises ServiceUnavailable."""
        now = await self.chain.time()
        for identity, line, leaf, attempts in await self.store.disputed(now, AT_ONCE):
            await self._attempt(self._answer(identity, line, leaf, attempts, now), f"dispute {identity}/{line}/{leaf}")
        for batch, attempts in await self.store.unclaimed(now, AT_ONCE):
            await self._attempt(self._claim(batch, attempts, now), f"claim of batch {batch.number}")
        await self.store.forget(now, now - KEEP_SECONDS)

    async def _attempt(self, work: Awaitable[None], what: str) -> None:
        """Do it as far as it can be done now; only an outage keeps the others from their turn."""
        try:
            await work
        except ServiceUnavailable:
            raise
        except AosError as error:
            log.warning("%s is not done yet: %s", what, error)

    async def _claim(self, batch: ChainBatch, attempts: int, now: int) -> None:
        found = await self.chain.claims(batch)
        if found.done:
            await self.store.claimed(batch.number, forget_at=batch.closes_at + KEEP_SECONDS)
            return
        try:
            if found.amount:
                await self.chain.claim(batch, attempts)
                attempts += 1  # if a reorganisation undoes it, another transaction follows
        except ChainRefused as error:
            log.warning("claim of batch %d: %s", batch.number, error)
        await self.store.claim_again(batch.number, at=now + AGAIN_SECONDS, attempts=attempts)

    async def _answer(self, identity: str, line: int, leaf: int, attempts: int, now: int) -> None:
        where = (identity, line, leaf)
        until = await self.chain.answer_by(*where)
        evidence = await self.store.evidence(*where)
        placed = await self.batches.placed(evidence.digest) if evidence else None
        if until is None:  # answered, but not deep enough yet, or undone
            await self.store.answer_again(*where, at=now + AGAIN_SECONDS, attempts=attempts)
        elif evidence is None or placed is None or now > until:
            reason = "nothing is kept that answers it" if evidence is None or placed is None else "the time to answer is over"
            log.error("dispute %s/%d/%d is lost: %s", *where, reason)
            await self.store.given_up(*where)
        else:
            attempts = await self._send(placed, evidence, attempts)
            await self.store.answer_again(*where, at=now + AGAIN_SECONDS, attempts=attempts)

    async def _send(self, placed: Placed, evidence: Evidence, attempts: int) -> int:
        try:
            await self.chain.answer(placed, evidence, attempts)
        except ChainRefused as error:
            log.warning("the answer for receipt %s: %s", evidence.digest, error)
            return attempts
        return attempts + 1
