from __future__ import annotations

import asyncio

import pytest

from aos.v1 import broker_pb2 as pb
from aos.verification.keys import OperatorKey
from aos.verification.receipts import sign
from tests.broker.conftest import HOLD, running
from tests.databases import ON_SQLITE
from tests.receipts import JOB, a_receipt
from tests.refusals import refused

OTHER_HOLD = f"holds/{'cd' * 32}"


def lines(entries: list[pb.Entry]) -> list[tuple[str, str, int, str]]:
    return [(one.account, one.pot, int(one.amount), one.reason) for one in entries]


class TestTotals:
    async def test_what_was_put_in_is_there(self, broker, signed):
        """All accounts together have what was ever deposited, whatever was held, paid and given back since."""
        await broker.deposit(10**38)
        await broker.deposit(100, account="accounts/q", request_id="r2")
        await broker.reserve(30)
        await broker.reserve(20, account="accounts/q", hold=OTHER_HOLD)
        await broker.settle(signed(price=11))

        found = await broker.admin.GetTotals(pb.GetTotalsRequest())
        assert found == pb.Totals(
            accounts=3, available=str(10**38 + 80), held="20", deposited=str(10**38 + 100), in_sub_accounts="0", paid_out="0"
        )

    async def test_they_are_the_administrators(self, broker):
        """What others have is no project's business."""
        with refused("PERMISSION_DENIED", code="PERMISSION_DENIED"):
            await broker.project.GetTotals(pb.GetTotalsRequest())


class TestDeposit:
    async def test_money_arrives(self, broker):
        """What is deposited can be spent, and the journal says where it came from."""
        account = await broker.deposit(100)

        assert account == pb.Account(name="accounts/p", available="100", held="0")
        assert lines(await broker.journal()) == [
            ("external", "available", -100, "deposit"),
            ("accounts/p", "available", 100, "deposit"),
        ]

    async def test_a_retry_deposits_once(self, broker):
        """The same request_id and contents change nothing, however often."""
        first = await broker.deposit(100)
        await broker.reserve(30)
        again = await asyncio.gather(*(broker.deposit(100) for _ in range(5)))

        assert first.available == "100"
        assert {(one.available, one.held) for one in again} == {("70", "30")}
        assert len([one for one in await broker.journal() if one.reason == "deposit"]) == 2

    @pytest.mark.parametrize("other", [{"amount": 101}, {"amount": 100, "account": "accounts/q"}])
    async def test_a_request_id_cannot_change_its_mind(self, broker, other):
        """The same request_id with another amount or account is refused."""
        await broker.deposit(100)
        with refused("REQUEST_ID_REUSED", code="ALREADY_EXISTS", requestId="r1"):
            await broker.deposit(**other)
        assert await broker.pots() == (100, 0)

    async def test_amounts_outgrow_64_bits(self, broker):
        """Money is counted to the last neuron at any size."""
        await broker.deposit(10**38)
        await broker.deposit(10**38, request_id="r2")
        await broker.reserve(10**38)

        assert await broker.pots() == (10**38, 10**38)

    @pytest.mark.parametrize("amount", ["", "0", "-1", "1.0", "1e3", "٣", "+1", " 1", str(10**38 + 1), "9" * 5000])
    @ON_SQLITE
    async def test_an_amount_that_is_none(self, broker, amount):
        """An amount is decimal digits above 0, up to a named limit."""
        with refused("INVALID_FIELD", code="INVALID_ARGUMENT", field="amount", limit=str(10**38)):
            await broker.admin.Deposit(pb.DepositRequest(account="accounts/p", amount=amount, request_id="r"))

    @pytest.mark.parametrize("account", ["", "p", "accounts/", "accounts/-", "accounts/a b", "accounts/" + "a" * 65, "external"])
    @ON_SQLITE
    async def test_an_account_that_cannot_be(self, broker, account):
        """A malformed account is refused by name; nothing can be deposited to the outside."""
        with refused("INVALID_FIELD", field="account", value=account):
            await broker.deposit(1, account=account)

    @pytest.mark.parametrize("request_id", ["", "a" * 65, "a b", "ü", "a\n"])
    @ON_SQLITE
    async def test_a_request_id_that_cannot_be(self, broker, request_id):
        """Every deposit carries an id, so that every retry is harmless."""
        with refused("INVALID_FIELD", field="request_id"):
            await broker.deposit(1, request_id=request_id)

    async def test_an_operators_account_is_one_in_either_case(self, broker):
        """Mixed-case and lower-case addresses name one account."""
        await broker.deposit(1, account="accounts/0x" + "aB" * 20)
        assert await broker.pots("accounts/0x" + "ab" * 20) == (1, 0)


class TestReserve:
    async def test_money_is_set_aside(self, broker):
        """What is held cannot be spent twice."""
        await broker.deposit(100)
        hold = await broker.reserve(60)

        assert hold == pb.Hold(name=HOLD, account="accounts/p", amount="60", state=pb.HOLD_STATE_HELD, paid="0", pot="available")
        assert await broker.pots() == (40, 60)
        with refused("INSUFFICIENT_BALANCE", code="FAILED_PRECONDITION", project="projects/p", available="40", needed="41"):
            await broker.reserve(41, hold=OTHER_HOLD)
        assert await broker.pots() == (40, 60)

    async def test_a_retry_holds_once(self, broker):
        """The same hold with the same amount is returned as it is."""
        await broker.deposit(100)
        holds = await asyncio.gather(*(broker.reserve(60) for _ in range(5)))

        assert {hold.state for hold in holds} == {pb.HOLD_STATE_HELD}
        assert await broker.pots() == (40, 60)

    async def test_a_retry_after_the_end_shows_the_end(self, broker):
        """Reserving again what has been released moves nothing."""
        await broker.deposit(100)
        await broker.reserve(60)
        released = await broker.settle()

        assert await broker.reserve(60) == released
        assert await broker.pots() == (100, 0)

    @pytest.mark.parametrize("other", [{"amount": 61}, {"amount": 60, "account": "accounts/q"}])
    async def test_a_hold_cannot_change_its_mind(self, broker, other):
        """The same hold with another amount or account is refused."""
        await broker.deposit(100)
        await broker.deposit(100, account="accounts/q", request_id="r2")
        await broker.reserve(60)
        with refused("REQUEST_ID_REUSED", code="ALREADY_EXISTS", requestId=HOLD):
            await broker.reserve(**other)

    async def test_all_of_it_can_be_held(self, broker):
        """The last neuron can be set aside, and not one more."""
        await broker.deposit(100)
        await broker.reserve(100)
        assert await broker.pots() == (0, 100)
        with refused("INSUFFICIENT_BALANCE"):
            await broker.reserve(1, hold=OTHER_HOLD)

    async def test_free_work_holds_nothing(self, broker, signed):
        """A hold of 0 needs no money and leaves no line in the journal."""
        assert (await broker.reserve(0)).state == pb.HOLD_STATE_HELD
        assert (await broker.settle(signed(0))).state == pb.HOLD_STATE_COMMITTED
        assert await broker.pots() == (0, 0)
        assert not await broker.journal()

    async def test_an_unknown_account_has_nothing(self, broker):
        """A project that never had money is told what it lacks."""
        with refused("INSUFFICIENT_BALANCE", project="projects/new", available="0", needed="1"):
            await broker.reserve(1, account="accounts/new")

    async def test_an_operators_earnings_pay_for_no_job(self, broker):
        """Holds bind projects' accounts only."""
        account = "accounts/0x" + "ab" * 20
        await broker.deposit(100, account=account)
        with refused("INVALID_FIELD", field="account", value=account):
            await broker.reserve(1, account=account)

    @pytest.mark.parametrize("hold", ["", "holds/", "holds/1", JOB.hex(), f"jobs/{JOB.hex()}", f"holds/{JOB.hex().upper()}"])
    @ON_SQLITE
    async def test_a_hold_that_cannot_be(self, broker, hold):
        """A hold is named after a job, in one spelling."""
        with refused("INVALID_FIELD", field="hold", value=hold):
            await broker.reserve(1, hold=hold)

    async def test_of_many_at_once_only_those_that_fit(self, broker):
        """Concurrent reservations never set aside more than there is."""
        await broker.deposit(50)
        answers = await asyncio.gather(
            *(broker.reserve(20, hold=f"holds/{index:064x}") for index in range(8)), return_exceptions=True
        )
        assert sum(isinstance(answer, pb.Hold) for answer in answers) == 2
        assert await broker.pots() == (10, 40)


class TestSettle:
    async def test_the_operator_is_paid_and_the_rest_comes_back(self, broker, signed, key):
        """The receipt's price moves to the operator's account, the difference back to the project."""
        await broker.deposit(100)
        await broker.reserve(60)
        hold = await broker.settle(signed(11))

        operator = f"accounts/{key.address.lower()}"
        assert (hold.state, hold.amount, hold.paid) == (pb.HOLD_STATE_COMMITTED, "60", "11")
        assert await broker.pots() == (89, 0)
        assert await broker.pots(operator) == (11, 0)
        assert lines((await broker.journal())[4:]) == [
            ("accounts/p", "held", -11, "commit"),
            (operator, "available", 11, "commit"),
            ("accounts/p", "held", -49, "release"),
            ("accounts/p", "available", 49, "release"),
        ]

    async def test_without_a_receipt_all_comes_back(self, broker):
        """A job that failed costs nothing."""
        await broker.deposit(100)
        await broker.reserve(60)
        hold = await broker.settle()

        assert (hold.state, hold.paid) == (pb.HOLD_STATE_RELEASED, "0")
        assert await broker.pots() == (100, 0)

    async def test_a_retry_pays_once(self, broker, signed, key):
        """The same receipt again, even at the same time, returns the hold as it is."""
        await broker.deposit(100)
        await broker.reserve(60)
        holds = await asyncio.gather(*(broker.settle(signed(11)) for _ in range(5)))

        assert all(hold == holds[0] for hold in holds)
        assert await broker.pots(f"accounts/{key.address.lower()}") == (11, 0)

    async def test_a_release_is_repeatable(self, broker):
        """Releasing again changes nothing."""
        await broker.deposit(100)
        await broker.reserve(60)
        first = await broker.settle()
        assert await broker.settle() == first
        assert await broker.pots() == (100, 0)

    async def test_the_whole_hold_can_be_the_price(self, broker, signed):
        """A price as high as the hold leaves nothing to give back."""
        await broker.deposit(60)
        await broker.reserve(60)
        assert (await broker.settle(signed(60))).paid == "60"
        assert await broker.pots() == (0, 0)

    async def test_a_paid_hold_takes_no_other_receipt(self, broker, signed):
        """A second, different receipt for the job is refused, and so is a release."""
        await broker.deposit(100)
        await broker.reserve(60)
        await broker.settle(signed(11))

        for other in (signed(12), sign(a_receipt(), OperatorKey.create()), None):
            with refused("HOLD_SETTLED", code="FAILED_PRECONDITION", hold=HOLD, state="committed"):
                await broker.settle(other)
        assert await broker.pots() == (89, 0)

    async def test_a_released_hold_pays_nobody(self, broker, signed):
        """A receipt that comes after the release is refused."""
        await broker.deposit(100)
        await broker.reserve(60)
        await broker.settle()
        with refused("HOLD_SETTLED", hold=HOLD, state="released"):
            await broker.settle(signed(11))

    async def test_a_price_above_the_hold_is_refused(self, broker, signed):
        """The hold is the most that a job may cost; it stays as it is."""
        await broker.deposit(100)
        await broker.reserve(60)
        with refused("BAD_RECEIPT", code="INVALID_ARGUMENT", job=f"jobs/{JOB.hex()}", field="price"):
            await broker.settle(signed(61))
        assert await broker.pots() == (40, 60)

    async def test_a_receipt_of_another_job_is_refused(self, broker, signed):
        """A receipt pays for its own job only."""
        await broker.deposit(100)
        await broker.reserve(60)
        with refused("BAD_RECEIPT", field="job"):
            await broker.settle(signed(11, job=b"x" * 32))

    async def test_a_forged_receipt_is_refused(self, broker, signed):
        """A price that was changed after signing is not paid."""
        await broker.deposit(100)
        await broker.reserve(60)
        receipt = signed(11)
        receipt.price = "12"
        with refused("BAD_SIGNATURE", code="UNAUTHENTICATED"):
            await broker.settle(receipt)
        assert await broker.pots() == (40, 60)

    async def test_an_unknown_hold(self, broker, signed):
        """There is nothing to settle where nothing was reserved, with a receipt or without."""
        for receipt in (signed(11), None):
            with refused("HOLD_NOT_FOUND", code="NOT_FOUND", hold=HOLD):
                await broker.settle(receipt)

    async def test_nothing_is_forgotten_in_a_restart(self, database_address, signed):
        """Holds, payments and their finality outlive the process."""
        async with running(database_address) as broker:
            await broker.deposit(100)
            await broker.reserve(60)
        async with running(database_address) as broker:
            assert await broker.pots() == (40, 60)
            await broker.settle(signed(11))
        async with running(database_address) as broker:
            assert (await broker.settle(signed(11))).paid == "11"
            await broker.deposit(100)
            assert await broker.pots() == (89, 0)
