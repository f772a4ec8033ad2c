"""The moves that a ledger knows, played on the embedded one through its real store; the contracts are played by the same names."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Any, Final

from aos.broker.node import running_broker
from aos.broker.settings import BrokerSettings
from aos.errors import AosError
from aos.store.sqlite import sqlite_file
from aos.testing.clock import START, ManualClock
from aos.v1 import broker_pb2 as pb
from aos.v1.receipt_pb2 import Receipt
from aos.verification.keys import OperatorKey
from aos.verification.receipts import sign
from tests.receipts import a_receipt

NAMES: Final = {"SIGNER_NOT_ACKNOWLEDGED": "NOT_ACKNOWLEDGED", "LEDGER_LIMIT": "TOO_MANY_ACCOUNTS"}
"""Refusals that the moves have shorter names for."""
FIELDS: Final = {"amount": "ZERO_AMOUNT", "provider": "ZERO_ADDRESS", "signer": "ZERO_ADDRESS"}
SERVICES: Final = ("inference", "fine-tuning")


@dataclass(frozen=True)
class Sub:
    """A sub-account, as both sides show it. Refunds are amounts, and seconds from the start to when they are due."""

    balance: int
    pending: int
    refunds: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class View:
    """A user's ledger, as both sides show it; None for one that is not there."""

    available: int
    total: int
    subs: dict[tuple[str, str], Sub]


@cache
def fee(job: bytes, price: int, signer: OperatorKey) -> Receipt:
    return sign(a_receipt(job=job, price=str(price)), signer)


class EmbeddedLedger:
    """Every move returns why it is refused, or nothing. Users are numbers, providers and signers keys."""

    def __init__(self, settings: BrokerSettings) -> None:
        self.clock, self.stack, self._settings, self._ids = ManualClock(), AsyncExitStack(), settings, count(1)

    async def start(self) -> None:
        file = await self.stack.enter_async_context(sqlite_file(":memory:"))
        made = running_broker(file, settings=self._settings, clock=self.clock, new_id=lambda: f"t{next(self._ids)}")
        self.broker = (await self.stack.enter_async_context(made)).servicer

    async def stop(self) -> None:
        await self.stack.aclose()

    async def _ask(self, method: str, request: Any) -> str:
        try:
            await getattr(self.broker, method)(request, None)
        except AosError as error:
            if error.reason == "INVALID_FIELD":
                return FIELDS[error.facts["field"]]
            return NAMES.get(error.reason, error.reason)
        return ""

    async def add_ledger(self, user: int, amount: int) -> str:
        request = pb.AddLedgerRequest(account=account(user), amount=str(amount), request_id=self._id())
        return await self._ask("AddLedger", request)

    async def deposit(self, user: int, amount: int) -> str:
        request = pb.DepositRequest(account=account(user), amount=str(amount), request_id=self._id(), must_exist=True)
        return await self._ask("Deposit", request)

    async def refund(self, user: int, amount: int) -> str:
        return await self._ask("Refund", pb.RefundRequest(account=account(user), amount=str(amount)))

    async def transfer(self, user: int, provider: str, service: str, amount: int) -> str:
        request = pb.TransferFundRequest(account=account(user), provider=provider, service=service, amount=str(amount))
        return await self._ask("TransferFund", request)

    async def retrieve(self, user: int, providers: list[str], service: str) -> str:
        request = pb.RetrieveFundRequest(account=account(user), providers=providers, service=service)
        return await self._ask("RetrieveFund", request)

    async def acknowledge(self, user: int, provider: str, service: str, signer: str) -> str:
        request = pb.AcknowledgeSignerRequest(account=account(user), provider=provider, service=service, signer=signer)
        return await self._ask("AcknowledgeSigner", request)

    async def settle(self, user: int, provider: str, service: str, amount: int, key: bytes, signer: OperatorKey) -> str:
        receipt = fee(key, amount, signer)
        request = pb.SettleFeeRequest(account=account(user), provider=provider, service=service, receipt=receipt)
        return await self._ask("SettleFee", request)

    async def delete(self, user: int) -> str:
        return await self._ask("DeleteLedger", pb.DeleteLedgerRequest(account=account(user)))

    async def advance(self, seconds: int) -> str:
        self.clock.advance(seconds=seconds)
        return ""

    async def view(self, user: int) -> View | None:
        try:
            ledger = await self.broker.GetLedger(pb.GetLedgerRequest(account=account(user)), None)
        except AosError:
            return None
        subs = {
            (one.service, one.provider): Sub(
                int(one.balance),
                int(one.pending_refund),
                tuple((int(refund.amount), seconds(refund.release)) for refund in one.refunds),
            )
            for one in ledger.sub_accounts
        }
        return View(int(ledger.available_balance), int(ledger.total_balance), subs)

    async def earned(self, provider: str) -> int:
        """What a provider has been paid, whether it may withdraw it yet or not."""
        try:
            found = await self.broker.GetAccount(pb.GetAccountRequest(name=f"accounts/{provider.lower()}"), None)
        except AosError:
            return 0
        return int(found.available) + int(found.held)

    async def broken(self) -> list[str]:
        """The invariants that do not hold."""
        found = await self.broker.CheckInvariants(pb.CheckInvariantsRequest(), None)
        return [f"{one.name}: {list(one.broken_by)}" for one in found.invariants if not one.holds]

    def _id(self) -> str:
        return f"r{next(self._ids)}"


def account(user: int) -> str:
    return f"accounts/u{user}"


def seconds(time: Any) -> int:
    return int((time.ToDatetime(tzinfo=START.tzinfo) - START) / timedelta(seconds=1))
