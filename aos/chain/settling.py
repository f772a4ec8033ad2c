"""Settlement of receipts through web3: signs and sends batches, and reads what became of them from the chain's state and events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from eth_utils.address import to_canonical_address
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from web3.exceptions import BadFunctionCallOutput, BlockNotFound

from aos.broker.chain import ChainBatch, Cursor, Dispute, Fate, Found, Funds, Site, Wallet
from aos.broker.chain_store import Spent
from aos.chain.client import checked
from aos.chain.deploy import Addresses
from aos.chain.ledger import LedgerContract
from aos.chain.serving import InferenceContract, Line
from aos.chain.transactions import Sender
from aos.errors import ChainRefused, ServiceUnavailable
from aos.verification.keys import OperatorKey

BLOCKS: Final = 1_000
"""Blocks whose events are asked for at once."""
REWIND: Final = 64
"""How far a cursor goes back when its block is no longer the chain's."""
WORD: Final = 32
_FATES: Final = {"ReceiptDisputed": Fate.DISPUTED, "DisputeAnswered": Fate.ANSWERED, "DisputeWon": Fate.RETURNED}


class ChainSettler:
    """A SettlementChain. ``keys`` are the providers' own, by address; ``confirmations`` is how many blocks deep is deep enough."""

    def __init__(
        self, sender: Sender, addresses: Addresses, keys: Mapping[str, OperatorKey], *, confirmations: int = 0, start: int = 0
    ) -> None:
        self._chain, self._sender, self._confirmations = sender.chain, sender, confirmations
        self._keys = {address.lower(): key for address, key in keys.items()}
        self._start = start
        self._inference = InferenceContract(self._chain, addresses.inference)
        self._ledger = LedgerContract(self._chain, addresses.ledger)
        self._raw = self._chain.contract("InferenceServing", addresses.inference)
        self._site = Site(self._chain.chain_id, addresses.ledger, addresses.inference, addresses.fine_tuning)

    @property
    def site(self) -> Site:
        return self._site

    @property
    def spent(self) -> Spent:
        return self._sender.spent

    @property
    def providers(self) -> Sequence[str]:
        return tuple(self._keys)

    def identity(self, provider: str, nonce: int) -> str:
        signer = self._keys[provider].address
        words = b"".join(to_canonical_address(one).rjust(WORD, b"\0") for one in (provider, signer))
        return bytes(keccak(words + nonce.to_bytes(WORD, "big"))).hex()

    async def height(self) -> int:
        return max(0, int(await self._chain.ask(self._chain.web3.eth.block_number)) - self._confirmations)

    async def time(self) -> int:
        block = await self._chain.ask(self._chain.web3.eth.get_block(await self.height()))  # pyright: ignore[reportArgumentType]
        return int(block.get("timestamp", 0))

    async def funds(self, user: str, provider: str) -> Funds:
        current, former, until = await self._inference.signer(user, provider)
        mine = self._keys[provider].address
        # the former stays good for a time: what is sent now is in a block while it lasts, or waits for the user's word
        known = mine == current or (mine == former and await self._chain.now() + BLOCKS < until)
        balance, _ = await self._inference.balance(user, provider)
        return Funds(user, balance if known else 0)

    async def wallet(self, user: str) -> Wallet:
        found = await self._ledger.get(user)
        return Wallet(0, 0) if found is None else Wallet(found.available_balance, found.total_balance)

    async def send(self, batch: ChainBatch) -> bool:
        lines = [Line(checked(one.user), one.root, one.total, one.count) for one in batch.lines]
        key = f"settle/{batch.identity}/{batch.attempt}"
        signer, terms = self._keys[batch.provider], {"nonce": batch.nonce, "deadline": batch.deadline}
        try:
            await self._inference.settle(self._sender, key, signer, batch.provider, lines, **terms)
        except ChainRefused:
            if await self._sender.is_spent(key):
                return False
            raise
        return True

    async def resume(self) -> None:
        await self._sender.resume()

    async def has(self, batch: ChainBatch) -> bool:
        signer = self._keys[batch.provider].address
        call = self._raw.functions.isSettled(checked(batch.provider), signer, batch.nonce)
        try:
            return bool(await self._chain.ask(call.call(block_identifier=await self.height())))
        except BadFunctionCallOutput:
            return False  # before the contract was there

    async def find(self, batch: ChainBatch) -> Found | None:
        if not await self.has(batch):
            return None
        height, identity = await self.height(), bytes.fromhex(batch.identity)
        events, since = self._raw.events, max(0, min(batch.since, height) - REWIND)
        settled = await self._events(events.BatchSettled, since, height, {"batch": identity})
        if not settled:
            return None  # the chain changed between the two questions: asked again in the next round
        reasons = {
            (one["args"]["user"], one["args"]["root"]): str(one["args"]["reason"])
            for one in await self._events(events.LineRefused, settled[-1]["blockNumber"], height, {"batch": identity})
        }
        paid = settled[-1]["args"]["paid"]
        refused = {
            at: reasons.get((checked(line.user), line.root), "refused") for at, line in enumerate(batch.lines) if not paid >> at & 1
        }
        transaction = HexBytes(settled[-1]["transactionHash"]).to_0x_hex()
        return Found(transaction, settled[-1]["blockNumber"], settled[-1]["args"]["closesAt"], refused)

    async def disputes(self, cursor: Cursor | None) -> tuple[Cursor, Sequence[Dispute]]:
        height = await self.height()
        if cursor is not None and (height < cursor.block or await self._hash(cursor.block) != cursor.hash):
            back = max(self._start, min(cursor.block, height) - REWIND)
            return Cursor(back, await self._hash(back)), ()
        begin = self._start if cursor is None else cursor.block + 1
        if begin > height:
            return cursor or Cursor(height, await self._hash(height)), ()
        end = min(height, begin + BLOCKS - 1)
        hash_ = await self._hash(end)
        found: list[tuple[tuple[int, int], Dispute]] = []
        for name, fate in _FATES.items():
            for one in await self._events(self._raw.events[name], begin, end, {}):
                said = one["args"]
                dispute = Dispute(HexBytes(said["batch"]).hex(), said["line"], said["index"], fate, one["blockNumber"])
                found.append(((one["blockNumber"], one["logIndex"]), dispute))
        if await self._hash(end) != hash_:
            raise ServiceUnavailable("chain that stands still")  # it was reorganised while it was read
        return Cursor(end, hash_), [one for _, one in sorted(found, key=lambda each: each[0])]

    async def _events(self, event: Any, begin: int, end: int, filters: Mapping[str, Any]) -> list[Any]:
        found: list[Any] = []
        ask: Callable[[Awaitable[Any]], Awaitable[Any]] = self._chain.ask
        for at in range(begin, end + 1, BLOCKS):
            last = min(end, at + BLOCKS - 1)
            found += await ask(event().get_logs(from_block=at, to_block=last, argument_filters=dict(filters)))
        return found

    async def _hash(self, block: int) -> str:
        try:
            found = await self._chain.ask(self._chain.web3.eth.get_block(block))  # pyright: ignore[reportArgumentType]
        except BlockNotFound:
            return ""
        return HexBytes(found.get("hash", b"")).to_0x_hex()
