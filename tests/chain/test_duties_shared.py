"""What is left to do after a settlement, for brokers that share one PostgreSQL: what one keeps, another goes on with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest_asyncio

from aos.broker.chain import Fate, Progress
from tests.chain.shop import PAYER, PROVIDER, QUICK, Shop, a_key, fund, open_shop
from tests.chain.test_duties import WINDOW, again, demand, dispute, earned, kept

OPERATORS, PAYERS = [f"accounts/{PROVIDER.lower()}"], ["accounts/p", "accounts/q"]


@asynccontextmanager
async def opening(deployment, name: str, database: str) -> AsyncIterator[Shop]:
    at = replace(deployment, folder=deployment.folder / name)
    async with open_shop(at.chain, at.folder, at.addresses, patience=QUICK, database=database) as shop:
        yield shop


@pytest_asyncio.fixture
async def shops(deployment, postgres_url):
    await fund(deployment, PAYER, 1000)
    async with opening(deployment, "one", postgres_url) as one, opening(deployment, "other", postgres_url) as other:
        yield one, other


class TestShared:
    async def test_another_answers_and_claims(self, deployment, shops):
        """Of what one broker settled, another answers the dispute; the rest is claimed, and what answered is forgotten for both."""
        one, other = shops
        names = await one.serve(10, 20)
        assert await other.duties.store.oldest(OPERATORS, PAYERS) is not None
        await one.settlement.round()
        assert await other.duties.store.oldest(OPERATORS, PAYERS) is None
        await dispute(deployment, one, names[1])
        await other.settlement.round()
        assert await one.duties.store.counts() == ({Progress.SETTLED: 1}, 1, {Fate.DISPUTED: 1})
        await other.duties.round()
        await one.settlement.round()
        assert (await other.paid(names[1])).chain.dispute == "answered"
        await deployment.advance(WINDOW)
        await one.duties.round()
        assert await earned(deployment) == 30 + 10**15
        await again(deployment, other)
        assert await other.duties.store.counts() == ({Progress.SETTLED: 1}, 0, {Fate.ANSWERED: 1})
        assert await kept(one) == (2, 2)
        await deployment.advance(8 * 86_400)
        await one.duties.round()
        await other.duties.round()
        assert await kept(one) == (0, 0)
        assert await other.is_sound()

    async def test_what_is_lost_is_lost_for_all(self, deployment, shops, caplog):
        """A dispute that nothing answers is given up by one broker, and the other does not try."""
        one, other = shops
        [name] = await one.serve(10, noted=False)
        await one.settlement.round()
        await demand(deployment, one, name)
        await one.settlement.round()
        for shop in (one, other, one):
            await shop.duties.round()
        assert caplog.text.count("is lost: nothing is kept that answers it") == 1

    async def test_wallets_are_bound_for_all(self, shops):
        """What an owner bound at one broker counts at the other; the latest wallet takes the place of the one before."""
        one, other = shops
        first, second = (a_key(at).address.lower() for at in (6, 7))
        await one.store.bind("accounts/r", first)
        await other.store.bind("accounts/r", second)
        assert await one.store.bound() == {"accounts/r": second}
        await one.store.bind("accounts/r", "")
        assert await other.store.bound() == {}

    async def test_what_was_undone_is_claimed_anew(self, deployment, shops):
        """A batch that the chain lost leaves nothing to claim; settled again, it is claimed in another transaction."""
        one, other = shops
        await one.serve(10)
        await one.settlement.round()
        [batch] = await other.batches()
        await other.store.unsettled(batch)
        assert await one.duties.store.counts() == ({Progress.MADE: 1}, 0, {})
        await other.settlement.round()
        await deployment.advance(WINDOW)
        [(again_there, attempts)] = await one.duties.store.unclaimed(2**40, 10)
        assert (again_there.identity, attempts) == (batch.identity, 1)
