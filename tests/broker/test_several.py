"""Several brokers over one database: what one has decided, no other decides otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

import pytest
import pytest_asyncio

from aos.broker.node import running_broker
from aos.broker.servicer import BrokerServicer
from aos.broker.settings import BrokerSettings
from aos.errors import AosError, RequestReplayed
from aos.store.broker_chain import SqlChainStore
from aos.store.broker_wallets import SqlWalletStore
from aos.store.opening import opened
from aos.store.sql import Dialect, SqlDatabase, Transaction
from aos.testing.clock import ManualClock
from aos.v1 import broker_pb2 as pb
from aos.verification.keys import OperatorKey
from aos.verification.receipts import sign
from tests.receipts import a_receipt

BROKERS = 2
PROVIDERS = [OperatorKey.create() for _ in range(2)]
WITHIN = 30
"""Seconds that something that must come about gets."""


class Brokers:
    """Two brokers, each over its own connections; on SQLite, of which one process has one, they share that."""

    def __init__(self, databases: list[SqlDatabase], servicers: list[BrokerServicer], clock: ManualClock) -> None:
        self.databases, self.servicers, self.clock = databases, servicers, clock

    async def ask(self, at: int, method: str, **fields: Any) -> Any:
        """What one of them, in turn, answers; the reason if it refuses."""
        try:
            return await getattr(self.servicers[at % BROKERS], method)(getattr(pb, f"{method}Request")(**fields), None)
        except AosError as error:
            return error.reason

    async def holds(self) -> bool:
        """Whether the books are right, as each of them sees it."""
        return all([(await self.ask(at, "CheckInvariants")).hold for at in range(BROKERS)])

    async def deposit(self, amount: int, account: str = "accounts/p") -> None:
        await self.ask(0, "Deposit", account=account, amount=str(amount), request_id=f"d {account}".replace(" ", "-"))


@asynccontextmanager
async def sharing(address: str) -> AsyncGenerator[Brokers]:
    clock, ids = ManualClock(), count(1)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        databases = [await enter(opened(address))]
        several = await databases[0].transact(lambda tx: tx.dialect) is Dialect.POSTGRES
        databases += [await enter(opened(address)) if several else databases[0] for _ in range(1, BROKERS)]
        limits = BrokerSettings(dispute_seconds=60)
        nodes = [
            await enter(running_broker(one, settings=limits, clock=clock, new_id=lambda: f"t{next(ids)}")) for one in databases
        ]
        yield Brokers(databases, [node.servicer for node in nodes], clock)


@pytest_asyncio.fixture
async def brokers(database_address: str) -> AsyncGenerator[Brokers]:
    async with sharing(database_address) as two:
        yield two


def hold(number: int) -> str:
    return f"holds/{number:064x}"


def receipts(prices: list[int], key: OperatorKey = PROVIDERS[0]) -> Iterator[tuple[str, Any]]:
    """The hold and the receipt of each of so many jobs."""
    for number, price in enumerate(prices, 1):
        yield hold(number), sign(a_receipt(job=number.to_bytes(32, "big"), price=str(price)), key)


def deadlocks(tx: Transaction) -> int:
    """How often PostgreSQL had to end a circle since the database was made: it tells once its connections are closed."""
    if tx.dialect is Dialect.SQLITE:
        return 0
    return tx.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()[0]


class TestMoney:
    async def test_of_two_hundred_exactly_the_affordable_pass(self, brokers):
        """Two hundred ask both brokers at once for the last units: as many get one as there are, the others are refused."""
        await brokers.deposit(50)
        asks = [brokers.ask(at, "Reserve", hold=hold(at), account="accounts/p", amount="1") for at in range(200)]
        answers = await asyncio.gather(*asks)
        assert sorted(map(type, answers), key=str).count(pb.Hold) == 50
        assert {one for one in answers if isinstance(one, str)} == {"INSUFFICIENT_BALANCE"}
        found = await brokers.ask(1, "GetAccount", name="accounts/p")
        assert (found.available, found.held) == ("0", "50")
        assert await brokers.holds()

    async def test_fees_from_a_sub_account_stop_at_its_end(self, brokers):
        """Two hundred receipts are paid at once from a sub-account that covers thirty: thirty are."""
        key, provider = PROVIDERS[0], PROVIDERS[0].address.lower()
        where = {"account": "accounts/p", "service": "inference", "provider": provider}
        await brokers.deposit(100)
        await brokers.ask(0, "TransferFund", amount="30", **where)
        await brokers.ask(1, "AcknowledgeSigner", signer=provider, **where)
        signed = [one for _, one in receipts([1] * 200, key)]
        answers = await asyncio.gather(*(brokers.ask(at, "SettleFee", receipt=one, **where) for at, one in enumerate(signed)))
        assert sum(isinstance(one, pb.PaidReceipt) for one in answers) == 30
        assert {one for one in answers if isinstance(one, str)} == {"INSUFFICIENT_BALANCE"}
        assert (await brokers.ask(0, "GetSubAccount", **where)).balance == "0"
        assert await brokers.holds()

    async def test_a_receipt_pays_once(self, brokers):
        """Offered to both brokers as often as may be, for two accounts that could pay it, it is paid by one of them."""
        key, provider = PROVIDERS[0], PROVIDERS[0].address.lower()
        for account in ("accounts/p", "accounts/q"):
            where = {"account": account, "service": "inference", "provider": provider}
            await brokers.deposit(100, account)
            await brokers.ask(0, "TransferFund", amount="50", **where)
            await brokers.ask(0, "AcknowledgeSigner", signer=provider, **where)
        [(_, receipt)] = receipts([7], key)
        asks = [
            brokers.ask(
                at, "SettleFee", receipt=receipt, service="inference", provider=provider, account=f"accounts/{'pq'[at // 2 % 2]}"
            )
            for at in range(40)
        ]
        answers = await asyncio.gather(*asks)
        assert [one for one in answers if isinstance(one, str)] == ["RECEIPT_USED"] * 39
        assert (await brokers.ask(1, "GetAccount", name=f"accounts/{provider}")).held == "7"
        assert await brokers.holds()

    async def test_a_deposit_and_a_hold_are_made_once(self, brokers):
        """The same request at both brokers is one; the same id with other contents is refused by either."""
        accounts = ["accounts/p"] * 20 + ["accounts/q"] * 20
        asks = [brokers.ask(at, "Deposit", account=one, amount="5", request_id="same") for at, one in enumerate(accounts)]
        answers = await asyncio.gather(*asks)
        assert [one for one in answers if isinstance(one, str)] == ["REQUEST_ID_REUSED"] * 20
        for account in ("accounts/p", "accounts/q"):
            await brokers.deposit(100, account)
        asks = [brokers.ask(at, "Reserve", hold=hold(1), account=one, amount="5") for at, one in enumerate(accounts)]
        answers = await asyncio.gather(*asks)
        assert [one for one in answers if isinstance(one, str)] == ["REQUEST_ID_REUSED"] * 20
        assert (await brokers.ask(0, "GetTotals")).deposited == "205"
        assert await brokers.holds()

    async def test_a_hold_ends_once(self, brokers):
        """Of receipts and releases that reach both brokers at once, one ends it, and its repetitions are answered alike."""
        await brokers.deposit(100)
        await brokers.ask(0, "Reserve", hold=hold(1), account="accounts/p", amount="50")
        bids = [next(receipts([price], key))[1] for price in (3, 4) for key in PROVIDERS] + [None]
        answers = await asyncio.gather(*(brokers.ask(at, "Settle", hold=hold(1), receipt=bids[at // 2 % 5]) for at in range(40)))
        assert len({one.SerializeToString() for one in answers if isinstance(one, pb.Hold)}) == 1
        assert {one for one in answers if isinstance(one, str)} == {"HOLD_SETTLED"}
        assert await brokers.holds()

    async def test_money_goes_round_and_nobody_waits_in_a_circle(self, database_address):
        """Transfers, fees, refunds and settlements of the same accounts at both brokers: all end, and the books balance."""
        async with sharing(database_address) as brokers:
            where = [{"service": "inference", "provider": key.address.lower()} for key in PROVIDERS]
            for account in ("accounts/p", "accounts/q"):
                await brokers.deposit(1000, account)
                for one in where:
                    await brokers.ask(0, "TransferFund", account=account, amount="100", **one)
                    await brokers.ask(0, "AcknowledgeSigner", account=account, signer=one["provider"], **one)
            asks: list[Any] = []
            for number in range(60):
                account, key, one = f"accounts/{'pq'[number % 2]}", PROVIDERS[number // 2 % 2], where[number // 2 % 2]
                receipt = sign(a_receipt(job=number.to_bytes(32, "big"), price="2"), key)
                asks += [
                    brokers.ask(number, "Reserve", hold=hold(number), account=account, amount="3"),
                    brokers.ask(number + 1, "SettleFee", receipt=receipt, account=account, **one),
                    brokers.ask(number, "TransferFund", account=account, amount="1", **one),
                    brokers.ask(number + 1, "RetrieveFund", account=account, service="inference"),
                    brokers.ask(number, "Settle", hold=hold(number), receipt=receipt),
                ]
                if number % 10 == 9:
                    asks += [brokers.ask(at, "SealSettlement", receipts=5) for at in range(BROKERS)]
                    brokers.clock.advance(seconds=61)
            async with asyncio.timeout(WITHIN):
                answers = await asyncio.gather(*asks)
            refusals = {one for one in answers if isinstance(one, str)}
            assert refusals <= {"RECEIPT_USED", "HOLD_NOT_FOUND", "SETTLEMENT_NOT_FOUND", "LEDGER_LIMIT"}
            assert await brokers.holds()
        async with opened(database_address) as database:
            assert await database.transact(deadlocks) == 0


class TestSettlements:
    async def test_two_rounds_at_once_make_one_batch(self, brokers):
        """Each receipt is in one batch, and the batches' numbers have no gap."""
        await brokers.deposit(1000)
        for name, receipt in receipts([1] * 12):
            await brokers.ask(0, "Reserve", hold=name, account="accounts/p", amount="2")
            await brokers.ask(1, "Settle", hold=name, receipt=receipt)
        brokers.clock.advance(seconds=61)
        made = await asyncio.gather(*(brokers.ask(at, "SealSettlement") for at in range(6)))
        assert [one.receipts for one in made if not isinstance(one, str)] == [12]
        assert [one for one in made if isinstance(one, str)] == ["SETTLEMENT_NOT_FOUND"] * 5
        listed = (await brokers.ask(1, "ListSettlements")).settlements
        assert [one.name for one in listed] == ["settlements/1"]
        assert await brokers.holds()

    async def test_small_batches_at_once_share_no_receipt(self, brokers):
        """Brokers that settle five at a time take turns."""
        await brokers.deposit(1000)
        for name, receipt in receipts([1] * 12):
            await brokers.ask(0, "Reserve", hold=name, account="accounts/p", amount="2")
            await brokers.ask(0, "Settle", hold=name, receipt=receipt)
        brokers.clock.advance(seconds=61)
        made = await asyncio.gather(*(brokers.ask(at, "SealSettlement", receipts=5) for at in range(6)))
        assert sorted(one.receipts for one in made if not isinstance(one, str)) == [2, 5, 5]
        assert await brokers.holds()

    async def test_one_broker_settles_on_a_chain_at_a_time(self, brokers):
        """The turn is one's until it leaves it, or has not been heard of for as long as it said."""
        await brokers.databases[0].migrate("chain")
        stores = [SqlChainStore(one) for one in brokers.databases]
        assert [await one.turn(f"{at}", 100) for at, one in enumerate(stores)] == [True, False]
        assert await stores[0].turn("0", 100)
        await stores[1].leave("1")
        assert not await stores[1].turn("1", 100)
        await stores[0].leave("0")
        assert await stores[1].turn("1", 0)
        assert await stores[0].turn("0", 100)


class TestNonces:
    async def test_a_nonce_is_good_once_across_brokers(self, brokers):
        """Of two hundred uses at both, one passes."""
        stores = [SqlWalletStore(one) for one in brokers.databases]
        await stores[0].authorize("accounts/p", "0xa", most=1)
        uses = [stores[at % BROKERS].use("accounts/p", "0xa", 7, expiry=100, now=1) for at in range(200)]
        found = await asyncio.gather(*uses, return_exceptions=True)
        assert [one for one in found if not isinstance(one, RequestReplayed)] == [None]

    async def test_wallets_of_an_account_are_counted_across_brokers(self, brokers):
        """Many authorised at once stop at the limit."""
        stores = [SqlWalletStore(one) for one in brokers.databases]
        made = [stores[at % BROKERS].authorize("accounts/p", f"0x{at}", most=5) for at in range(20)]
        found = await asyncio.gather(*made, return_exceptions=True)
        assert sum(not isinstance(one, Exception) for one in found) == 5
        assert len(await stores[0].wallets("accounts/p")) == 5


class TestGuards:
    @pytest.mark.parametrize(
        ("sql", "why"),
        [
            ("TRUNCATE broker_journal", "only added to"),
            ("UPDATE broker_receipts SET price = '9'", "a receipt is settled once"),
            ("INSERT INTO broker_journal VALUES (1, 't', 0, 'external', 'available', '1', 'deposit', 'r')", "only added to"),
        ],
    )
    async def test_history_stays_as_it_was(self, postgres_url, sql, why):
        """On PostgreSQL as well, whoever writes: the journal is not emptied, nor is a settled receipt changed."""
        async with (
            opened(postgres_url) as database,
            running_broker(database, clock=ManualClock(), new_id=lambda: "t") as node,
        ):
            brokers = Brokers([database], [node.servicer] * BROKERS, ManualClock())
            await brokers.deposit(10)
            await brokers.ask(0, "Reserve", hold=hold(1), account="accounts/p", amount="5")
            await brokers.ask(0, "Settle", hold=hold(1), receipt=next(receipts([5]))[1])
            await brokers.ask(0, "SealSettlement")

            def work(tx: Transaction) -> None:
                tx.execute(sql)

            with pytest.raises(Exception, match=why):
                await database.transact(work)
            assert await brokers.holds()

    async def test_nobody_writes_into_the_middle_of_the_journal(self, brokers):
        """Lines that come from both brokers at once are read in order, without a gap, as they come."""
        await brokers.deposit(10**6)
        seen: list[int] = []

        async def read() -> None:
            while len(seen) < 402:
                last = seen[-1] if seen else 0
                page = await brokers.servicers[1]._store.entries("", after=last, limit=1000)
                seen.extend(one.sequence for one in page)

        asks = (brokers.ask(at, "Reserve", hold=hold(at), account="accounts/p", amount="1") for at in range(200))
        async with asyncio.timeout(WITHIN):
            await asyncio.gather(read(), *asks)
        assert seen == list(range(1, 403))
