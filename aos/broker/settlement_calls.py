"""The broker's calls about what was settled: batches, proofs, disputes, statements, and whether the books are right."""

from __future__ import annotations

from datetime import UTC
from typing import Any, Final

from aos.broker import settlement
from aos.broker.accounts import Pot, account_of
from aos.broker.calls import Calls, earned_shown, stamp, visible
from aos.broker.invariants import Audit
from aos.broker.ledger import Books
from aos.broker.requests import check_receipt
from aos.broker.settlement import Batch, Earned
from aos.broker.statements import Months, Period, Statement, month
from aos.errors import InvalidField, ReceiptNotPaid, SettlementNotFound
from aos.paging import page_length, page_start_number, page_token
from aos.rpc.auth import Kind, caller, own_project
from aos.v1 import broker_pb2 as pb

READ: Final = 1000
"""Lines of the journal that are read at once, so that nobody else waits long for the store."""
BATCH: Final = 1000
"""Receipts that are settled together, unless told otherwise."""
MOST: Final = 10_000
"""Most receipts that can be."""


class SettlementCalls(Calls):
    """Receipts that were paid, and what the journal adds up to."""

    async def SealSettlement(self, request: pb.SealSettlementRequest, context: Any) -> pb.Settlement:
        """Settle what can no longer be disputed."""
        if not 0 <= request.receipts <= MOST:
            raise InvalidField("receipts", f"must be from 0 to {MOST}", value=request.receipts, limit=MOST)
        batch = await self.seal(request.receipts or BATCH)
        if batch is None:
            raise SettlementNotFound("receipts that are due")
        return _batch_shown(batch)

    async def seal(self, limit: int) -> Batch | None:
        """Settle the oldest receipts that are due, at most so many. None if there are none."""
        by, window = self._movement(), self._settings.window
        return await self._ledgers.seal(
            limit=limit,
            due=lambda one: settlement.due(one, by.time, window),
            decide=lambda receipts, number: settlement.seal(receipts, number, by),
        )

    async def ListSettlements(self, request: pb.ListSettlementsRequest, context: Any) -> pb.ListSettlementsResponse:
        """Show a page of batches."""
        length, last = page_length(request.page_size), page_start_number("ListSettlements", request.page_token)
        found = await self._ledgers.batches(after=last, limit=length + 1)
        shown = found[:length]
        following = page_token("ListSettlements", str(shown[-1].number)) if len(found) > length else ""
        return pb.ListSettlementsResponse(settlements=[_batch_shown(one) for one in shown], next_page_token=following)

    async def GetPaidReceipt(self, request: pb.GetPaidReceiptRequest, context: Any) -> pb.PaidReceipt:
        """Show what a receipt paid, and prove it."""
        said = check_receipt(request.name, "name")
        earned = await self._ledgers.earned(said)
        # a project is not told what others paid
        if earned is None or (caller().kind is Kind.PROJECT and earned.payer != account_of(own_project())):
            raise ReceiptNotPaid(said)
        shown = earned_shown(earned)
        found = await self._ledgers.batch(earned.batch) if earned.batch else None
        if found is not None:
            batch, receipts = found
            leaf = next(at for at, one in enumerate(receipts) if one.receipt == said)
            shown.root, shown.leaf, shown.leaves = batch.root, leaf, len(receipts)
            shown.proof.extend(settlement.prove(receipts, leaf))
        placed = await self._on_chain.proof(said) if self._on_chain else None
        if placed is not None:
            shown.chain.CopyFrom(placed)
        return shown

    async def FreezeReceipt(self, request: pb.FreezeReceiptRequest, context: Any) -> pb.PaidReceipt:
        """Keep an operator from the money of a receipt."""
        now, window = self._clock.now(), self._settings.window

        def decide(earned: Earned, payer: Books) -> settlement.Resolved:
            del payer
            return settlement.freeze(earned, now, window), None

        return earned_shown(await self._ledgers.dispute(check_receipt(request.name, "name"), decide))

    async def ResolveReceipt(self, request: pb.ResolveReceiptRequest, context: Any) -> pb.PaidReceipt:
        """End a dispute."""
        by = self._movement()

        def decide(earned: Earned, payer: Books) -> settlement.Resolved:
            # a sub-account may have been deleted meanwhile
            home = earned.pot if earned.pot in {key.pot for key in payer.subs} else Pot.AVAILABLE
            return settlement.resolve(earned, home, by, upheld=request.upheld)

        return earned_shown(await self._ledgers.dispute(check_receipt(request.name, "name"), decide))

    async def GetStatement(self, request: pb.GetStatementRequest, context: Any) -> pb.Statement:
        """Add up what happened to an account in a time."""
        account = visible(request.account or "accounts/-", "account")
        statement = Statement(_period(request))
        await self._read(account, statement)
        return await self._statement(account, statement)

    async def ListStatements(self, request: pb.ListStatementsRequest, context: Any) -> pb.ListStatementsResponse:
        """Add up what happened to an account, month by month."""
        account = visible(request.account or "accounts/-", "account")
        months = Months()
        await self._read(account, months)
        return pb.ListStatementsResponse(statements=[await self._statement(account, one) for one in months.statements])

    async def _statement(self, account: str, statement: Statement) -> pb.Statement:
        shown, period = _statement_shown(account, statement), statement.period
        if self._on_chain:
            shown.chain_payments.extend(await self._on_chain.payments(account, period.start, period.end))
        return shown

    async def _read(self, account: str, into: Statement | Months) -> None:
        last = 0
        while found := await self._store.entries(account, after=last, limit=READ):
            into.add(found)
            last = found[-1].sequence

    async def CheckInvariants(self, request: pb.CheckInvariantsRequest, context: Any) -> pb.Invariants:
        """Compare the books with the journal."""
        return await self.check()

    async def check(self) -> pb.Invariants:
        """Compare the books with the journal, and count what is broken."""
        audit, now = Audit(), await self._store.standings()
        while audit.sequence < now.sequence:
            found = await self._store.entries("", after=audit.sequence, limit=min(READ, now.sequence - audit.sequence))
            if not found:
                break
            audit.add(found)
        invariants = audit.compare(now)
        broken = sum(bool(one.broken_by) for one in invariants)
        self._metrics.checked(broken=broken, lines=now.sequence)
        return pb.Invariants(
            hold=not broken,
            invariants=[pb.Invariant(name=one.name, holds=not one.broken_by, broken_by=one.broken_by) for one in invariants],
            lines=now.sequence,
        )


def _period(request: pb.GetStatementRequest) -> Period:
    """Return the time that is asked for. Raises InvalidField."""
    given = request.HasField("start") or request.HasField("end")
    if request.month:
        if given:
            raise InvalidField(
                "month", "goes with neither start nor end", value=request.month, limit="a month, or a start and an end"
            )
        return month(request.month, "month")
    try:
        start, end = (
            getattr(request, name).ToDatetime(tzinfo=UTC) if request.HasField(name) else None for name in ("start", "end")
        )
    except (ValueError, OverflowError) as error:
        raise InvalidField("start", f"is no time: {error}", limit="a time") from error
    if start is not None and end is not None and end < start:
        raise InvalidField("end", "must not be before start", value=end.isoformat(), limit=start.isoformat())
    return Period(start, end)


def _statement_shown(account: str, statement: Statement) -> pb.Statement:
    period, opening, closing = statement.period, statement.opening, statement.closing
    return pb.Statement(
        account=account,
        start=None if period.start is None else stamp(period.start),
        end=None if period.end is None else stamp(period.end),
        pots=[pb.PotStatement(pot=pot, opening=str(opening.get(pot, 0)), closing=str(closing[pot])) for pot in sorted(closing)],
        movements=[
            pb.Movement(reason=reason.value, pot=pot, lines=one.lines, credited=str(one.credited), debited=str(one.debited))
            for (reason, pot), one in sorted(statement.movements.items())
        ],
    )


def _batch_shown(batch: Batch) -> pb.Settlement:
    return pb.Settlement(
        name=f"settlements/{batch.number}",
        root=batch.root,
        receipts=batch.receipts,
        amount=str(batch.amount),
        time=stamp(batch.time),
    )
