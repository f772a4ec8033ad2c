"""Several brokers that settle on one chain, by turns."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from aos.broker.chain import Progress
from tests.chain.shop import PAYER, QUICK, fund, left, open_shop


class TestTurns:
    async def test_one_settles_at_a_time(self, shop):
        """While it is another broker's turn nothing is sent; afterwards it goes on, and leaves the turn to others."""
        await shop.pay(10)
        assert await shop.store.turn("another", 60)
        assert not await shop.in_turn()
        assert await shop.batches() == await shop.batches(Progress.MADE) == []
        await shop.store.leave("another")
        assert await shop.in_turn()
        assert len(await shop.batches()) == 1
        assert await shop.store.turn("another", 60)

    async def test_who_loses_its_turn_stops(self, shop):
        """A round that took too long is given up, and whoever goes on pays nothing twice."""
        await shop.pay(10)
        gave_up, taken = await asyncio.gather(shop.in_turn(lasts=0), shop.store.turn("another", 60))
        assert (gave_up, taken) == (False, True)
        await shop.store.leave("another")
        assert await shop.in_turn()
        assert [(line.total, line.count) for batch in await shop.batches() for line in batch.lines] == [(10, 1)]
        assert await shop.earned() == 0
        assert await shop.is_sound()

    async def test_two_brokers_of_one_postgresql(self, deployment, postgres_url):
        """Both look for what is to be settled: each receipt is settled once, by one of them, and both tell of it."""
        await fund(deployment, PAYER, 1000)
        other = replace(deployment, folder=deployment.folder / "other")

        def opening(at):
            return open_shop(at.chain, at.folder, at.addresses, patience=QUICK, database=postgres_url)

        async with opening(deployment) as first, opening(other) as second:
            names = [*await first.pay(10, 20), *await second.pay(30, first=3)]
            rounds = await asyncio.gather(first.in_turn(), second.in_turn())
            assert sorted(rounds) == [False, True]
            [batch] = await second.batches()
            assert [(line.total, line.count) for line in batch.lines] == [(60, 3)]
            assert {(await second.paid(name)).chain.transaction for name in names} == {batch.transaction}
            assert await left(deployment, PAYER) == 940
            assert await first.is_sound()
