"""What the journal adds up to: statements, and the invariants of the books."""

from __future__ import annotations

from datetime import datetime

import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp

from aos.broker.node import running_broker
from aos.broker.settings import BrokerSettings
from aos.metrics import CollectorRegistry, exposition
from aos.store.opening import opened
from aos.testing.clock import START, ManualClock
from aos.v1 import broker_pb2 as pb
from tests.broker.conftest import ADDRESS
from tests.databases import ON_SQLITE
from tests.refusals import refused


def at(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def said(statement: pb.Statement) -> dict[str, tuple[int, int]]:
    """Opening and closing balance by pot."""
    return {one.pot: (int(one.opening), int(one.closing)) for one in statement.pots}


@pytest_asyncio.fixture
async def busy(broker, signed):
    """January: 100 in, 30 to a provider. February: a job of 11, and 5 paid out."""
    await broker.deposit(100)
    await broker.transfer(30, ADDRESS)
    broker.clock.advance(hours=24 * 31)
    await broker.reserve(20)
    await broker.settle(signed(price=11))
    await broker.project.Refund(pb.RefundRequest(amount="5"))
    return broker


class TestStatements:
    async def test_opening_and_movements_add_up_to_closing(self, busy):
        """In each pot, whatever the period; and the movements say why."""
        found = await busy.project.GetStatement(pb.GetStatementRequest(month="2026-02"))
        assert said(found) == {"available": (70, 54), "held": (0, 0), f"inference/{ADDRESS}": (30, 30)}
        movements = {(one.reason, one.pot): (one.lines, int(one.credited), int(one.debited)) for one in found.movements}
        assert movements == {
            ("reserve", "available"): (1, 0, 20),
            ("reserve", "held"): (1, 20, 0),
            ("commit", "held"): (1, 0, 11),
            ("release", "held"): (1, 0, 9),
            ("release", "available"): (1, 9, 0),
            ("refund", "available"): (1, 0, 5),
        }
        for pot, (opening, closing) in said(found).items():
            assert opening + sum(into - out for (_, where), (_, into, out) in movements.items() if where == pot) == closing

    async def test_every_month_with_something_in_it_has_one(self, busy):
        """Each opens with what the one before closed with, and is what is told of it alone."""
        busy.clock.advance(hours=24 * 100)
        await busy.deposit(1, request_id="late")
        listed = list((await busy.project.ListStatements(pb.ListStatementsRequest())).statements)
        assert [one.start.ToDatetime().strftime("%Y-%m") for one in listed] == ["2026-01", "2026-02", "2026-05"]
        for statement in listed:
            month = statement.start.ToDatetime().strftime("%Y-%m")
            assert await busy.project.GetStatement(pb.GetStatementRequest(month=month)) == statement
        assert said(listed[2])["available"] == (54, 55)

    async def test_a_period_begins_with_its_start_and_ends_before_its_end(self, busy):
        """A line at the very start counts, one at the very end does not; open ends are the beginning, and now."""
        moment = busy.clock.now()
        both = await busy.project.GetStatement(pb.GetStatementRequest(start=at(START), end=at(moment)))
        assert said(both)["available"] == (0, 70)
        since = await busy.project.GetStatement(pb.GetStatementRequest(start=at(moment)))
        assert said(since)["available"] == (70, 54)
        assert said(await busy.project.GetStatement(pb.GetStatementRequest()))["available"] == (0, 54)

    async def test_operators_have_them_too(self, busy, key):
        """An operator's account says what it earned; the administrator may see it."""
        account = f"accounts/{key.address.lower()}"
        found = await busy.admin.GetStatement(pb.GetStatementRequest(account=account))
        assert [(one.reason, one.pot, one.credited) for one in found.movements] == [("commit", "available", "11")]
        with refused("PERMISSION_DENIED"):
            await busy.project.GetStatement(pb.GetStatementRequest(account=account))

    @pytest.mark.parametrize(
        "month", ["2026", "2026-13", "2026-00", "26-01", "2026-1", "0000-01", "9999-01", "2026-01-01", "x" * 100]
    )
    @ON_SQLITE
    async def test_a_month_that_is_none(self, broker, month):
        """Four digits, a dash, two digits."""
        with refused("INVALID_FIELD", field="month"):
            await broker.project.GetStatement(pb.GetStatementRequest(month=month))

    async def test_a_period_that_is_none(self, broker):
        """An end before the start, a month beside them, and times that are none are refused."""
        for request, field in (
            (pb.GetStatementRequest(start=Timestamp(seconds=2), end=Timestamp(seconds=1)), "end"),
            (pb.GetStatementRequest(month="2026-01", end=Timestamp(seconds=1)), "month"),
            (pb.GetStatementRequest(start=Timestamp(seconds=1 << 60)), "start"),
        ):
            with refused("INVALID_FIELD", field=field):
                await broker.project.GetStatement(request)


class TestInvariants:
    async def test_good_books(self, busy):
        """All hold, and how many lines were looked at is told."""
        found = await busy.admin.CheckInvariants(pb.CheckInvariantsRequest())
        assert (found.hold, len(found.invariants)) == (True, 8)
        assert found.lines == len(await busy.journal())

    @pytest.mark.parametrize(
        ("sql", "broken"),
        [
            ("UPDATE broker_accounts SET available = '55' WHERE name = 'accounts/p'", "sum of its lines"),
            ("UPDATE broker_totals SET held = '1'", "totals are the sums"),
            ("UPDATE broker_totals SET accounts = 9", "totals are the sums"),
            ("UPDATE broker_totals SET paid_out = '1'", "totals are the sums"),
            ("UPDATE broker_sub_accounts SET balance = '29'", "came in is there"),
            ("UPDATE broker_accounts SET held = '1' WHERE name = 'accounts/p'", "what is held"),
            (
                f"INSERT INTO broker_refunds VALUES ('accounts/p', 'inference', '{ADDRESS}', 0, '31', 0, 0)",
                "larger than its sub-account",
            ),
            (
                """INSERT INTO broker_journal (transfer, time, account, pot, amount, reason, cause)
                VALUES ('x', 0, 'accounts/p', 'available', '1', 'deposit', 'x')""",
                "cancel out",
            ),
        ],
    )
    async def test_whoever_writes_past_the_rules_is_found(self, busy, sql, broken):
        """A balance, a refund or a line that nobody accounted for breaks the invariant that it should."""
        await busy.database.transact(lambda tx: tx.execute(sql) and None)
        assert [name for name in await busy.check() if broken in name]

    async def test_what_a_check_found_is_counted(self, database_address):
        """The metric says how many invariants are broken; -1 as long as nobody has looked."""
        metrics, clock = CollectorRegistry(), ManualClock()

        def broken() -> str:
            lines = exposition(metrics).data.decode().splitlines()
            return next(line for line in lines if line.startswith("aos_ledger_invariants_broken "))

        async with opened(database_address) as database, running_broker(database, clock=clock, new_id=lambda: "t", metrics=metrics):
            assert broken() == "aos_ledger_invariants_broken -1.0"
        again, limits = CollectorRegistry(), BrokerSettings(check_seconds=60)
        async with (
            opened(database_address) as database,
            running_broker(database, settings=limits, clock=clock, new_id=lambda: "t", metrics=again),
        ):
            await clock.until_asleep()
            assert b"aos_ledger_invariants_broken 0.0" in exposition(again).data
