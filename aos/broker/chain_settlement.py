"""The settlement service: sends batches of receipts to a chain, and asks the chain what became of them."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Final

from aos.broker import chain as rules
from aos.broker.accounts import Movement
from aos.broker.chain import ChainBatch, ChainSettings, Cursor, Funds, Progress
from aos.broker.chain_store import ChainStore, SettlementChain
from aos.broker.store import BrokerStore
from aos.errors import AosError, ChainRefused, ServiceUnavailable, TransactionPending

RECHECKED: Final = 32
"""How many of the latest settled batches are looked up again in each round: a reorganisation may have undone them."""
OPEN: Final = 64
"""How many unfinished batches are gone on with in one round."""
NONCE_BITS: Final = 128
"""Random, so that two networks with one operator never have the same."""

log = logging.getLogger(__name__)


class ChainSettlement:
    """Settles receipts on a chain, a round at a time. Whatever ends a round, the next one goes on from what is kept."""

    def __init__(
        self,
        chain: SettlementChain,
        store: ChainStore,
        money: BrokerStore,
        *,
        settings: ChainSettings,
        movement: Callable[[], Movement],
        new_nonce: Callable[[], int] = lambda: secrets.randbits(NONCE_BITS),
    ) -> None:
        self._chain, self._store, self._money, self.settings = chain, store, money, settings
        self._movement, self._new_nonce = movement, new_nonce

    async def round(self) -> None:
        """Look at what was settled, finish what was begun, and settle what is new. Raises ServiceUnavailable."""
        for batch in await self._store.batches(Progress.SETTLED, RECHECKED):
            if not await self._chain.has(batch):
                log.warning("batch %d is no longer on the chain", batch.number)
                await self._store.unsettled(batch)
        for batch in await self._store.batches(Progress.MADE, OPEN):
            await self._attempt(batch)
        try:
            await self._chain.resume()
        except (ChainRefused, TransactionPending) as error:
            log.warning("an earlier transaction is not finished yet: %s", error)
        for provider in self._chain.providers:
            batch = await self._next(provider)
            if batch is not None:
                await self._attempt(batch)
        await self._follow()

    async def _attempt(self, batch: ChainBatch) -> None:
        """Finish a batch as far as that can be done now; only an outage keeps the others from their turn."""
        try:
            await self._finish(batch)
        except ServiceUnavailable:
            raise
        except AosError as error:
            log.warning("batch %d is not settled yet: %s", batch.number, error)

    async def _finish(self, batch: ChainBatch) -> None:
        # the chain's state first: it may have the batch, whatever became of our transactions
        found = await self._chain.find(batch)
        if found is None and await self._chain.time() > batch.deadline:
            await self._store.release(batch, self._movement())
            return
        if found is None and any(line.refused for line in batch.lines):
            return  # its refused receipts are in another batch by now: it comes back as it was, or is released
        if found is None:
            sent = await self._chain.send(batch)
            found = await self._chain.find(batch)
            if not sent and found is None:
                # the contract takes a batch once, so that another transaction can follow
                await self._store.unsettled(batch)
        if found is not None:
            await self._store.settled(batch, found, self._movement())

    async def _next(self, provider: str) -> ChainBatch | None:
        """Return a new batch of a provider's receipts; None if there is nothing to settle, or another is under way."""
        account, payers = f"accounts/{provider}", {**self.settings.payers, **await self._store.bound()}
        if any(one.provider == provider for one in await self._store.batches(Progress.MADE, OPEN)):
            return None  # what it takes from the users is not known yet
        receipts = await self._store.waiting(account, list(payers), self.settings.receipts)
        if not receipts:
            return None
        funds: dict[str, Funds] = {}
        for payer in dict.fromkeys(one.payer for one in receipts):
            funds[payer] = await self._chain.funds(payers[payer], provider)
        balance = await self._money.balance(account)
        drafted = rules.draft(
            receipts, funds, 0 if balance is None else balance.available, provider=provider, nonce=self._new_nonce(),
            deadline=await self._chain.time() + self.settings.valid_seconds, since=await self._chain.height(),
        )  # fmt: skip
        if drafted is None:
            return None
        return await self._store.make(drafted, self._chain.identity(provider, drafted.nonce), self._movement())

    async def _follow(self) -> None:
        before: Cursor | None = await self._store.cursor()
        while True:
            cursor, disputes = await self._chain.disputes(before)
            if cursor == before:
                return
            await self._store.follow(cursor, disputes)
            before = cursor
