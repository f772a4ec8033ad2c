"""What a broker counts of its chain; docs/reference/metrics.md lists it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aos.broker.chain import ChainSettings, Fate, Progress
from aos.broker.chain_store import ChainFigures, ChainStore, DutyChain, Spent
from aos.metrics import CollectorRegistry, Counter, Gauge

OUTCOMES: Final = ("done", "failed")


@dataclass(frozen=True, slots=True)
class ChainPart:
    """What is asked for figures."""

    chain: DutyChain
    store: ChainStore
    settings: ChainSettings
    figures: ChainFigures


class ChainMetrics:
    """Where settlement stands. Registered by networks with a chain only."""

    def __init__(self, part: ChainPart, registry: CollectorRegistry) -> None:
        self._part, self._told = part, Spent()

        def gauge(name: str, what: str, *labels: str) -> Gauge:
            return Gauge(f"aos_chain_{name}", what, labels, registry=registry)

        self._block = gauge("block", "The last block seen that is deep enough.")
        self._batches = gauge("batches", "Batches of receipts, by how far they are.", "progress")
        self._claims = gauge("unclaimed_batches", "Settled batches of which something is left to claim.")
        self._oldest = gauge("oldest_unsettled_seconds", "Age of the oldest receipt that has a payer and is not settled.")
        self._disputes = gauge("disputes", "Disputed receipts, by what became of them.", "fate")
        self._gas = Counter("aos_chain_gas", "Gas that transactions used.", registry=registry)
        self._fees = Counter("aos_chain_fees_neurons", "What they cost.", registry=registry)
        self._refused = Counter("aos_chain_refused_sends", "Transactions that contracts or the node refused.", registry=registry)
        self._rounds = Counter("aos_chain_rounds", "Rounds of settlement, by how they ended.", ["outcome"], registry=registry)
        for outcome in OUTCOMES:
            self._rounds.labels(outcome)

    async def looked(self, now: datetime, *, done: bool | None) -> None:
        """Count a round, none if another broker had the turn, and look at where things stand. Raises ServiceUnavailable."""
        if done is not None:
            self._rounds.labels("done" if done else "failed").inc()
        spent, before = self._part.chain.spent, self._told
        self._gas.inc(spent.gas - before.gas)
        self._fees.inc(spent.fees - before.fees)
        self._refused.inc(spent.refused - before.refused)
        self._told = spent
        batches, unclaimed, disputes = await self._part.figures.counts()
        for progress in Progress:
            self._batches.labels(progress.value).set(batches.get(progress, 0))
        for fate in Fate:
            if fate is not Fate.NONE:
                self._disputes.labels(fate.value).set(disputes.get(fate, 0))
        self._claims.set(unclaimed)
        payers = list({**self._part.settings.payers, **await self._part.store.bound()})
        oldest = await self._part.figures.oldest([f"accounts/{one}" for one in self._part.chain.providers], payers)
        self._oldest.set(0 if oldest is None else max(0.0, (now - oldest).total_seconds()))
        self._block.set(await self._part.chain.height())
