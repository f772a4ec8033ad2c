"""The customer's ledger: pay in, pay out, give to providers, get back, and see what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Literal

from google.protobuf.timestamp_pb2 import Timestamp

from aos.client import CALL_SECONDS, told
from aos.compute import shapes
from aos.compute.money import Amount, neurons
from aos.compute.shapes import Account, Ledger, Retrieved, Statement
from aos.errors import AccountNotFound, LedgerExists, LedgerNotFound, PermissionDenied
from aos.v1 import broker_pb2 as pb
from aos.v1 import broker_pb2_grpc

ServiceType = Literal["inference", "fine-tuning"]
OWN: Final = "accounts/-"
PAGE: Final = 1000


class LedgerBroker:
    """``broker.ledger``. Amounts are given as ``aos.compute.Amount`` says, and come back as integers, in neurons."""

    def __init__(
        self,
        broker: broker_pb2_grpc.BrokerAsyncStub,
        *,
        bank: broker_pb2_grpc.BrokerAsyncStub | None,
        new_id: Callable[[], str],
    ) -> None:
        self._broker, self._bank, self._new_id = broker, bank, new_id
        self._alone: dict[tuple[str, str], asyncio.Lock] = {}

    async def add_ledger(
        self, balance: Amount = 0, *, additional_info: str = "", inference_signer: tuple[int, int] | None = None
    ) -> Ledger:
        """Return the new ledger with its first deposit. Raises LedgerExists, and PermissionDenied for money without the bank."""
        amount = neurons(balance, "balance")
        request = pb.AddLedgerRequest(
            account=OWN,
            additional_info=additional_info,
            inference_signer=[] if inference_signer is None else [str(one) for one in inference_signer],
            request_id=self._new_id(),
        )
        teller = self._broker
        if amount:
            # a project says whose it is, the bank what is in it: one call does both, or nothing
            teller, request.amount = self._teller(), str(amount)
            with told():
                own = await self._broker.GetAccount(pb.GetAccountRequest(name=OWN), timeout=CALL_SECONDS)
            request.account = own.name
        with told():
            return shapes.ledger(await teller.AddLedger(request, timeout=CALL_SECONDS))

    async def ensure_ledger(self, balance: Amount = 0) -> Ledger:
        """Return the ledger, added with that balance if there was none; one that is there is left as it is."""
        try:
            return await self.get_ledger()
        except LedgerNotFound:
            try:
                return await self.add_ledger(balance)
            except LedgerExists:  # somebody else was faster
                return await self.get_ledger()

    async def get_ledger(self) -> Ledger:
        """Return the ledger with all its sub-accounts. Raises LedgerNotFound."""
        with told():
            return shapes.ledger(await self._broker.GetLedger(pb.GetLedgerRequest(), timeout=CALL_SECONDS))

    async def list_ledgers(self) -> list[Ledger]:
        """Return all ledgers. Raises PermissionDenied without the administrator's token."""
        found: list[Ledger] = []
        request, teller = pb.ListLedgersRequest(page_size=PAGE), self._teller()
        while True:
            with told():
                page = await teller.ListLedgers(request, timeout=CALL_SECONDS)
            found += [shapes.ledger(one) for one in page.ledgers]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def deposit_fund(self, amount: Amount) -> Ledger:
        """Return the ledger with money from outside. Raises LedgerNotFound, and PermissionDenied without the bank."""
        teller, user = self._teller(), (await self.get_ledger()).user
        await self._deposit(teller, user, neurons(amount), must_exist=True)
        return await self.get_ledger()

    async def deposit_fund_for(self, account: str, amount: Amount) -> None:
        """Pay into another's ledger, `accounts/…`, which is added if there is none. Raises PermissionDenied without the bank."""
        await self._deposit(self._teller(), account, neurons(amount), must_exist=False)

    async def refund(self, amount: Amount) -> Ledger:
        """Return the ledger with available money paid out, at once. Raises InsufficientBalance and LedgerNotFound."""
        request = pb.RefundRequest(amount=str(neurons(amount)), request_id=self._new_id())
        with told():
            return shapes.ledger(await self._broker.Refund(request, timeout=CALL_SECONDS))

    async def transfer_fund(self, provider: str, service_type: ServiceType, amount: Amount) -> Account:
        """Return the sub-account with so much more to spend. What is on its way back is kept before anything new is sent.

        Raises LedgerNotFound, InsufficientBalance and LedgerLimit.
        """
        request = pb.TransferFundRequest(
            provider=provider, service=service_type, amount=str(neurons(amount)), request_id=self._new_id()
        )
        with told():
            return shapes.account(await self._broker.TransferFund(request, timeout=CALL_SECONDS))

    async def ensure_funded(self, provider: str, service_type: ServiceType, spendable: Amount) -> Account:
        """Return the sub-account with at least so much to spend; only what is missing is sent. Again: sends nothing."""
        target = neurons(spendable, "spendable")
        # one at a time, or two would both send what is missing once
        async with self._alone.setdefault((provider.lower(), service_type), asyncio.Lock()):
            try:
                there = await self.get_account(provider, service_type)
            except AccountNotFound:
                return await self.transfer_fund(provider, service_type, target)
            missing = target - there.spendable
            return await self.transfer_fund(provider, service_type, missing) if missing > 0 else there

    async def retrieve_fund(self, service_type: ServiceType, providers: Sequence[str] = ()) -> list[Retrieved]:
        """Return what was released, and what is on its way back from now on, of each provider; none named: of all.

        Money comes back in two calls, the second after the lock time: `claimable` says when one is worth it. One provider's
        failure is in its own result. Raises LedgerNotFound.
        """
        request = pb.RetrieveFundRequest(providers=providers, service=service_type, request_id=self._new_id())
        with told():
            answer = await self._broker.RetrieveFund(request, timeout=CALL_SECONDS)
        return [shapes.retrieved(one) for one in answer.results]

    async def retrieve_fund_from_provider(self, service_type: ServiceType, provider: str) -> Retrieved:
        """Return what ``retrieve_fund`` did with this provider."""
        (only,) = await self.retrieve_fund(service_type, [provider])
        return only

    async def claimable(self, service_type: ServiceType) -> dict[str, int]:
        """Return what retrieving would make available now, by provider; those with nothing are left out."""
        found = (await self.get_ledger()).accounts
        return {one.provider: one.claimable for one in found if one.service == service_type and one.claimable}

    async def get_account(self, provider: str, service_type: ServiceType) -> Account:
        """Return a sub-account. Raises AccountNotFound."""
        with told():
            request = pb.GetSubAccountRequest(provider=provider, service=service_type)
            return shapes.account(await self._broker.GetSubAccount(request, timeout=CALL_SECONDS))

    async def get_providers_with_balance(self, service_type: ServiceType) -> list[Account]:
        """Return the sub-accounts with money in them."""
        return [one for one in (await self.get_ledger()).accounts if one.service == service_type and one.balance]

    async def delete_ledger(self) -> int:
        """Delete the ledger and return what was paid out, in neurons.

        Raises LedgerNotEmpty while money is with providers or held for jobs.
        """
        with told():
            return int((await self._broker.DeleteLedger(pb.DeleteLedgerRequest(), timeout=CALL_SECONDS)).paid_out)

    async def statement(self, month: str = "", *, start: datetime | None = None, end: datetime | None = None) -> Statement:
        """Return what happened in a month, `2026-01`, or from ``start`` on and before ``end``; by default, all that ever did."""
        request = pb.GetStatementRequest(month=month)
        for name, time in (("start", start), ("end", end)):
            if time is not None:
                stamp = Timestamp()
                stamp.FromDatetime(time)
                getattr(request, name).CopyFrom(stamp)
        with told():
            return shapes.statement(await self._broker.GetStatement(request, timeout=CALL_SECONDS))

    async def statements(self) -> list[Statement]:
        """Return a statement for each month in which something happened, oldest first."""
        with told():
            found = await self._broker.ListStatements(pb.ListStatementsRequest(), timeout=CALL_SECONDS)
        return [shapes.statement(one) for one in found.statements]

    def _teller(self) -> broker_pb2_grpc.BrokerAsyncStub:
        if self._bank is None:
            raise PermissionDenied("the administrator's token (admin_token): money enters by their word alone")
        return self._bank

    async def _deposit(self, teller: broker_pb2_grpc.BrokerAsyncStub, account: str, amount: int, *, must_exist: bool) -> None:
        request = pb.DepositRequest(account=account, amount=str(amount), request_id=self._new_id(), must_exist=must_exist)
        with told():
            await teller.Deposit(request, timeout=CALL_SECONDS)
