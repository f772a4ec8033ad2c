"""What follows a settlement, through web3: claims after the window, and answers to disputes."""

from __future__ import annotations

from typing import Any

from web3.contract.async_contract import AsyncContractFunction

from aos.broker.chain import ChainBatch, Claims, Evidence, Placed
from aos.chain.client import checked
from aos.chain.serving import Batch, Line
from aos.chain.settling import ChainSettler
from aos.errors import ChainRefused
from aos.verification.wallets import receipt_words, service_word


class ChainKeeper(ChainSettler):
    """A DutyChain: settles, and does what comes after."""

    async def claims(self, batch: ChainBatch) -> Claims:
        words = await self._words(batch)
        amount, open_ = await self._claimable(batch, words, "latest")
        if amount or open_:
            return Claims(amount, done=False)
        amount, open_ = await self._claimable(batch, words, await self.height())
        return Claims(0, done=not (amount or open_))

    async def claim(self, batch: ChainBatch, attempt: int) -> None:
        words = await self._words(batch)
        await self._inference.claim(self._sender, f"claim/{batch.identity}/{attempt}", words)

    async def answer_by(self, identity: str, line: int, leaf: int) -> int | None:
        call = self._raw.functions.getDispute(bytes.fromhex(identity), line, leaf)
        until, _, closed, _ = await self._chain.ask(call.call())
        return None if closed or not until else int(until)

    async def answer(self, placed: Placed, evidence: Evidence, attempt: int) -> None:
        batch, signed = placed.batch, evidence.request
        leaf = (placed.leaf, bytes.fromhex(evidence.digest), int(evidence.receipt.price))
        asked = (service_word(signed.service), signed.body_hash, int(signed.max_fee), signed.nonce, signed.expiry)
        call: AsyncContractFunction = self._raw.functions.answerDispute(
            (await self._words(batch)).words(), placed.line, leaf, [(one.digest, one.total) for one in placed.siblings],
            receipt_words(evidence.receipt), asked, signed.signature,
        )  # fmt: skip
        await self._sender.send(f"answer/{batch.identity}/{placed.line}/{placed.leaf}/{attempt}", call)

    async def _claimable(self, batch: ChainBatch, settled: Batch, block: Any) -> tuple[int, bool]:
        """Return what can be claimed as of that block, and whether there is a line that has to wait for a dispute."""
        amount, waits = 0, False
        for at, line in enumerate(settled.lines):
            if not settled.paid >> at & 1:
                continue
            call = self._raw.functions.getLine(bytes.fromhex(batch.identity), at)
            (frozen, returned, demands, void), claimed = await self._chain.ask(call.call(block_identifier=block))
            if claimed or void or returned == line.total:
                continue
            if demands or frozen + returned == line.total:
                waits = True
            else:
                amount += line.total - frozen - returned
        return amount, waits

    async def _words(self, batch: ChainBatch) -> Batch:
        """Return the batch as the chain settled it. Raises ChainRefused if it is not where it was."""
        events = await self._events(
            self._raw.events.BatchSettled, batch.block, batch.block, {"batch": bytes.fromhex(batch.identity)}
        )
        if not events:
            raise ChainRefused(f"batch {batch.number} is not in block {batch.block} any more")
        said = events[-1]["args"]
        lines = tuple(Line(checked(one.user), one.root, one.total, one.count) for one in batch.lines)
        return Batch(checked(batch.provider), said["signer"], batch.nonce, said["closesAt"], said["paid"], lines)
