"""The broker's calls about ledgers: read the request, let the rules decide inside a transaction, show what is there then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aos.broker import accounts, ledger
from aos.broker.accounts import Claim, Deposit, Line, Transfer
from aos.broker.calls import Calls, earned_shown, ledger_shown, owner, sub_shown, visible
from aos.broker.ledger import Books, Change, Key, Ledger, SubAccount
from aos.broker.requests import (
    check_address,
    check_amount,
    check_info,
    check_key,
    check_optional_id,
    check_project_account,
    check_request_id,
    check_service,
    check_signing_key,
    is_operators,
)
from aos.broker.settlement import Earned, earn, into
from aos.broker.store import Deposited
from aos.errors import InvalidField, LedgerNotFound, PermissionDenied, ReceiptUsed
from aos.paging import page_length, page_start, page_token
from aos.rpc.auth import Kind, caller
from aos.v1 import broker_pb2 as pb
from aos.v1.receipt_pb2 import Receipt
from aos.verification.receipts import check_and_digest


class LedgerCalls(Calls):
    """Ledgers, sub-accounts, and what moves between them."""

    async def AddLedger(self, request: pb.AddLedgerRequest, context: Any) -> pb.Ledger:
        """Add a ledger to an account that has none."""
        account = owner(request.account, "account")
        amount = check_amount(request.amount or "0", "amount", least=self._settings.least_ledger, most=self._settings.largest)
        if amount and caller().kind is Kind.PROJECT:
            raise PermissionDenied("the administrator: money enters by their word alone")
        info = check_info(request.additional_info, "additional_info", most=self._settings.info_bytes)
        signer, by = check_signing_key(request.inference_signer, "inference_signer"), self._movement()
        wanted = Ledger(account, by.time, info, signer)
        # apart from the ids of deposits, which are the administrator's alone
        deposit = Deposit(f"{account} {check_request_id(request.request_id, 'request_id')}", account, amount)

        def decide(before: Deposit | None, there: Ledger | None) -> Deposited:
            made, _ = accounts.deposit(before, deposit, by)
            if before is not None:
                return made, None, there
            change = ledger.add(Books(account, there), amount, wanted, by)
            return made, change.transfer, change.ledger

        await self._store.deposit(deposit.request_id, account, decide)
        return ledger_shown(await self._ledgers.books(account), self._clock.now())

    async def GetLedger(self, request: pb.GetLedgerRequest, context: Any) -> pb.Ledger:
        """Show a ledger."""
        return ledger_shown(await self._ledgers.books(owner(request.account, "account")), self._clock.now())

    async def ListLedgers(self, request: pb.ListLedgersRequest, context: Any) -> pb.ListLedgersResponse:
        """Show a page of all ledgers."""
        length, last = page_length(request.page_size), page_start("ListLedgers", request.page_token)
        found = await self._ledgers.ledgers(after=last, limit=length + 1)
        shown, now = found[:length], self._clock.now()
        following = page_token("ListLedgers", shown[-1].account) if len(found) > length else ""
        return pb.ListLedgersResponse(ledgers=[ledger_shown(one, now) for one in shown], next_page_token=following)

    async def Refund(self, request: pb.RefundRequest, context: Any) -> pb.Ledger:
        """Pay out what is available."""
        account = visible(request.account or "accounts/-", "account")
        amount = self._amount(request.amount, least=1)
        by, operators = self._movement(), is_operators(account)

        def decide(books: Books) -> Change:
            return ledger.withdraw(books, amount, by) if operators else ledger.refund(books, amount, by)

        books, _ = await self._move(account, request.request_id, f"refund {amount}", decide)
        if operators:
            left = str(books.balance.available)
            return pb.Ledger(
                account=account, available_balance=left, total_balance=str(books.total), held_balance=str(books.balance.held)
            )
        return ledger_shown(books, by.time)

    async def TransferFund(self, request: pb.TransferFundRequest, context: Any) -> pb.SubAccount:
        """Move available money to a sub-account."""
        account, key = owner(request.account, "account"), check_key(request.service, request.provider)
        amount, by, least = self._amount(request.amount, least=0), self._movement(), self._settings.least_transfer

        def decide(books: Books) -> Change:
            if key not in books.subs and amount < least:
                raise InvalidField("amount", f"must be at least {least} to open a sub-account", value=amount, limit=least)
            return ledger.transfer(books, key, amount, by, self._rules)

        books, _ = await self._move(account, request.request_id, f"transfer {amount} {key.pot}", decide)
        return sub_shown(books.sub(key), by.time)

    async def RetrieveFund(self, request: pb.RetrieveFundRequest, context: Any) -> pb.RetrieveFundResponse:
        """Release what is due, and ask for the rest."""
        account, service = owner(request.account, "account"), check_service(request.service, "service")
        most = self._settings.providers_per_call
        if len(request.providers) > most:
            raise InvalidField("providers", f"must be at most {most}", value=len(request.providers), limit=most)
        named = [Key(service, check_address(one, "providers")) for one in request.providers]
        by = self._movement()

        def decide(books: Books) -> Change:
            keys = named or [key for key in books.subs if key.service is service]
            return ledger.retrieve(books, keys, by, self._rules)

        said = " ".join(["retrieve", service.value, *(key.provider for key in named)])
        books, change = await self._move(account, request.request_id, said, decide)
        results = [
            pb.RetrieveResult(
                provider=one.provider,
                released=str(one.released),
                requested=str(one.requested),
                refused="" if one.refused is None else one.refused.reason,
            )
            for one in (() if change is None else change.retrieved)
        ]
        return pb.RetrieveFundResponse(results=results, ledger=ledger_shown(books, by.time))

    async def DeleteLedger(self, request: pb.DeleteLedgerRequest, context: Any) -> pb.DeleteLedgerResponse:
        """Delete an empty ledger, and pay out what is available."""
        account, by = owner(request.account, "account"), self._movement()
        _, change = await self._move(account, "", "delete", lambda books: ledger.delete(books, by))
        moved = None if change is None else change.transfer
        paid = 0 if moved is None else sum(line.amount for line in moved.lines if line.account == accounts.EXTERNAL)
        return pb.DeleteLedgerResponse(paid_out=str(paid))

    async def GetSubAccount(self, request: pb.GetSubAccountRequest, context: Any) -> pb.SubAccount:
        """Show a sub-account."""
        account, key = owner(request.account, "account"), check_key(request.service, request.provider)
        return sub_shown((await self._ledgers.books(account)).sub(key), self._clock.now())

    async def AcknowledgeSigner(self, request: pb.AcknowledgeSignerRequest, context: Any) -> pb.SubAccount:
        """Take a signer for a provider's."""
        account, key = owner(request.account, "account"), check_key(request.service, request.provider)
        signer, now = check_address(request.signer, "signer"), self._clock.now()
        books, _ = await self._move(account, "", "", lambda books: ledger.acknowledge(books, key, signer, now, self._rules))
        return sub_shown(books.sub(key), now)

    async def SettleFee(self, request: pb.SettleFeeRequest, context: Any) -> pb.PaidReceipt:
        """Pay a provider from a sub-account by a receipt."""
        account, key = check_project_account(request.account, "account"), check_key(request.service, request.provider)
        # in a thread: recovering a key takes milliseconds
        said, signer = await asyncio.to_thread(_read, request.receipt)
        claim, by = Claim(said, f"accounts/{key.provider}", int(request.receipt.price)), self._movement()
        return earned_shown(
            await self._ledgers.spend(
                account,
                claim.receipt,
                lambda books, before: self._spent(books, key, before, claim, signer, by, self._kept(request.receipt)),
            )
        )

    def _spent(
        self, books: Books, key: Key, before: Earned | None, claim: Claim, signer: str, by: accounts.Movement, body: bytes
    ) -> tuple[SubAccount, Transfer | None, Earned]:
        if before is not None:
            raise ReceiptUsed(before.receipt, before.standing.value)
        window = self._settings.window
        after = ledger.spend(books.sub(key), signer, claim.price, by.time)
        lines = (
            Line(books.account, key.pot, -claim.price, accounts.Reason.FEE),
            Line(claim.account, into(window), claim.price, accounts.Reason.FEE),
        )
        return (
            after,
            by.transfer(f"receipt {claim.receipt}", *lines),
            earn(claim, books.account, key.pot, by.time, window, body=body),
        )

    def _amount(self, digits: str, *, least: int) -> int:
        return check_amount(digits, "amount", least=least, most=self._settings.largest)

    async def _move(
        self, account: str, request_id: str, contents: str, decide: Callable[[Books], Change]
    ) -> tuple[Books, Change | None]:
        return await self._ledgers.move(account, check_optional_id(request_id, "request_id"), contents, decide)


def open_ledger(account: str, there: Ledger | None, by: accounts.Movement, *, must_exist: bool) -> Ledger | None:
    """Return the ledger that a deposit goes to, a new one if it may; None for an operator's account. Raises LedgerNotFound."""
    if there is not None or is_operators(account):
        return there
    if must_exist:
        raise LedgerNotFound(account)
    return Ledger(account, by.time)


def _read(receipt: Receipt) -> tuple[str, str]:
    """Return the receipt's digest in hex, and its signer. Raises BadReceipt or BadSignature."""
    signer, said = check_and_digest(receipt)
    return said.hex(), signer.lower()
