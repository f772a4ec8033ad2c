"""Broker over gRPC: read the request, check the receipt, let the core decide inside a transaction, reply."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aos.broker import accounts
from aos.broker.accounts import Balance, Claim, Deposit, Hold, Movement, Pot, State
from aos.broker.calls import OWN, account_shown, entry_shown, hold_shown, visible
from aos.broker.chain_calls import ChainCalls
from aos.broker.ledger import Ledger, SubAccount, check_signer
from aos.broker.ledger_calls import LedgerCalls, open_ledger
from aos.broker.requests import check_account, check_amount, check_hold, check_key, check_project_account, check_request_id
from aos.broker.settlement import earn, into
from aos.broker.settlement_calls import SettlementCalls
from aos.broker.store import Decided, Deposited, Settled
from aos.errors import AccountNotFound, BadReceipt
from aos.paging import page_length, page_start_number, page_token
from aos.rpc.auth import Kind, caller
from aos.v1 import broker_pb2 as pb
from aos.v1.receipt_pb2 import Receipt
from aos.verification.receipts import check_and_digest


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
        key = check_key(request.service, request.provider) if request.service or request.provider else None
        wanted = Hold(
            check_hold(request.hold, "hold"),
            check_project_account(request.account, "account"),
            check_amount(request.amount, "amount", least=0, most=self._settings.largest),
            pot=Pot.AVAILABLE if key is None else key.pot,
        )
        by = self._movement()

        def decide(before: Hold | None, balance: Balance, sub: SubAccount | None) -> Decided:
            if key is not None and sub is None:
                raise AccountNotFound(f"{wanted.account}/{key.pot}")
            return accounts.reserve(before, balance.available if sub is None else sub.free, wanted, by)

        return hold_shown(await self._store.reserve(wanted.name, wanted.account, key, decide))

    async def Settle(self, request: pb.SettleRequest, context: Any) -> pb.Hold:
        """End a hold, once."""
        name = check_hold(request.hold, "hold")
        claim = _claim(name, request.receipt) if request.HasField("receipt") else None
        by, window = self._movement(), self._settings.window

        def decide(hold: Hold, sub: SubAccount | None) -> Settled:
            if claim is None:
                return *accounts.release(hold, by), None
            paid, body = claim, b""
            if hold.pot != Pot.AVAILABLE:
                paid, body = _providers(hold, sub, claim, by), self._kept(request.receipt)
            after, transfer = accounts.commit(hold, paid, by, into=into(window))
            return after, transfer, earn(paid, hold.account, hold.pot, by.time, window, body=body)

        return hold_shown(await self._store.settle(name, decide))

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


def _claim(hold: str, receipt: Receipt) -> Claim:
    """Return what the receipt says about money. Raises BadReceipt or BadSignature."""
    job = accounts.job_of(hold)
    if f"jobs/{receipt.job.hex()}" != job:
        raise BadReceipt(job, "job", "is another one")
    operator, said = check_and_digest(receipt)
    return Claim(said.hex(), f"accounts/{operator.lower()}", int(receipt.price))


def _providers(hold: Hold, sub: SubAccount | None, claim: Claim, by: Movement) -> Claim:
    """Return the claim of a sub-account's provider, for which its signer speaks. Raises SignerNotAcknowledged."""
    if sub is None:
        raise AccountNotFound(f"{hold.account}/{hold.pot}")
    # the same receipt again is answered as before, whoever is acknowledged by now
    if hold.state is State.HELD:
        check_signer(sub, claim.account.removeprefix("accounts/"), by.time)
    return replace(claim, account=f"accounts/{sub.key.provider}")
