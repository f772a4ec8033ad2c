"""A network's side of a chain: where its contracts are, what settles receipts there, and who pays."""

from __future__ import annotations

from dataclasses import dataclass

from aos.broker.chain import ChainSettings, Site
from aos.broker.chain_store import DutyChain
from aos.verification.wallets import INFERENCE, Contract


@dataclass(frozen=True, slots=True)
class ChainSide:
    """A network's chain, ready."""

    url: str
    site: Site
    wallet: str
    """Of the project; empty: nobody said which."""
    settler: DutyChain
    settings: ChainSettings

    @property
    def contract(self) -> Contract:
        """Where requests are signed for."""
        return Contract(INFERENCE, self.site.chain_id, self.site.inference)
