"""Broker over gRPC: read the request, check the receipt, let the core decide inside a transaction, reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from aos.broker import accounts
from aos.broker.accounts import Balance, Claim, Deposit, Hold, Movement, State
from aos.broker.requests import check_account, check_amount, check_hold, check_project_account, check_request_id, is_operators
from aos.broker.settings import BrokerSettings
from aos.broker.store import BrokerStore, Decided, Entry
from aos.clock import Clock
from aos.errors import AccountNotFound, BadReceipt, PermissionDenied
from aos.paging import page_length, page_start_number, page_token
from aos.rpc.auth import Kind, caller, own_project
from aos.v1 import broker_pb2 as pb
from aos.v1 import broker_pb2_grpc
from aos.v1.receipt_pb2 import Receipt
from aos.verification.receipts import check_signature, digest

STATES: Final = {
    State.HELD: pb.HOLD_STATE_HELD,
    State.COMMITTED: pb.HOLD_STATE_COMMITTED,
    State.RELEASED: pb.HOLD_STATE_RELEASED,
}
OWN: Final = "accounts/-"


class BrokerServicer(broker_pb2_grpc.BrokerServicer):
    """The Broker service over a store."""

    def __init__(self, store: BrokerStore, *, settings: BrokerSettings, clock: Clock, new_id: Callable[[], str]) -> None:
        self._store, self._settings, self._clock, self._new_id = store, settings, clock, new_id

    async def GetAccount(self, request: pb.GetAccountRequest, context: Any) -> pb.Account:
        """Show what an account has."""
        name = _visible(request.name, "name")
        balance = await self._store.balance(name)
        if balance is None:
            if caller().kind is not Kind.PROJECT:
                raise AccountNotFound(name)
            balance = Balance()  # a project that nothing has happened to yet
        return _account(name, balance)

    async def Deposit(self, request: pb.DepositRequest, context: Any) -> pb.Account:
        """Take money in from outside, once."""
        account = check_account(request.account, "account")
        amount = check_amount(request.amount, "amount", least=1, most=self._settings.largest)
        wanted = Deposit(check_request_id(request.request_id, "request_id"), account, amount)
        by = self._movement()
        return _account(
            account, await self._store.deposit(wanted.request_id, account, lambda before: accounts.deposit(before, wanted, by))
        )

    async def Reserve(self, request: pb.ReserveRequest, context: Any) -> pb.Hold:
        """Set money aside for a job, once."""
        wanted = Hold(
            check_hold(request.hold, "hold"),
            check_project_account(request.account, "account"),
            check_amount(request.amount, "amount", least=0, most=self._settings.largest),
        )
        by = self._movement()
        return _hold(
            await self._store.reserve(
                wanted.name, wanted.account, lambda before, balance: accounts.reserve(before, balance, wanted, by)
            )
        )

    async def Settle(self, request: pb.SettleRequest, context: Any) -> pb.Hold:
        """End a hold, once."""
        name = check_hold(request.hold, "hold")
        # in a thread: recovering a key takes milliseconds
        claim = await asyncio.to_thread(_claim, name, request.receipt) if request.HasField("receipt") else None
        by = self._movement()

        def decide(hold: Hold) -> Decided:
            return accounts.release(hold, by) if claim is None else accounts.commit(hold, claim, by)

        return _hold(await self._store.settle(name, decide))

    async def ListEntries(self, request: pb.ListEntriesRequest, context: Any) -> pb.ListEntriesResponse:
        """Show a page of the journal."""
        account = request.account
        if account or caller().kind is Kind.PROJECT:
            account = _visible(account or OWN, "account")
        length, last = page_length(request.page_size), page_start_number("ListEntries", request.page_token)
        # one more than is shown says whether there is a next page
        found = await self._store.entries(account, after=last, limit=length + 1)
        shown = found[:length]
        following = page_token("ListEntries", str(shown[-1].sequence)) if len(found) > length else ""
        return pb.ListEntriesResponse(entries=[_entry(one) for one in shown], next_page_token=following)

    async def GetTotals(self, request: pb.GetTotalsRequest, context: Any) -> pb.Totals:
        """Add up all that there is."""
        found = await self._store.totals()
        return pb.Totals(
            accounts=found.accounts,
            available=str(found.balance.available),
            held=str(found.balance.held),
            deposited=str(found.deposited),
        )

    def _movement(self) -> Movement:
        return Movement(self._new_id(), self._clock.now())


def _visible(name: str, at: str) -> str:
    """Return the account's full name. Raises PermissionDenied unless the caller may see it."""
    if name == OWN:
        name = accounts.account_of(own_project())
    elif caller().kind is not Kind.PROJECT:
        return check_account(name, at)
    # an id in the form of an address names an operator's account, whoever's project it is
    if check_account(name, at) != accounts.account_of(own_project()) or is_operators(name):
        raise PermissionDenied("the account's own project, or the administrator")
    return name


def _claim(hold: str, receipt: Receipt) -> Claim:
    """Return what the receipt says about money. Raises BadReceipt or BadSignature."""
    job = accounts.job_of(hold)
    if f"jobs/{receipt.job.hex()}" != job:
        raise BadReceipt(job, "job", "is another one")
    operator = check_signature(receipt)
    return Claim(digest(receipt).hex(), f"accounts/{operator.lower()}", int(receipt.price))


def _account(name: str, balance: Balance) -> pb.Account:
    return pb.Account(name=name, available=str(balance.available), held=str(balance.held))


def _hold(hold: Hold) -> pb.Hold:
    return pb.Hold(name=hold.name, account=hold.account, amount=str(hold.amount), state=STATES[hold.state], paid=str(hold.paid))


def _entry(entry: Entry) -> pb.Entry:
    time = Timestamp()
    time.FromDatetime(entry.time)
    line = entry.line
    return pb.Entry(
        sequence=entry.sequence,
        transfer=entry.transfer,
        time=time,
        account=line.account,
        pot=line.pot.value,
        amount=str(line.amount),
        reason=line.reason.value,
        cause=entry.cause,
    )
