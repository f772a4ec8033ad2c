"""The ledger contract, typed: a user's deposits and their way to sub-accounts. Amounts are neurons (wei), as integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from web3.contract.async_contract import AsyncContractFunction
from web3.types import TxReceipt

from aos.chain.client import Chain, checked
from aos.chain.transactions import Sender
from aos.errors import ChainRefused, InvalidField

ServiceType = Literal["inference", "fine-tuning"]
SERVICE_TYPES: Final[tuple[ServiceType, ...]] = ("inference", "fine-tuning")
MAX_AMOUNT: Final = (1 << 256) - 1
MAX_PAGE: Final = 20
"""Entries of one page."""
MAX_RETRIEVED: Final = 20
"""Providers of one call of retrieve."""
NO_LEDGER: Final = "ledger: does not exist"


@dataclass(frozen=True, slots=True)
class LedgerState:
    """A ledger, field for field as the contract shows it."""

    user: str
    available_balance: int
    total_balance: int
    """With what is in sub-accounts."""
    inference_signer: tuple[int, int]
    additional_info: str
    inference_providers: tuple[str, ...]
    fine_tuning_providers: tuple[str, ...]


class LedgerContract:
    """What can be read from the ledger, and what its user can do. Each move has a key, which stands for it for ever."""

    def __init__(self, chain: Chain, address: str) -> None:
        self._chain, self._contract = chain, chain.contract("Ledger", address)

    async def get(self, user: str) -> LedgerState | None:
        """Return the user's ledger; None if there is none."""
        try:
            return _state(await self._chain.view(self._contract.functions.getLedger(checked(user))))
        except ChainRefused as error:
            if error.facts["words"] == NO_LEDGER:
                return None
            raise

    async def page(self, offset: int = 0, limit: int = MAX_PAGE) -> tuple[list[LedgerState], int]:
        """Return ledgers from ``offset`` on, at most 20, and how many there are."""
        found, count = await self._chain.view(self._contract.functions.getAllLedgers(offset, limit))
        return [_state(one) for one in found], count

    async def services(self) -> tuple[str, str]:
        """Return where the inference and the fine-tuning contract are."""
        inference, fine_tuning = await self._chain.view(self._contract.functions.services())
        return inference, fine_tuning

    async def add(self, sender: Sender, key: str, amount: int, *, signer: tuple[int, int] = (0, 0), info: str = "") -> TxReceipt:
        """Open the sender's ledger. ``signer`` is a key that may sign requests as well: its address as a number, and 0."""
        return await sender.send(key, self._contract.functions.addLedger(signer, info), value=neurons("amount", amount))

    async def deposit(self, sender: Sender, key: str, amount: int, *, recipient: str = "") -> TxReceipt:
        """Add to the sender's ledger, or to another's: it is theirs then."""
        functions = self._contract.functions
        call: AsyncContractFunction = functions.depositFundFor(checked(recipient)) if recipient else functions.depositFund()
        return await sender.send(key, call, value=neurons("amount", amount))

    async def refund(self, sender: Sender, key: str, amount: int) -> TxReceipt:
        """Take available balance out, at once."""
        return await sender.send(key, self._contract.functions.refund(neurons("amount", amount)))

    async def transfer(self, sender: Sender, key: str, provider: str, service: ServiceType, amount: int) -> TxReceipt:
        """Put money aside for a provider; refunds under way from there are cancelled first."""
        call = self._contract.functions.transferFund(checked(provider), service, neurons("amount", amount))
        return await sender.send(key, call)

    async def retrieve(self, sender: Sender, key: str, providers: Sequence[str], service: ServiceType) -> TxReceipt:
        """Take back what has waited for its lock time, and ask for the rest."""
        if len(providers) > MAX_RETRIEVED:
            raise InvalidField("providers", f"must be at most {MAX_RETRIEVED}", value=len(providers), limit=MAX_RETRIEVED)
        return await sender.send(key, self._contract.functions.retrieveFund([checked(one) for one in providers], service))

    async def delete(self, sender: Sender, key: str) -> TxReceipt:
        """Close the sender's ledger; what is in it is paid out."""
        return await sender.send(key, self._contract.functions.deleteLedger())


def neurons(field: str, amount: int) -> int:
    """Return the amount. Raises InvalidField unless it is an integer from 0 to 2^256 - 1: a float is never money."""
    if type(amount) is not int or not 0 <= amount <= MAX_AMOUNT:
        raise InvalidField(field, "must be an integer from 0 to 2^256 - 1, in neurons", value=amount, limit=MAX_AMOUNT)
    return amount


def _state(shown: Any) -> LedgerState:
    user, available, total, signer, info, inference, fine_tuning = shown
    return LedgerState(user, available, total, (signer[0], signer[1]), info, tuple(inference), tuple(fine_tuning))
