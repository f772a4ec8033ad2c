"""The customer's ledger against a whole network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest
import pytest_asyncio

from aos.client import connect
from aos.compute import ComputeBroker, create_broker
from aos.errors import (
    AccountNotFound,
    InsufficientBalance,
    InvalidField,
    LedgerExists,
    LedgerNotEmpty,
    LedgerNotFound,
    PermissionDenied,
    SignerChangedRecently,
)
from aos.testing.harness import BALANCE
from aos.v1.types_pb2 import Order

PROVIDER = "0x" + "ab" * 20
OTHER = "0x" + "cd" * 20


@pytest_asyncio.fixture
async def broker(aos) -> AsyncGenerator[ComputeBroker]:
    async with create_broker(aos.address, aos.token, admin_token=aos.admin_token) as made:
        yield made


@pytest_asyncio.fixture
async def poor(aos) -> AsyncGenerator[ComputeBroker]:
    """A broker without the bank, of a project that has nothing yet."""
    from aos.v1.dispatcher_pb2 import CreateProjectRequest

    made = await aos.admin.dispatcher.CreateProject(CreateProjectRequest(project_id="poor"))
    async with create_broker(aos.address, made.token) as opened:
        yield opened


class TestLedger:
    async def test_is_added_once(self, poor):
        """A project adds its own, empty; a second time is refused, and `ensure_ledger` is not."""
        with pytest.raises(LedgerNotFound):
            await poor.ledger.get_ledger()
        made = await poor.ledger.add_ledger(additional_info="me", inference_signer=(1, 2**256 - 1))
        assert (made.user, made.total_balance, made.additional_info) == ("accounts/poor", 0, "me")
        assert made.inference_signer == (1, 2**256 - 1)
        with pytest.raises(LedgerExists):
            await poor.ledger.add_ledger()
        assert await poor.ledger.ensure_ledger() == made

    async def test_is_added_with_a_balance_by_who_has_the_bank(self, aos, broker):
        """After all was paid out, a new ledger begins with what it is given, in one step."""
        assert await broker.ledger.delete_ledger() == BALANCE
        with pytest.raises(LedgerNotFound):
            await broker.ledger.get_ledger()
        made = await broker.ledger.ensure_ledger("0.25")
        assert (made.available_balance, made.total_balance) == (25 * 10**16, 25 * 10**16)

    async def test_money_enters_by_the_bank_alone(self, poor):
        """A project can make no money: the refusal comes before anything is done."""
        for call in (poor.ledger.add_ledger("1"), poor.ledger.deposit_fund("1"), poor.ledger.deposit_fund_for("accounts/poor", 1)):
            with pytest.raises(PermissionDenied, match="administrator"):
                await call
        with pytest.raises(LedgerNotFound):
            await poor.ledger.get_ledger()

    async def test_a_project_cannot_say_that_it_has_money(self, aos):
        """Neither the API's own call lets it."""
        from aos.rpc.status import answered
        from aos.v1.broker_pb2 import AddLedgerRequest

        async with connect(aos.address, aos.token) as client:
            with pytest.raises(PermissionDenied):
                await answered(client.broker.AddLedger(AddLedgerRequest(amount="1", request_id="r")))

    async def test_deposits_and_refunds(self, broker):
        """What is available can be paid out at once, and not one neuron more."""
        assert (await broker.ledger.deposit_fund(5)).available_balance == BALANCE + 5
        assert (await broker.ledger.refund(7)).total_balance == BALANCE - 2
        with pytest.raises(InsufficientBalance) as caught:
            await broker.ledger.refund(BALANCE)
        assert caught.value.facts == {
            "project": "projects/demo",
            "available": str(BALANCE - 2),
            "needed": str(BALANCE),
            "pot": "available",
        }

    async def test_deposits_for_others_make_their_ledger(self, broker, poor):
        """Whoever has the bank can pay in for somebody who has no ledger yet."""
        await broker.ledger.deposit_fund_for("accounts/poor", "1.5")
        assert (await poor.ledger.get_ledger()).available_balance == 15 * 10**17
        assert {one.user for one in await broker.ledger.list_ledgers()} == {"accounts/demo", "accounts/poor"}

    @pytest.mark.parametrize("amount", [0.1, -1, "0.0000000000000000001", "1e3", 10**39])
    async def test_amounts_that_are_none_are_never_sent(self, broker, amount):
        """A float, a negative, fractional or huge amount is refused where it is given."""
        for call in (
            broker.ledger.refund(amount),
            broker.ledger.deposit_fund(amount),
            broker.ledger.transfer_fund(PROVIDER, "inference", amount),
            broker.ledger.ensure_funded(PROVIDER, "inference", amount),
            broker.ledger.add_ledger(amount),
        ):
            with pytest.raises(InvalidField):
                await call
        assert (await broker.ledger.get_ledger()).total_balance == BALANCE

    async def test_jobs_are_paid_from_it(self, aos, broker):
        """What a job cost is gone from the ledger of its project, and nothing is left held."""
        await aos.client.answer(Order(model="scripted", prompt="Hi"))
        async with asyncio.timeout(20):
            while (found := await broker.ledger.get_ledger()).held_balance:
                await asyncio.sleep(0.01)
        assert 0 < found.total_balance < BALANCE
        movements = {one.reason: one for one in (await broker.ledger.statement()).movements if one.pot == "held"}
        assert movements["commit"].debited == BALANCE - found.total_balance


class TestSubAccounts:
    async def test_money_goes_out_and_comes_back_in_two_steps(self, aos, broker):
        """It is asked for, waits for the lock time, and is available again with the next call."""
        sent = await broker.ledger.transfer_fund(PROVIDER, "inference", 100)
        assert (sent.balance, sent.spendable, sent.provider_signer) == (100, 100, "")
        ledger = await broker.ledger.get_ledger()
        assert (ledger.available_balance, ledger.total_balance) == (BALANCE - 100, BALANCE)
        assert (ledger.inference_providers, ledger.fine_tuning_providers) == ((PROVIDER,), ())

        (asked,) = await broker.ledger.retrieve_fund("inference")
        assert (asked.released, asked.requested) == (0, 100)
        aos.clock.advance(hours=23)
        assert await broker.ledger.claimable("inference") == {}
        assert (await broker.ledger.retrieve_fund_from_provider("inference", PROVIDER)).released == 0
        aos.clock.advance(hours=1)
        assert await broker.ledger.claimable("inference") == {PROVIDER: 100}
        assert (await broker.ledger.retrieve_fund_from_provider("inference", PROVIDER)).released == 100
        assert (await broker.ledger.get_ledger()).available_balance == BALANCE
        assert await broker.ledger.get_providers_with_balance("inference") == []

    async def test_what_is_on_its_way_back_is_kept_first(self, broker):
        """A transfer takes from the ledger only what pending refunds do not cover, and shortens the newest first."""
        await broker.ledger.transfer_fund(PROVIDER, "inference", 100)
        await broker.ledger.retrieve_fund("inference")
        kept = await broker.ledger.transfer_fund(PROVIDER, "inference", 60)
        assert (kept.balance, kept.pending_refund, kept.spendable) == (100, 40, 60)
        more = await broker.ledger.transfer_fund(PROVIDER, "inference", 50)
        assert (more.balance, more.pending_refund, more.refunds) == (110, 0, ())
        assert (await broker.ledger.get_ledger()).available_balance == BALANCE - 110

    async def test_one_providers_failure_keeps_nobody_from_theirs(self, broker):
        """An unknown provider is told so, in its own result."""
        await broker.ledger.transfer_fund(PROVIDER, "inference", 100)
        unknown, known = await broker.ledger.retrieve_fund("inference", [OTHER, PROVIDER])
        assert (unknown.refused, known.refused, known.requested) == ("ACCOUNT_NOT_FOUND", "", 100)

    async def test_only_what_is_missing_is_sent(self, broker):
        """`ensure_funded`, however often and at once, sends the target once, and then what was spent or asked back."""
        await asyncio.gather(*(broker.ledger.ensure_funded(PROVIDER, "inference", 100) for _ in range(5)))
        assert (await broker.ledger.get_account(PROVIDER, "inference")).balance == 100
        await broker.ledger.ensure_funded(PROVIDER, "inference", 130)
        assert (await broker.ledger.get_ledger()).available_balance == BALANCE - 130

    async def test_a_ledger_with_money_at_providers_stays(self, broker):
        """Deleting it is refused with what is bound; nothing is lost."""
        await broker.ledger.transfer_fund(PROVIDER, "fine-tuning", 100)
        with pytest.raises(LedgerNotEmpty) as caught:
            await broker.ledger.delete_ledger()
        assert caught.value.facts["bound"] == "100"


class TestProviders:
    async def test_services_are_listed(self, aos, broker):
        """Each operator's offer is a service, with its price as integers; filters keep what fits."""
        (found,) = await broker.inference.list_service()
        assert (found.provider, found.model) == (aos.operators[0].lower(), "scripted")
        assert (found.service_type, found.input_price, found.output_price, found.routable) == ("chatbot", 1, 2, True)
        assert await broker.inference.list_service(model="another") == []
        assert await broker.inference.list_service(verifiability=found.verifiability, routable=True) == [found]

    async def test_a_signer_is_acknowledged_once_there_is_a_sub_account(self, broker):
        """Without one there is nothing to pay from; `ensure_acknowledged` makes it."""
        for services in (broker.inference, broker.fine_tuning):
            with pytest.raises(AccountNotFound):
                await services.acknowledge_provider_signer(PROVIDER)
            found = await services.ensure_acknowledged(PROVIDER)
            assert (found.provider_signer, found.balance) == (PROVIDER, 0)
            assert await services.ensure_acknowledged(PROVIDER) == found == await services.get_account(PROVIDER)

    async def test_a_signer_cannot_be_changed_to_get_out_of_paying(self, aos, broker):
        """The one before is good for the lock time, and until then there is no other change."""
        await broker.inference.ensure_acknowledged(PROVIDER)
        assert (await broker.inference.acknowledge_provider_signer(PROVIDER, OTHER)).provider_signer == OTHER
        with pytest.raises(SignerChangedRecently) as caught:
            await broker.inference.acknowledge_provider_signer(PROVIDER)
        assert caught.value.retry_after == timedelta(days=1).total_seconds()
        aos.clock.advance(hours=24)
        assert (await broker.inference.acknowledge_provider_signer(PROVIDER)).provider_signer == PROVIDER

    async def test_nobodys_address_is_refused(self, broker):
        """Zeros are neither a provider nor a signer."""
        nobody = "0x" + 40 * "0"
        for call in (
            broker.ledger.transfer_fund(nobody, "inference", 1),
            broker.inference.acknowledge_provider_signer(PROVIDER, nobody),
        ):
            with pytest.raises(InvalidField, match="not all 0"):
                await call
