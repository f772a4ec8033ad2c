"""Broker over gRPC: read the request, check the receipt, let the core decide inside a transaction, reply."""

from __future__ import annotations

from typing import Any

from aos.broker import accounts
from aos.broker.accounts import Balance, Deposit
from aos.broker.calls import OWN, account_shown, entry_shown, hold_shown, visible
from aos.broker.chain_calls import ChainCalls
from aos.broker.ledger import Ledger
from aos.broker.ledger_calls import LedgerCalls, open_ledger
from aos.broker.requests import check_account, check_amount, check_request_id
from aos.broker.settlement_calls import SettlementCalls
from aos.broker.store import Deposited
from aos.errors import AccountNotFound
from aos.paging import page_length, page_start_number, page_token
from aos.rpc.auth import Kind, caller
from aos.v1 import broker_pb2 as pb


class BrokerServicer(LedgerCalls, SettlementCalls, ChainCalls):
    """The Broker service over its stores: here accounts, holds and the journal."""

    async def GetAccount(self, request: pb.GetAccountRequest, context: Any) -> pb.Account:
        """Show what an account has."""
        name = visible(request.name, "name")
        balance = await self._store.balance(name)
        if balance is None:
            if caller().kind is not Kind.PROJECT:
                raise AccountNotFound(name)
            balance = Balance()  # a project that nothing has happened to yet
        return account_shown(name, balance)

    async def Deposit(self, request: pb.DepositRequest, context: Any) -> pb.Account:
        """Take money in from outside, once."""
        account = check_account(request.account, "account")
        amount = check_amount(request.amount, "amount", least=1, most=self._settings.largest)
        wanted = Deposit(check_request_id(request.request_id, "request_id"), account, amount)
        by = self._movement()

        def decide(before: Deposit | None, there: Ledger | None) -> Deposited:
            made, transfer = accounts.deposit(before, wanted, by)
            if before is not None:
                return made, None, there
            return made, transfer, open_ledger(account, there, by, must_exist=request.must_exist)

        return account_shown(account, await self._store.deposit(wanted.request_id, account, decide))

    async def Reserve(self, request: pb.ReserveRequest, context: Any) -> pb.Hold:
        """Set money aside for a job, once."""
        asked = self.decisions.reserving(request)
        return hold_shown(await self._store.reserve(asked.hold, asked.account, asked.key, asked.decide))

    async def Settle(self, request: pb.SettleRequest, context: Any) -> pb.Hold:
        """End a hold, once."""
        asked = self.decisions.settling(request.hold, request.receipt if request.HasField("receipt") else None)
        return hold_shown(await self._store.settle(asked.hold, asked.decide))

    async def ListEntries(self, request: pb.ListEntriesRequest, context: Any) -> pb.ListEntriesResponse:
        """Show a page of the journal."""
        account = request.account
        if account or caller().kind is Kind.PROJECT:
            account = visible(account or OWN, "account")
        length, last = page_length(request.page_size), page_start_number("ListEntries", request.page_token)
        # one more than is shown says whether there is a next page
        found = await self._store.entries(account, after=last, limit=length + 1)
        shown = found[:length]
        following = page_token("ListEntries", str(shown[-1].sequence)) if len(found) > length else ""
        return pb.ListEntriesResponse(entries=[entry_shown(one) for one in shown], next_page_token=following)

    async def GetTotals(self, request: pb.GetTotalsRequest, context: Any) -> pb.Totals:
        """Add up all that there is."""
        found = await self._store.totals()
        return pb.Totals(
            accounts=found.accounts,
            available=str(found.balance.available),
            held=str(found.balance.held),
            deposited=str(found.deposited),
            in_sub_accounts=str(found.in_sub_accounts),
            paid_out=str(found.paid_out),
        )
