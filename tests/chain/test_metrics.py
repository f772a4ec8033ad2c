"""What is counted of a chain."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aos.broker.chain_metrics import ChainMetrics, ChainPart
from aos.clock import SystemClock
from aos.errors import ServiceUnavailable
from aos.metrics import CollectorRegistry, exposition
from tests.chain.shop import OTHER, fund
from tests.chain.test_duties import WINDOW, dispute

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md").read_text()


class Watched:
    """The metrics of a shop, as they are scraped."""

    def __init__(self, shop) -> None:
        self.shop, self.registry = shop, CollectorRegistry()
        part = ChainPart(shop.settler, shop.store, shop.settlement.settings, shop.duties.store)
        self.metrics = ChainMetrics(part, self.registry)

    async def look(self, *, later: float = 0.0, done: bool | None = True) -> dict[tuple[str, str], float]:
        """Each sample by its name and its label."""
        await self.metrics.looked(SystemClock().now() + timedelta(seconds=later), done=done)
        return self.scraped()

    def scraped(self) -> dict[tuple[str, str], float]:
        return {
            (sample.name.removeprefix("aos_chain_"), "".join(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(exposition(self.registry).data.decode())
            for sample in family.samples
        }


class TestChainMetrics:
    async def test_where_settlement_stands(self, deployment, shop):
        """Block, batches, claims, the oldest receipt that waits, and what sending took."""
        watched = Watched(shop)
        before = await watched.look()
        assert (before["oldest_unsettled_seconds", ""], before["gas_total", ""]) == (0, 0)
        await shop.pay(10)
        assert (await watched.look(later=500))["oldest_unsettled_seconds", ""] >= 500
        await shop.settlement.round()
        found = await watched.look(later=500)
        assert (found["batches", "settled"], found["batches", "made"], found["unclaimed_batches", ""]) == (1, 0, 1)
        assert (found["oldest_unsettled_seconds", ""], found["rounds_total", "done"]) == (0, 3)
        assert found["block", ""] == await deployment.chain.height() > before["block", ""]
        assert found["gas_total", ""] > 50_000
        assert found["fees_neurons_total", ""] >= found["gas_total", ""]
        await deployment.advance(WINDOW)
        for _ in range(2):
            await shop.duties.round()
            await deployment.advance(61)
        assert (await watched.look())["unclaimed_batches", ""] == 0

    async def test_disputes(self, deployment, shop):
        """By what became of each."""
        names = await shop.serve(10, 20)
        await shop.settlement.round()
        await dispute(deployment, shop, names[0])
        await shop.settlement.round()
        watched = Watched(shop)
        assert (await watched.look())["disputes", "disputed"] == 1
        await shop.duties.round()
        await shop.settlement.round()
        found = await watched.look()
        assert (found["disputes", "disputed"], found["disputes", "answered"], found["disputes", "returned"]) == (0, 1, 0)

    async def test_refused_sends(self, deployment, shop):
        """What a contract would refuse is counted, though nothing is sent then."""
        watched = Watched(shop)
        await fund(deployment, OTHER, 50)
        await shop.pay(10)
        await shop.settlement.round()
        [batch] = await shop.batches()
        await shop.duties._attempt(shop.settler.claim(batch, 0), "a claim before its time")
        assert (await watched.look())["refused_sends_total", ""] == 1

    async def test_a_round_of_another_broker(self, shop):
        """Where things stand is shown by each broker; a round is counted by the one that had it."""
        watched = Watched(shop)
        await shop.pay(10)
        await shop.settlement.round()
        found = await watched.look(done=None)
        assert found["batches", "settled"] == 1
        assert (found["rounds_total", "done"], found["rounds_total", "failed"]) == (0, 0)

    async def test_without_a_chain(self, deployment, shop):
        """A round that failed is counted, whether or not the chain answers."""
        watched = Watched(shop)
        provider = deployment.chain.web3.provider
        before, provider.endpoint_uri = provider.endpoint_uri, "http://127.0.0.1:1"
        with pytest.raises(ServiceUnavailable):
            await watched.look(done=False)
        provider.endpoint_uri = before
        assert watched.scraped()["rounds_total", "failed"] == 1

    def test_the_page_lists_them(self):
        """No metric is undocumented, and none outlives its row."""
        registry = CollectorRegistry()
        ChainMetrics(None, registry)
        families = text_string_to_metric_families(exposition(registry).data.decode())
        told = {(f"{one.name}_total" if one.type == "counter" else one.name, one.type) for one in families}
        listed = set(re.findall(r"^\| `(aos_chain_\w+)` \|[^|]*\| (\w+) \|", PAGE, re.MULTILINE))
        assert {one for one in told if not one[0].endswith("_created")} == listed
