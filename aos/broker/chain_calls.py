"""The broker's calls about the chain, and what other calls show of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from aos.broker.calls import Calls, owner
from aos.broker.chain import ChainSettings, Placed
from aos.broker.chain_store import ChainStore, SettlementChain
from aos.broker.requests import check_address, check_project_account
from aos.errors import NoChain
from aos.v1 import broker_pb2 as pb
from aos.verification.requests import check_payer
from aos.verification.wallets import INFERENCE, Contract

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
    """What accounts have on the chain, and which wallets pay for them there."""

    async def GetChain(self, request: pb.GetChainRequest, context: Any) -> pb.ChainState:
        """Show an account's side of the chain."""
        return await self._state(owner(request.account, "account"))

    async def BindPayer(self, request: pb.BindPayerRequest, context: Any) -> pb.ChainState:
        """Let a wallet pay for an account."""
        account = check_project_account(owner(request.account, "account"), "account")
        wallet, known, now = check_address(request.wallet, "wallet"), self._known(), int(self._clock.now().timestamp())
        site = known.chain.site
        contract = Contract(INFERENCE, site.chain_id, site.inference)
        # in a thread: recovering a key takes milliseconds
        await asyncio.to_thread(check_payer, account, wallet, request.expiry, request.signature, contract, now=now)
        (await self._ledgers.books(account)).owned()
        await known.store.bind(account, wallet)
        return await self._state(account)

    async def UnbindPayer(self, request: pb.UnbindPayerRequest, context: Any) -> pb.ChainState:
        """Let it pay no longer."""
        account = owner(request.account, "account")
        await self._known().store.bind(account, "")
        return await self._state(account)

    def _known(self) -> OnChain:
        if self._on_chain is None:
            raise NoChain
        return self._on_chain

    async def _state(self, account: str) -> pb.ChainState:
        known = self._known()
        site, counted, bound = known.chain.site, await known.store.counted(account), await known.store.bound()
        user = {**known.settings.payers, **bound}.get(account, "")
        wallet = await known.chain.wallet(user) if user else None
        return pb.ChainState(
            chain_id=site.chain_id, ledger=site.ledger, inference=site.inference, fine_tuning=site.fine_tuning, wallet=user,
            available=str(wallet.available if wallet else 0), total=str(wallet.total if wallet else 0),
            receipts_waiting=counted.waiting, receipts_sent=counted.sent, receipts_settled=counted.settled,
            amount_settled=str(counted.paid), bound=account in bound,
        )  # fmt: skip
