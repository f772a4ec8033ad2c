"""Receipts that were paid: disputes, batches and their proofs."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from aos.broker.settings import BrokerSettings
from aos.v1 import broker_pb2 as pb
from aos.verification import sums
from aos.verification.keys import OperatorKey
from aos.verification.receipts import digest, sign
from aos.verification.sums import SumNode
from tests.broker.conftest import running
from tests.databases import ON_SQLITE
from tests.receipts import a_receipt
from tests.refusals import refused

WINDOW = 60.0
OPEN, FROZEN, OVERTURNED, PAID = (
    pb.RECEIPT_STANDING_OPEN,
    pb.RECEIPT_STANDING_FROZEN,
    pb.RECEIPT_STANDING_OVERTURNED,
    pb.RECEIPT_STANDING_PAID,
)


@pytest_asyncio.fixture
async def slow(database_address):
    """A broker whose receipts can be disputed for a minute."""
    async with running(database_address, settings=BrokerSettings(dispute_seconds=WINDOW)) as made:
        await made.deposit(1000)
        yield made


async def pay(broker, key: OperatorKey, number: int, price: int) -> str:
    """Run a job to its end; return its receipt's name."""
    job = number.to_bytes(32, "big")
    receipt = sign(a_receipt(job=job, price=str(price)), key)
    await broker.reserve(100, hold=f"holds/{job.hex()}")
    await broker.settle(receipt, hold=f"holds/{job.hex()}")
    return f"receipts/{digest(receipt).hex()}"


async def paid(broker, name: str) -> pb.PaidReceipt:
    return await broker.project.GetPaidReceipt(pb.GetPaidReceiptRequest(name=name))


def leads_to_root(receipt: pb.PaidReceipt) -> bool:
    """Whether the receipt's proof, read as the reference says, leads to its batch's root."""
    leaf = sums.leaf(bytes.fromhex(receipt.name.removeprefix("receipts/")), int(receipt.price))
    siblings = [SumNode(one[:32], int.from_bytes(one[32:], "big")) for one in receipt.proof]
    found = sums.fold(leaf, receipt.leaf, receipt.leaves, siblings)
    return found is not None and found.digest == receipt.root


class TestBatches:
    @pytest.mark.parametrize("count", [1, 2, 3, 7, 8])
    async def test_any_receipt_can_be_proved(self, broker, key, count):
        """A batch's root stands for all of its receipts: each leads to it, and none with another price."""
        await broker.deposit(1000)
        names = [await pay(broker, key, number, number) for number in range(1, count + 1)]
        batch = await broker.admin.SealSettlement(pb.SealSettlementRequest())
        assert (batch.name, batch.receipts, int(batch.amount)) == ("settlements/1", count, sum(range(1, count + 1)))
        for name in names:
            found = await paid(broker, name)
            assert (found.standing, found.settlement, found.root) == (PAID, "settlements/1", batch.root)
            assert leads_to_root(found)
            found.price = str(int(found.price) + 1)
            assert not leads_to_root(found)

    async def test_a_receipt_is_in_one_batch(self, broker, key):
        """The next batch has what came since; with nothing new there is none."""
        await broker.deposit(1000)
        first = [await pay(broker, key, number, 5) for number in (1, 2, 3)]
        await broker.admin.SealSettlement(pb.SealSettlementRequest(receipts=2))
        second = await pay(broker, key, 4, 5)
        assert (await paid(broker, second)).settlement == ""
        batch = await broker.admin.SealSettlement(pb.SealSettlementRequest())
        assert [(await paid(broker, name)).settlement for name in (*first, second)] == [
            *("settlements/1", "settlements/1"),
            *("settlements/2", "settlements/2"),
        ]
        with refused("SETTLEMENT_NOT_FOUND", code="NOT_FOUND"):
            await broker.admin.SealSettlement(pb.SealSettlementRequest())
        listed = await broker.project.ListSettlements(pb.ListSettlementsRequest(page_size=1))
        following = pb.ListSettlementsRequest(page_token=listed.next_page_token)
        assert list((await broker.project.ListSettlements(following)).settlements) == [batch]

    async def test_what_others_paid_is_nobodys_business(self, broker, key):
        """A project is told of its own receipts only."""
        await broker.deposit(1000)
        name = await pay(broker, key, 1, 5)
        with refused("RECEIPT_NOT_PAID"):
            await broker.other.GetPaidReceipt(pb.GetPaidReceiptRequest(name=name))
        with refused("INVALID_FIELD", field="name"):
            await broker.project.GetPaidReceipt(pb.GetPaidReceiptRequest(name="receipts/1"))

    @pytest.mark.parametrize("receipts", [-1, 10_001])
    @ON_SQLITE
    async def test_a_batch_that_cannot_be(self, broker, receipts):
        """The refusal names the limit."""
        with refused("INVALID_FIELD", field="receipts", limit="10000"):
            await broker.admin.SealSettlement(pb.SealSettlementRequest(receipts=receipts))


class TestDisputes:
    async def test_what_is_earned_waits(self, slow, key):
        """The operator has the money once nobody has disputed it in time, and it was settled."""
        operator = f"accounts/{key.address.lower()}"
        name = await pay(slow, key, 1, 30)
        assert await slow.pots(operator) == (0, 30)
        with refused("INSUFFICIENT_BALANCE"):
            await slow.admin.Refund(pb.RefundRequest(account=operator, amount="1"))
        with refused("SETTLEMENT_NOT_FOUND"):
            await slow.admin.SealSettlement(pb.SealSettlementRequest())
        assert (await paid(slow, name)).standing == OPEN
        assert await slow.check() == []
        slow.clock.advance(seconds=WINDOW)
        await slow.admin.SealSettlement(pb.SealSettlementRequest())
        assert await slow.pots(operator) == (30, 0)
        assert await slow.check() == []

    async def test_exactly_one_receipt_is_frozen(self, slow, key):
        """All others of the same operator and payer are settled without it."""
        operator = f"accounts/{key.address.lower()}"
        names = [await pay(slow, key, number, 10 * number) for number in (1, 2, 3)]
        assert (await slow.service.FreezeReceipt(pb.FreezeReceiptRequest(name=names[1]))).standing == FROZEN
        slow.clock.advance(seconds=WINDOW)
        assert (await slow.admin.SealSettlement(pb.SealSettlementRequest())).receipts == 2
        assert await slow.pots(operator) == (40, 20)
        assert await slow.check() == []

    @pytest.mark.parametrize(
        ("upheld", "standing", "earned", "left"), [(True, PAID, (20, 0), 980), (False, OVERTURNED, (0, 0), 1000)]
    )
    async def test_a_dispute_ends(self, slow, key, upheld, standing, earned, left):
        """The money is settled with the next batch, or goes back to who paid it; the same word again changes nothing."""
        name = await pay(slow, key, 1, 20)
        await slow.service.FreezeReceipt(pb.FreezeReceiptRequest(name=name))
        slow.clock.advance(seconds=WINDOW)
        end = pb.ResolveReceiptRequest(name=name, upheld=upheld)
        first, *others = await asyncio.gather(*(slow.service.ResolveReceipt(end) for _ in range(3)))
        assert others == [first, first]
        if upheld:
            await slow.admin.SealSettlement(pb.SealSettlementRequest())
        assert (await paid(slow, name)).standing == standing
        assert (await slow.pots(f"accounts/{key.address.lower()}"), (await slow.pots())[0]) == (earned, left)
        assert await slow.check() == []
        with refused("RECEIPT_USED"):
            await slow.service.ResolveReceipt(pb.ResolveReceiptRequest(name=name, upheld=not upheld))

    async def test_it_can_be_too_late(self, slow, key):
        """After the time what was earned is the operator's."""
        name = await pay(slow, key, 1, 20)
        slow.clock.advance(seconds=WINDOW)
        with refused("RECEIPT_USED", code="FAILED_PRECONDITION", receipt=name.removeprefix("receipts/")):
            await slow.service.FreezeReceipt(pb.FreezeReceiptRequest(name=name))

    async def test_there_may_be_no_time(self, broker, key):
        """Where nothing can be disputed, what was earned is the operator's at once; what was not earned is nobody's."""
        await broker.deposit(1000)
        other = await pay(broker, key, 1, 20)
        with refused("RECEIPT_USED", state="paid"):
            await broker.service.FreezeReceipt(pb.FreezeReceiptRequest(name=other))
        with refused("RECEIPT_NOT_PAID"):
            await broker.service.FreezeReceipt(pb.FreezeReceiptRequest(name=f"receipts/{'ab' * 32}"))

    async def test_a_fee_goes_back_to_its_sub_account(self, slow, key):
        """What was paid from a sub-account returns there, by way of a hold or without one."""
        provider = key.address.lower()
        await slow.transfer(100, provider)
        await slow.acknowledge(provider)
        receipt = sign(a_receipt(job=b"f" * 32, price="40"), key)
        fee = pb.SettleFeeRequest(account="accounts/p", provider=provider, service="inference", receipt=receipt)
        made = await slow.service.SettleFee(fee)
        assert (made.pot, (await slow.sub(provider)).balance) == (f"inference/{provider}", "60")
        with refused("RECEIPT_USED", state="open"):
            await slow.service.SettleFee(fee)
        await slow.service.FreezeReceipt(pb.FreezeReceiptRequest(name=made.name))
        await slow.service.ResolveReceipt(pb.ResolveReceiptRequest(name=made.name))
        assert (await slow.sub(provider)).balance == "100"

    async def test_a_fee_and_a_hold_are_not_paid_by_the_same_receipt(self, broker, key):
        """A receipt pays once, whichever way it is handed in first."""
        provider = key.address.lower()
        await broker.deposit(1000)
        await broker.transfer(100, provider)
        await broker.acknowledge(provider)
        for first in ("hold", "fee"):
            job = first.encode().ljust(32)
            receipt = sign(a_receipt(job=job, price="40"), key)
            await broker.reserve(50, hold=f"holds/{job.hex()}")
            fee = pb.SettleFeeRequest(account="accounts/p", provider=provider, service="inference", receipt=receipt)
            settle = pb.SettleRequest(hold=f"holds/{job.hex()}", receipt=receipt)
            calls = [lambda s=settle: broker.service.Settle(s), lambda f=fee: broker.service.SettleFee(f)]
            one, other = calls if first == "hold" else calls[::-1]
            await one()
            with refused("RECEIPT_USED"):
                await other()

    async def test_a_deleted_ledger_still_gets_its_money_back(self, slow, key):
        """With its sub-account gone, what is overturned becomes available to the account."""
        provider = key.address.lower()
        await slow.transfer(40, provider)
        await slow.acknowledge(provider)
        receipt = sign(a_receipt(price="40"), key)
        fee = pb.SettleFeeRequest(account="accounts/p", provider=provider, service="inference", receipt=receipt)
        made = await slow.service.SettleFee(fee)
        await slow.service.FreezeReceipt(pb.FreezeReceiptRequest(name=made.name))
        assert (await slow.project.DeleteLedger(pb.DeleteLedgerRequest())).paid_out == "960"
        await slow.service.ResolveReceipt(pb.ResolveReceiptRequest(name=made.name))
        assert await slow.pots() == (40, 0)
        assert await slow.check() == []
        assert (await slow.project.AddLedger(pb.AddLedgerRequest(request_id="again"))).total_balance == "40"


class TestByItself:
    async def test_it_settles_as_often_as_it_is_told(self, database_address, key):
        """With a time between settlements nobody has to ask for one."""
        limits = BrokerSettings(dispute_seconds=WINDOW, settle_seconds=WINDOW)
        async with running(database_address, settings=limits) as broker:
            await broker.deposit(1000)
            await broker.clock.until_asleep()
            await pay(broker, key, 1, 20)
            broker.clock.advance(seconds=WINDOW)
            async with asyncio.timeout(10):
                while await broker.pots(f"accounts/{key.address.lower()}") != (20, 0):
                    await asyncio.sleep(0.01)
