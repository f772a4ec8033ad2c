"""Jobs that one provider is to answer, paid from the sub-account with it: the API's own form of a signed request."""

from __future__ import annotations

import pytest

from aos.client import told
from aos.errors import AccountNotFound, FeeTooLow, InsufficientBalance, InvalidField, OtherProvider, RequestIdReused
from aos.testing.harness import MODEL, running_aos
from aos.testing.scripted import ScriptedModel
from aos.v1.broker_pb2 import AcknowledgeSignerRequest, GetAccountRequest, GetSubAccountRequest, TransferFundRequest
from aos.v1.dispatcher_pb2 import CreateJobRequest, ProviderPayment
from aos.v1.types_pb2 import Order, Sampling

FUNDS = 10**6


def an_order(provider: str, *, max_fee: str = str(FUNDS), request_id: str = "") -> CreateJobRequest:
    order = Order(model=MODEL, prompt="Hi.", sampling=Sampling(max_tokens=4))
    return CreateJobRequest(order=order, request_id=request_id, payment=ProviderPayment(provider=provider, max_fee=max_fee))


async def fund(aos, provider: str, amount: int = FUNDS) -> None:
    await aos.broker.TransferFund(TransferFundRequest(provider=provider, service="inference", amount=str(amount)))
    await aos.broker.AcknowledgeSigner(AcknowledgeSignerRequest(provider=provider, service="inference", signer=provider))


class TestProvider:
    async def test_nobody_else_gets_the_job(self):
        """Of several operators that could, only the one that is to be paid does, whichever it is."""
        async with running_aos(ScriptedModel(), ScriptedModel()) as aos:
            for provider in aos.operators:
                await fund(aos, provider)
                for _ in range(3):
                    job = await aos.dispatcher.CreateJob(an_order(provider))
                    await aos.client.outcome(job)
                    done = await aos.client.submit(Order(model=MODEL, prompt="Another."))
                    assert done.provider == ""
                    assert (job.provider, (await aos.client.outcome(job)).receipt.operator.hex()) == (
                        provider.lower(),
                        provider[2:].lower(),
                    )

    async def test_the_hold_is_the_sub_accounts(self, aos):
        """What is available stays so while the job runs, and the rest of the hold goes back where it came from."""
        (provider,) = aos.operators
        await fund(aos, provider)
        free = await aos.broker.GetAccount(GetAccountRequest(name="accounts/-"))
        hold = aos.model.hold()
        job = await aos.dispatcher.CreateJob(an_order(provider))
        await hold.reached()
        during = await aos.broker.GetAccount(GetAccountRequest(name="accounts/-"))
        assert (during.available, int(during.held) > 0) == (free.available, True)
        hold.release()
        price = int((await aos.client.outcome(job)).receipt.price)
        while (await aos.broker.GetAccount(GetAccountRequest(name="accounts/-"))).held != "0":
            pass
        sub = await aos.broker.GetSubAccount(GetSubAccountRequest(provider=provider, service="inference"))
        assert int(sub.balance) == FUNDS - price

    async def test_a_retry_is_the_same_job(self, aos):
        """The payment is part of what was asked."""
        (provider,) = aos.operators
        await fund(aos, provider)
        first = await aos.dispatcher.CreateJob(an_order(provider, request_id="r"))
        assert (await aos.dispatcher.CreateJob(an_order(provider, request_id="r"))).name == first.name
        with pytest.raises(RequestIdReused), told():
            await aos.dispatcher.CreateJob(an_order(provider, request_id="r", max_fee="999999"))


class TestRefusals:
    async def test_what_cannot_be_paid(self, aos):
        """No sub-account, too little in it, too low a fee, a provider that is not there, and what is none."""
        (provider,) = aos.operators
        with pytest.raises(AccountNotFound), told():
            await aos.dispatcher.CreateJob(an_order(provider))
        await fund(aos, provider, 1)
        with pytest.raises(InsufficientBalance), told():
            await aos.dispatcher.CreateJob(an_order(provider))
        with pytest.raises(FeeTooLow), told():
            await aos.dispatcher.CreateJob(an_order(provider, max_fee="1"))
        with pytest.raises(OtherProvider), told():
            await aos.dispatcher.CreateJob(an_order("0x" + 40 * "a"))
        for bad in (
            an_order("x"),
            an_order(provider, max_fee=""),
            an_order(provider, max_fee="-1"),
            an_order(provider, max_fee="1.5"),
        ):
            with pytest.raises(InvalidField, match=r"payment\."), told():
                await aos.dispatcher.CreateJob(bad)
