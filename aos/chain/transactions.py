"""Transactions that happen once: kept before they are sent, sent again when they are lost, raised when they are too cheap."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any, Final

from eth_utils.crypto import keccak
from hexbytes import HexBytes
from web3.contract.async_contract import AsyncContractConstructor, AsyncContractFunction
from web3.exceptions import TransactionNotFound
from web3.types import TxReceipt

from aos.broker.chain_store import Spent
from aos.chain.client import Chain
from aos.chain.outbox import Outbox, Sent
from aos.errors import ChainRefused, TransactionPending
from aos.verification.keys import OperatorKey

GAS_SPARE: Final = 200_000
"""Gas beyond what was estimated: time and others may change what the call has to do. Unused, it is free."""
RAISE: Final = (5, 4)
"""By how much a form is dearer than the one before: nodes take no replacement for less than an eighth more."""
TIP: Final = 10**9
"""Wei a unit of gas for whoever makes the block."""
POLL_SECONDS: Final = (0.02, 1.0)
"""How long to wait before asking for a receipt again: at first, and at most."""
_KNOWN: Final = ("already known", "already imported")
_SPENT: Final = ("nonce too low", "nonce is too low")
_CHEAP: Final = ("underpriced", "fee too low", "max fee per gas less than block base fee")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, and for what. Times in seconds."""

    each: float = 30.0
    """For one form, before it is made dearer."""
    forms: int = 6
    """How many forms of one transaction at most, and how many times ``each`` a call waits; more only while blocks are dearer."""
    confirmations: int = 0
    """How many blocks must be on top of the transaction's own, so that a reorganisation does not undo it."""


class Sender:
    """Sends one key's transactions. There must be no other with this key: it is the one who counts its nonces."""

    def __init__(self, chain: Chain, key: OperatorKey, outbox: Outbox, patience: Patience | None = None) -> None:
        self.chain, self.address = chain, key.address
        self._key, self._outbox, self._patience = key, outbox, patience or Patience()
        self._numbering = asyncio.Lock()
        self.spent = Spent()
        """What sending took since this object was made."""

    async def send(self, key: str, call: AsyncContractFunction | AsyncContractConstructor, *, value: int = 0) -> TxReceipt:
        """Return the receipt of the transaction that this key stands for; sent now, or at any time before.

        Raises ChainRefused, and then nothing was paid; ServiceUnavailable or TransactionPending: the same call goes on from there.
        """
        sent = await self._outbox.find(key)
        if sent is None:
            sent = await self._decide(key, call, value)
        return await self._finish(sent)

    async def resume(self) -> list[TxReceipt]:
        """Finish what an earlier run left unfinished, in the order of the nonces. Raises as send does."""
        return [await self._finish(sent) for sent in await self._outbox.unfinished()]

    async def is_spent(self, key: str) -> bool:
        """Return whether the transaction that this key stands for is in a block, good or refused."""
        sent = await self._outbox.find(key)
        return sent is not None and bool(sent.mined)

    async def first_nonce(self, key: str) -> int:
        """Return the nonce of the transaction that this key stands for; of the next one, if it was not sent yet."""
        sent = await self._outbox.find(key)
        return await self._next_nonce() if sent is None else sent.nonce

    async def _decide(self, key: str, call: AsyncContractFunction | AsyncContractConstructor, value: int) -> Sent:
        terms: Any = {"from": self.address, "value": value}
        # asked first: what would be refused is not sent, and says why
        try:
            gas = await self.chain.ask(call.estimate_gas(terms))
        except ChainRefused:
            self.spent = replace(self.spent, refused=self.spent.refused + 1)
            raise
        built: Any = await self.chain.ask(
            call.build_transaction(terms | {"gas": 1, "maxFeePerGas": 1, "maxPriorityFeePerGas": 1, "nonce": 0})
        )
        fee = await self._fair_fee()
        async with self._numbering:
            unsigned = Sent(
                key=key, nonce=await self._next_nonce(), to=str(built.get("to") or ""), data=HexBytes(built["data"]).to_0x_hex(),
                value=value, gas=gas + GAS_SPARE, fee=fee, tip=min(TIP, fee), forms=(),
            )  # fmt: skip
            sent = self._signed(unsigned)
            await self._outbox.keep(sent)
        return sent

    async def _finish(self, sent: Sent) -> TxReceipt:
        if sent.mined:
            return self._outcome(await self._receipt(sent.mined))
        waited = 0
        while True:
            await self._broadcast(sent)
            if (receipt := await self._wait(sent)) is not None:
                await self._outbox.keep(replace(sent, mined=HexBytes(receipt["transactionHash"]).to_0x_hex()))
                self._count_spent(receipt)
                return self._outcome(receipt)
            if await self._is_taken(sent):
                # another transaction has our nonce, so that no form of ours can count any more: a new one cannot pay twice
                async with self._numbering:
                    sent = self._signed(replace(sent, nonce=await self._next_nonce(), forms=()))
                    await self._outbox.keep(sent)
                continue
            waited, fair = waited + 1, await self._fair_fee()
            # beyond its forms it is made dearer only as blocks are: waiting for a chain that stands still costs nothing
            if waited >= self._patience.forms or (len(sent.forms) >= self._patience.forms and fair <= sent.fee):
                raise TransactionPending(sent.key, self._patience.each * self._patience.forms)
            fee = max(sent.fee * RAISE[0] // RAISE[1] + 1, fair)
            sent = self._signed(replace(sent, fee=fee, tip=sent.tip * RAISE[0] // RAISE[1] + 1))
            await self._outbox.keep(sent)

    async def _broadcast(self, sent: Sent) -> None:
        try:
            await self.chain.ask(self.chain.web3.eth.send_raw_transaction(HexBytes(sent.forms[-1])))
        except ChainRefused as error:
            words = error.facts["words"].lower()
            # known: it waits; spent: the receipt will say by whom; cheap: the next form offers more
            if not any(one in words for one in (*_KNOWN, *_SPENT, *_CHEAP)):
                raise

    async def _wait(self, sent: Sent) -> TxReceipt | None:
        """Return the receipt of any of its forms, once it is deep enough; None if that takes longer than one form is given."""
        pause, ends = POLL_SECONDS[0], asyncio.get_running_loop().time() + self._patience.each
        while True:
            for form in reversed(sent.forms):
                receipt = await self._find(hash_of(form))
                if receipt is not None and await self._is_deep(receipt):
                    return receipt
            if asyncio.get_running_loop().time() >= ends or await self._is_taken(sent):
                return None
            await asyncio.sleep(pause)
            pause = min(pause * 2, POLL_SECONDS[1])

    async def _is_deep(self, receipt: TxReceipt) -> bool:
        return int(await self.chain.ask(self.chain.web3.eth.block_number)) >= receipt["blockNumber"] + self._patience.confirmations

    async def _is_taken(self, sent: Sent) -> bool:
        # the count first: who sees the nonce used sees the receipt of the one that used it, if it is ours
        if await self._count() <= sent.nonce:
            return False
        return all([await self._find(hash_of(form)) is None for form in sent.forms])

    async def _find(self, hash_: str) -> TxReceipt | None:
        try:
            return await self._receipt(hash_)
        except TransactionNotFound:
            return None

    async def _receipt(self, hash_: str) -> TxReceipt:
        return await self.chain.ask(self.chain.web3.eth.get_transaction_receipt(HexBytes(hash_)))

    async def _count(self) -> int:
        return int(await self.chain.ask(self.chain.web3.eth.get_transaction_count(self.address)))  # pyright: ignore[reportArgumentType]

    async def _next_nonce(self) -> int:
        taken = {sent.nonce for sent in await self._outbox.unfinished()}
        nonce = await self._count()
        # the lowest that is free: a gap, as a reorganisation leaves one, would hold up all behind it
        while nonce in taken:
            nonce += 1
        return nonce

    async def _fair_fee(self) -> int:
        block = await self.chain.ask(self.chain.web3.eth.get_block("latest"))
        return 2 * int(block.get("baseFeePerGas", 0)) + TIP

    def _signed(self, sent: Sent) -> Sent:
        transaction: dict[str, Any] = {
            "type": 2, "chainId": self.chain.chain_id, "nonce": sent.nonce, "to": sent.to or b"", "data": sent.data,
            "value": sent.value, "gas": sent.gas, "maxFeePerGas": sent.fee, "maxPriorityFeePerGas": sent.tip,
        }  # fmt: skip
        return replace(sent, forms=(*sent.forms, HexBytes(self._key.sign_transaction(transaction)).to_0x_hex()))

    def _count_spent(self, receipt: TxReceipt) -> None:
        gas, before = int(receipt["gasUsed"]), self.spent
        cost = gas * int(receipt.get("effectiveGasPrice", 0))
        self.spent = Spent(before.gas + gas, before.fees + cost, before.refused + (not receipt["status"]))

    @staticmethod
    def _outcome(receipt: TxReceipt) -> TxReceipt:
        if not receipt["status"]:
            raise ChainRefused("what was good when it was sent was refused in its block")
        return receipt


def hash_of(raw: str) -> str:
    """Return the hash of a raw transaction."""
    return HexBytes(keccak(HexBytes(raw))).to_0x_hex()
