"""The broker's calls about the chain, and what other calls show of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from aos.broker.calls import Calls, owner
from aos.broker.chain import ChainSettings, Placed
from aos.broker.chain_store import ChainStore, SettlementChain
from aos.errors import NoChain
from aos.v1 import broker_pb2 as pb

PAYMENTS: Final = 1000
"""Most payments of one statement."""
SUM_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class OnChain:
    """What the broker knows of a chain."""

    chain: SettlementChain
    store: ChainStore
    settings: ChainSettings

    async def proof(self, receipt: str) -> pb.ChainProof | None:
        """Return where a receipt is on the chain; None if it is in no batch."""
        placed = await self.store.placed(receipt)
        return None if placed is None else self._shown(placed)

    async def payments(self, account: str, start: datetime | None, end: datetime | None) -> list[pb.ChainPayment]:
        """Return what was settled of an account's in that time, the latest first."""
        return [
            pb.ChainPayment(
                transaction=batch.transaction, block=batch.block, account=line.account, user=line.user, provider=batch.provider,
                root=line.root, receipts=line.count, amount=str(line.total),
            )
            for batch in await self.store.paid(account, start, end, PAYMENTS)
            for line in batch.lines
            if not line.refused
        ][:PAYMENTS]  # fmt: skip

    def _shown(self, placed: Placed) -> pb.ChainProof:
        batch, line, site = placed.batch, placed.batch.lines[placed.line], self.chain.site
        return pb.ChainProof(
            chain_id=site.chain_id, contract=site.inference, transaction=batch.transaction, block=batch.block,
            batch=bytes.fromhex(batch.identity), nonce=str(batch.nonce), line=placed.line, user=line.user, provider=batch.provider,
            root=line.root, total=str(line.total), leaves=line.count, leaf=placed.leaf, dispute=placed.fate.value,
            proof=[one.digest + one.total.to_bytes(SUM_BYTES, "big") for one in placed.siblings], closes_at=batch.closes_at,
        )  # fmt: skip


class ChainCalls(Calls):
    """What accounts have on the chain."""

    async def GetChain(self, request: pb.GetChainRequest, context: Any) -> pb.ChainState:
        """Show an account's side of the chain."""
        account, known = owner(request.account, "account"), self._on_chain
        if known is None:
            raise NoChain
        site, counted = known.chain.site, await known.store.counted(account)
        user = known.settings.payers.get(account, "")
        wallet = await known.chain.wallet(user) if user else None
        return pb.ChainState(
            chain_id=site.chain_id, ledger=site.ledger, inference=site.inference, fine_tuning=site.fine_tuning, wallet=user,
            available=str(wallet.available if wallet else 0), total=str(wallet.total if wallet else 0),
            receipts_waiting=counted.waiting, receipts_sent=counted.sent, receipts_settled=counted.settled,
            amount_settled=str(counted.paid),
        )  # fmt: skip
