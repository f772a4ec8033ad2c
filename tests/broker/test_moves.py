"""Ledgers over the API: retries, limits, who may do what, and money that jobs hold."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from aos.broker.settings import BrokerSettings
from aos.store.broker_tables import MIGRATIONS
from aos.store.sqlite import sqlite_file
from aos.v1 import broker_pb2 as pb
from aos.verification.keys import OperatorKey
from aos.verification.receipts import sign
from tests.broker.conftest import ADDRESS, HOLD, JOB, running
from tests.databases import ON_SQLITE
from tests.receipts import a_receipt
from tests.refusals import reason_of, refused

OTHER = "0x" + "cd" * 20
LEDGER_CALLS = [
    "AddLedger", "GetLedger", "Refund", "TransferFund", "RetrieveFund", "DeleteLedger", "GetSubAccount", "AcknowledgeSigner",
    "GetStatement", "ListStatements",
]  # fmt: skip


class TestRetries:
    async def test_a_move_with_an_id_is_made_once(self, broker):
        """Refunds, transfers and retrievals that are sent again move nothing, and are answered with what is there."""
        await broker.deposit(100)
        first = await broker.transfer(30, ADDRESS, request_id="t")
        assert await broker.transfer(30, ADDRESS, request_id="t") == first
        refund = pb.RefundRequest(amount="10", request_id="f")
        assert await broker.project.Refund(refund) == await broker.project.Refund(refund)
        ask = pb.RetrieveFundRequest(service="inference", request_id="g")
        asked = await broker.project.RetrieveFund(ask)
        again = await broker.project.RetrieveFund(ask)
        assert (len(asked.results), list(again.results), again.ledger) == (1, [], asked.ledger)
        ledger = await broker.ledger()
        assert (ledger.available_balance, ledger.total_balance) == ("60", "90")

    async def test_an_id_cannot_change_its_mind(self, broker):
        """The same id with another amount, or for another move, is refused; another account's id is its own."""
        await broker.deposit(100)
        await broker.transfer(30, ADDRESS, request_id="t")
        with refused("REQUEST_ID_REUSED", requestId="t"):
            await broker.transfer(31, ADDRESS, request_id="t")
        with refused("REQUEST_ID_REUSED"):
            await broker.project.Refund(pb.RefundRequest(amount="30", request_id="t"))
        await broker.deposit(100, account="accounts/q", request_id="r2")
        await broker.other.Refund(pb.RefundRequest(amount="1", request_id="t"))

    async def test_a_refused_move_leaves_its_id_free(self, broker):
        """What failed for want of money can be sent again, with its id, once the money is there."""
        await broker.deposit(10)
        with refused("INSUFFICIENT_BALANCE", pot="available", available="10", needed="30"):
            await broker.transfer(30, ADDRESS, request_id="t")
        await broker.deposit(20, request_id="r2")
        assert (await broker.transfer(30, ADDRESS, request_id="t")).balance == "30"

    async def test_adding_a_ledger_can_be_retried(self, broker):
        """The same request gives the first result back; another one finds a ledger."""
        request = pb.AddLedgerRequest(account="accounts/p", amount="7", request_id="a")
        made = await broker.admin.AddLedger(request)
        assert await broker.admin.AddLedger(request) == made
        assert made.total_balance == "7"
        with refused("LEDGER_EXISTS", code="ALREADY_EXISTS", account="accounts/p"):
            await broker.admin.AddLedger(pb.AddLedgerRequest(account="accounts/p", amount="7", request_id="b"))

    async def test_a_project_cannot_take_an_id_that_a_deposit_will_want(self, broker):
        """Ids of ledgers and of deposits are apart: nobody can keep the administrator from paying in."""
        await broker.project.AddLedger(pb.AddLedgerRequest(request_id="r1"))
        assert (await broker.deposit(5)).available == "5"


class TestWho:
    @pytest.mark.parametrize("method", LEDGER_CALLS)
    @ON_SQLITE
    async def test_nobody_reaches_anothers_ledger(self, broker, method):
        """Every call about a ledger is the owner's or the administrator's."""
        await broker.deposit(100, account="accounts/q", request_id="q")
        fields = {"account": "accounts/q", "amount": "1", "provider": ADDRESS, "service": "inference", "signer": ADDRESS}
        kind = getattr(pb, f"{method}Request")
        request = kind(**{name: value for name, value in fields.items() if name in kind.DESCRIPTOR.fields_by_name})
        if "providers" in kind.DESCRIPTOR.fields_by_name:
            request.providers.append(ADDRESS)
        with refused("PERMISSION_DENIED"):
            await getattr(broker.project, method)(request)
        with refused("UNAUTHENTICATED"):
            await getattr(broker.nobody, method)(request)
        assert await broker.pots("accounts/q") == (100, 0)

    @pytest.mark.parametrize("method", ["SettleFee", "FreezeReceipt", "ResolveReceipt"])
    @ON_SQLITE
    async def test_receipts_are_the_networks(self, broker, method):
        """Neither a project nor the administrator pays by receipts or decides on them."""
        for caller in (broker.project, broker.admin):
            with refused("PERMISSION_DENIED"):
                await getattr(caller, method)(getattr(pb, f"{method}Request")())

    @pytest.mark.parametrize("method", ["ListLedgers", "CheckInvariants", "SealSettlement"])
    @ON_SQLITE
    async def test_what_concerns_all_is_the_administrators(self, broker, method):
        """A project sees and settles its own only."""
        with refused("PERMISSION_DENIED"):
            await getattr(broker.project, method)(getattr(pb, f"{method}Request")())

    async def test_an_operator_is_paid_out_by_the_administrator(self, broker):
        """What it earned goes out by its account's name, at most what is there; a project in its clothing gets nothing."""
        await broker.deposit(100, account=f"accounts/{ADDRESS}")
        request = pb.RefundRequest(account=f"accounts/{ADDRESS}", amount="60")
        with refused("PERMISSION_DENIED"):
            await broker.disguised.Refund(pb.RefundRequest(amount="60"))
        assert (await broker.admin.Refund(request)).available_balance == "40"
        with refused("INSUFFICIENT_BALANCE", available="40"):
            await broker.admin.Refund(request)
        with refused("INVALID_FIELD", field="account"):
            await broker.admin.TransferFund(
                pb.TransferFundRequest(account=f"accounts/{ADDRESS}", provider=OTHER, service="inference", amount="1")
            )


class TestLimits:
    @pytest_asyncio.fixture
    async def small(self, database_address):
        limits = BrokerSettings(sub_accounts=2, open_refunds=2, providers_per_call=2, info_bytes=4, least_transfer=10)
        async with running(database_address, settings=limits) as made:
            await made.deposit(1000)
            yield made

    async def test_sub_accounts_of_a_service_are_counted(self, small):
        """The refusal names what there are too many of; those that are there go on."""
        for provider in (ADDRESS, OTHER):
            await small.transfer(10, provider)
        with refused("LEDGER_LIMIT", what="inference sub-accounts", limit="2"):
            await small.transfer(10, "0x" + "ef" * 20)
        await small.transfer(1, OTHER)
        await small.transfer(10, "0x" + "ef" * 20, service="fine-tuning")

    async def test_open_refunds_are_counted(self, small):
        """With as many as may be, what is free stays free until one is due; nothing is stuck."""
        await small.transfer(30, ADDRESS)
        ask = pb.RetrieveFundRequest(service="inference")
        for _ in range(2):
            await small.project.RetrieveFund(ask)
            await small.transfer(10, ADDRESS)
        assert (await small.sub(ADDRESS)).pending_refund == "20"
        await small.project.RetrieveFund(ask)
        await small.transfer(5, ADDRESS)
        full = (await small.project.RetrieveFund(ask)).results[0]
        assert (full.refused, full.released, full.requested) == ("LEDGER_LIMIT", "0", "0")
        small.clock.advance(hours=24)
        assert int((await small.project.RetrieveFund(ask)).results[0].released) == 25

    async def test_providers_of_a_call_are_counted(self, small):
        """The limit is on what is named; without names it is all there are."""
        with refused("INVALID_FIELD", field="providers", limit="2"):
            await small.project.RetrieveFund(pb.RetrieveFundRequest(service="inference", providers=[ADDRESS] * 3))

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"additional_info": "12345"}, "additional_info"),
            ({"inference_signer": ["1"]}, "inference_signer"),
            ({"inference_signer": ["1", str(1 << 256)]}, "inference_signer"),
            ({"inference_signer": ["1", "0x1"]}, "inference_signer"),
            ({"request_id": ""}, "request_id"),
            ({"amount": "-1"}, "amount"),
        ],
    )
    @ON_SQLITE
    async def test_a_ledger_that_cannot_be(self, small, fields, field):
        """Each field that cannot be accepted is named."""
        with refused("INVALID_FIELD", field=field):
            await small.other.AddLedger(pb.AddLedgerRequest(**{"request_id": "a", **fields}))

    async def test_minimums_are_settings(self, small):
        """A sub-account is opened with the least there is to be; after that any amount goes."""
        with refused("INVALID_FIELD", field="amount", limit="10"):
            await small.transfer(9, ADDRESS)
        await small.transfer(10, ADDRESS)
        await small.transfer(1, ADDRESS)

    @pytest.mark.parametrize("amount", ["", "-1", "1.0", "1e3", "٣", "+1", " 1", str(10**38 + 1), "9" * 5000])
    @ON_SQLITE
    async def test_an_amount_that_is_none(self, broker, amount):
        """Decimal digits of an integer, up to a named limit; a refund is above 0."""
        await broker.deposit(100)
        for request, call in (
            (pb.TransferFundRequest(provider=ADDRESS, service="inference", amount=amount), broker.project.TransferFund),
            (pb.RefundRequest(amount=amount), broker.project.Refund),
        ):
            with refused("INVALID_FIELD", field="amount", limit=str(10**38)):
                await call(request)
        with refused("INVALID_FIELD", field="amount"):
            await broker.project.Refund(pb.RefundRequest(amount="0"))

    @pytest.mark.parametrize(
        ("provider", "service", "field"),
        [(ADDRESS, "chat", "service"), (ADDRESS, "", "service"), ("0x1", "inference", "provider"), ("", "inference", "provider")],
    )
    @ON_SQLITE
    async def test_a_sub_account_that_cannot_be(self, broker, provider, service, field):
        """A provider is an address, and a service one of two."""
        await broker.deposit(100)
        with refused("INVALID_FIELD", field=field):
            await broker.transfer(1, provider, service=service)


class TestHolds:
    @pytest.fixture
    def key(self) -> OperatorKey:
        return OperatorKey.create()

    async def hold(self, broker, amount: int, provider: str, hold: str = HOLD) -> pb.Hold:
        request = pb.ReserveRequest(hold=hold, account="accounts/p", amount=str(amount), service="inference", provider=provider)
        return await broker.service.Reserve(request)

    async def test_a_sub_account_pays_for_a_job(self, broker, key):
        """The maximum is held from its free part, the price goes to the provider, the rest back to where it came from."""
        provider = key.address.lower()
        await broker.deposit(100)
        await broker.transfer(50, provider)
        await broker.acknowledge(provider)
        held = await self.hold(broker, 40, provider)
        assert held.pot == f"inference/{provider}"
        assert (await broker.sub(provider)).balance == "10"
        await broker.settle(sign(a_receipt(price="15"), key))
        assert (await broker.sub(provider)).balance == "35"
        assert (await broker.pots(f"accounts/{provider}"), await broker.pots()) == ((15, 0), (50, 0))
        assert await broker.check() == []

    async def test_parallel_jobs_share_no_money(self, broker, key):
        """What one holds, and what is on its way back, another cannot have."""
        provider = key.address.lower()
        await broker.deposit(100)
        await broker.transfer(50, provider)
        await self.hold(broker, 30, provider)
        with refused("INSUFFICIENT_BALANCE", pot=f"inference/{provider}", available="20", needed="21"):
            await self.hold(broker, 21, provider, f"holds/{'cd' * 32}")
        await broker.project.RetrieveFund(pb.RetrieveFundRequest(service="inference"))
        with refused("INSUFFICIENT_BALANCE", available="0"):
            await self.hold(broker, 1, provider, f"holds/{'cd' * 32}")
        with refused("LEDGER_NOT_EMPTY", bound="50"):
            await broker.project.DeleteLedger(pb.DeleteLedgerRequest())

    async def test_nothing_is_paid_to_a_signer_that_nobody_acknowledged(self, broker, key):
        """The hold stays, and can be given back."""
        provider = key.address.lower()
        await broker.deposit(100)
        await broker.transfer(50, provider)
        await self.hold(broker, 40, provider)
        receipt = sign(a_receipt(price="15"), key)
        with refused("SIGNER_NOT_ACKNOWLEDGED", provider=provider):
            await broker.settle(receipt)
        await broker.acknowledge(provider, OTHER)
        with refused("SIGNER_NOT_ACKNOWLEDGED"):
            await broker.settle(receipt)
        await broker.settle()
        assert (await broker.sub(provider)).balance == "50"

    async def test_an_unknown_sub_account_holds_nothing(self, broker):
        """There is nothing to hold where nothing was transferred."""
        await broker.deposit(100)
        with refused("ACCOUNT_NOT_FOUND", account=f"accounts/p/inference/{ADDRESS}"):
            await self.hold(broker, 1, ADDRESS)

    async def test_of_a_thousand_at_once_exactly_the_affordable_pass(self, broker):
        """A thousand ask at once for the last units: as many get one as there are, and nobody is told otherwise later."""
        await broker.deposit(100)
        holds = [f"holds/{index:064x}" for index in range(1000)]
        answers = await asyncio.gather(*(reason_of(broker.reserve(1, hold=hold)) for hold in holds))
        assert sorted(set(answers)) == ["", "INSUFFICIENT_BALANCE"]
        assert answers.count("") == 100
        assert await broker.pots() == (0, 100)
        assert await broker.check() == []


class TestOrder:
    async def test_the_newest_refund_goes_first(self, broker, key):
        """A transfer, and a fee that the free part does not cover, shorten refunds from the newest; the oldest is due as it was."""
        provider, ask = key.address.lower(), pb.RetrieveFundRequest(service="inference")
        await broker.deposit(1000)
        await broker.transfer(100, provider)
        await broker.acknowledge(provider)
        await broker.project.RetrieveFund(ask)
        for _ in range(2):
            broker.clock.advance(hours=1)
            await broker.transfer(30, provider)
            await broker.project.RetrieveFund(ask)
        assert [(one.index, one.amount) for one in (await broker.sub(provider)).refunds] == [(0, "70"), (2, "30")]

        await broker.transfer(10, provider)
        assert [(one.index, one.amount) for one in (await broker.sub(provider)).refunds] == [(0, "70"), (2, "20")]
        receipt = sign(a_receipt(price="50"), key)
        await broker.service.SettleFee(
            pb.SettleFeeRequest(account="accounts/p", provider=provider, service="inference", receipt=receipt)
        )
        assert [(one.index, one.amount) for one in (await broker.sub(provider)).refunds] == [(0, "50")]


class TestOldBooks:
    async def test_accounts_from_before_have_ledgers(self, tmp_path):
        """A database of the first version keeps its journal, and each project's account is a ledger."""
        path = str(tmp_path / "aos.db")
        async with sqlite_file(path) as file:
            await file.transact(_old)
        async with running(path) as broker:
            assert (await broker.ledger()).total_balance == "10"
            with refused("INVALID_FIELD", field="account"):
                await broker.admin.GetLedger(pb.GetLedgerRequest(account=f"accounts/{ADDRESS}"))
            await broker.transfer(4, ADDRESS)
            await broker.settle(hold=f"holds/{JOB.hex()}")
            assert await broker.pots() == (6, 0)
            assert await broker.check() == []


def _old(db) -> None:
    MIGRATIONS.apply(db, stop_before="0003_ledgers")
    for account, available, held in (("accounts/p", "7", "3"), (f"accounts/{ADDRESS}", "5", "0")):
        db.execute("INSERT INTO broker_accounts VALUES (?, ?, ?)", [account, available, held])
    lines = [
        ("external", "available", "-15", "deposit"),
        ("accounts/p", "available", "10", "deposit"),
        (f"accounts/{ADDRESS}", "available", "5", "deposit"),
        ("accounts/p", "available", "-3", "reserve"),
        ("accounts/p", "held", "3", "reserve"),
    ]
    for account, pot, amount, reason in lines:
        sql = "INSERT INTO broker_journal (transfer, time, account, pot, amount, reason, cause) VALUES (?, 0, ?, ?, ?, ?, 'c')"
        db.execute(sql, [reason, account, pot, amount, reason])
    db.execute("INSERT INTO broker_holds VALUES (?, 'accounts/p', '3', 'held', '0', '')", [f"holds/{JOB.hex()}"])
