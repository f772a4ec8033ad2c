"""The serving contracts, typed: offers, sub-accounts, and settlement of receipts in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from web3.types import TxReceipt

from aos.chain.artifacts import Name
from aos.chain.client import Chain, checked
from aos.chain.ledger import MAX_PAGE, neurons
from aos.chain.transactions import Sender
from aos.errors import InvalidField
from aos.verification.keys import OperatorKey
from aos.verification.wallets import FINE_TUNING, INFERENCE, Contract, batch_statement

MAX_LINES: Final = 64
"""Users of one batch."""


@dataclass(frozen=True, slots=True)
class Refund:
    """Money on its way from a sub-account back to the ledger."""

    index: int
    amount: int
    created_at: int
    processed: bool


@dataclass(frozen=True, slots=True)
class Claimable:
    """What retrieving would bring from one provider now, what still waits, and until when the next does (0: nothing)."""

    provider: str
    due: int
    waiting: int
    next_release: int


@dataclass(frozen=True, slots=True)
class Service:
    """An inference service, field for field. Prices are neurons a token."""

    provider: str
    name: str
    service_type: str
    url: str
    input_price: int
    output_price: int
    updated_at: int
    model: str
    verifiability: str


@dataclass(frozen=True, slots=True)
class Line:
    """One user's receipts with one provider: the root of their sum tree, what they come to, and how many there are."""

    user: str
    root: bytes
    total: int
    count: int


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it was settled. The chain keeps its hash, so that whoever claims or disputes brings it along: keep it."""

    provider: str
    signer: str
    nonce: int
    closes_at: int
    paid: int
    """Bit i: line i was paid."""
    lines: tuple[Line, ...]

    def words(self) -> tuple[Any, ...]:
        """Return it as the contract takes it."""
        return (self.provider, self.signer, self.nonce, self.closes_at, self.paid, [_words(line) for line in self.lines])


class ServingContract:
    """What both serving contracts have: sub-accounts."""

    def __init__(self, chain: Chain, contract: Name, address: str) -> None:
        self.chain, self._contract = chain, chain.contract(contract, address)
        self.where = Contract(FINE_TUNING if contract == "FineTuningServing" else INFERENCE, chain.chain_id, checked(address))

    async def balance(self, user: str, provider: str) -> tuple[int, int]:
        """Return a sub-account's balance, and the part of it that is being refunded; zeros for one that is not there."""
        balance, pending = await self.chain.view(self._contract.functions.balanceOf(checked(user), checked(provider)))
        return balance, pending

    async def refunds(self, user: str, provider: str) -> list[Refund]:
        """Return the refunds under way, oldest first."""
        return [
            Refund(*one) for one in await self.chain.view(self._contract.functions.getRefunds(checked(user), checked(provider)))
        ]

    async def claimable(self, user: str, providers: Sequence[str]) -> list[Claimable]:
        """Return, for each provider, what retrieving would bring."""
        call = self._contract.functions.claimable(checked(user), [checked(one) for one in providers])
        return [Claimable(*one) for one in await self.chain.view(call)]

    async def lock_time(self) -> int:
        """Return the seconds between a refund's request and its release."""
        return await self.chain.view(self._contract.functions.lockTime())

    async def ledger(self) -> str:
        """Return the ledger that the contract belongs to."""
        return await self.chain.view(self._contract.functions.ledger())

    async def acknowledge(self, sender: Sender, key: str, provider: str, signer: str) -> TxReceipt:
        """Say whose signature may charge the sender's sub-account; the former stays good for the lock time."""
        return await sender.send(key, self._contract.functions.acknowledgeProviderSigner(checked(provider), checked(signer)))

    async def signer(self, user: str, provider: str) -> tuple[str, str, int]:
        """Return the acknowledged signer, the former one, and until when what that one signed is taken."""
        current, former, until = await self.chain.view(self._contract.functions.getSigner(checked(user), checked(provider)))
        return current, former, until

    async def withdrawable(self, payee: str) -> int:
        """Return what is somebody's to take out."""
        return await self.chain.view(self._contract.functions.withdrawable(checked(payee)))

    async def withdraw(self, sender: Sender, key: str, to: str) -> TxReceipt:
        """Take out all that is the sender's."""
        return await sender.send(key, self._contract.functions.withdraw(checked(to)))


class InferenceContract(ServingContract):
    """Inference: offers, and settlement of receipts."""

    def __init__(self, chain: Chain, address: str) -> None:
        super().__init__(chain, "InferenceServing", address)

    async def services(self, offset: int = 0, limit: int = MAX_PAGE) -> tuple[list[Service], int]:
        """Return services from ``offset`` on, at most 20, and how many there are."""
        found, count = await self.chain.view(self._contract.functions.getAllServices(offset, limit))
        return [Service(*one) for one in found], count

    async def offer(self, sender: Sender, key: str, service: Service) -> TxReceipt:
        """Offer a service as the sender's, or change it: provider and time are the chain's to say."""
        call = self._contract.functions.addOrUpdateService(
            service.name, service.service_type, service.url, service.model, service.verifiability,
            neurons("input_price", service.input_price), neurons("output_price", service.output_price),
        )  # fmt: skip
        return await sender.send(key, call)

    async def quote(self, provider: str, name: str, prompt_tokens: int, completion_tokens: int) -> int:
        """Return what an answer of these counts costs."""
        return await self.chain.view(self._contract.functions.quoteFee(checked(provider), name, prompt_tokens, completion_tokens))

    async def settle(
        self, sender: Sender, key: str, signer: OperatorKey, provider: str, lines: Sequence[Line], *, nonce: int, deadline: int
    ) -> Batch:
        """Settle a batch and return it as it was settled: `paid` says which lines were. Keep it for `claim`, and for disputes.

        ``key`` and ``nonce`` are the batch's own: settling again with both gives the same batch back. ``deadline`` is in seconds
        since 1970. Raises InvalidField for no line or more than 64, and as Sender.send does.
        """
        if not 1 <= len(lines) <= MAX_LINES:
            raise InvalidField("lines", f"must be 1 to {MAX_LINES}", value=len(lines), limit=MAX_LINES)
        signature = signer.sign(batch_statement(self.where, checked(provider), lines, nonce, deadline))
        words = [_words(line) for line in lines]
        call = self._contract.functions.settleBatch(checked(provider), words, nonce, deadline, signature)
        receipt = await sender.send(key, call)
        event = self._contract.events.BatchSettled().process_log(receipt["logs"][-1])["args"]
        return Batch(checked(provider), signer.address, nonce, event["closesAt"], event["paid"], tuple(lines))

    async def claim(self, sender: Sender, key: str, batch: Batch) -> TxReceipt:
        """After the window: make what is not disputed the provider's to withdraw. Anybody may."""
        return await sender.send(key, self._contract.functions.claim(batch.words()))

    async def is_settled(self, provider: str, signer: str, nonce: int) -> bool:
        """Return whether this nonce was used by this signer for this provider."""
        return await self.chain.view(self._contract.functions.isSettled(checked(provider), checked(signer), nonce))


class FineTuningContract(ServingContract):
    """Fine-tuning: sub-accounts and quotes. Deliverables come with the task flow."""

    def __init__(self, chain: Chain, address: str) -> None:
        super().__init__(chain, "FineTuningServing", address)

    async def quote(self, provider: str, name: str, tokens: int, epochs: int) -> int:
        """Return what training on this many tokens, this many times, costs."""
        return await self.chain.view(self._contract.functions.quoteFee(checked(provider), name, tokens, epochs))


def _words(line: Line) -> tuple[str, bytes, int, int]:
    return (checked(line.user), line.root, neurons("total", line.total), line.count)
