from __future__ import annotations

import pytest

from aos.chain.client import connected
from aos.chain.deploy import Terms, deploy
from aos.chain.serving import Claimable, Line, Service
from aos.errors import ChainRefused, InvalidField, ServiceUnavailable
from aos.verification import sums

OFFER = Service("", "chat", "chatbot", "https://example.org", 2, 3, 0, "llama", "OpML")


class TestLedger:
    async def test_money_goes_out_and_comes_back(self, deployment):
        """Deposit, transfer, retrieve twice, delete: through typed calls, each with its key."""
        user, provider = deployment.sender(1), deployment.key(2).address
        ledger, inference = deployment.ledger, deployment.inference
        assert await ledger.get(user.address) is None
        await ledger.add(user, "add", 100, info="me")
        await ledger.deposit(user, "deposit", 50)
        await ledger.transfer(user, "transfer", provider, "inference", 60)
        shown = await ledger.get(user.address)
        assert (shown.available_balance, shown.total_balance, shown.additional_info) == (90, 150, "me")
        assert shown.inference_providers == (provider,)
        await ledger.retrieve(user, "ask", [provider], "inference")
        assert await inference.balance(user.address, provider) == (60, 60)
        [refund] = await inference.refunds(user.address, provider)
        expected = Claimable(provider, 0, 60, refund.created_at + await inference.lock_time())
        assert await inference.claimable(user.address, [provider]) == [expected]
        await deployment.advance(101)
        await ledger.retrieve(user, "take", [provider], "inference")
        await ledger.refund(user, "refund", 100)
        await ledger.delete(user, "delete")
        assert await ledger.get(user.address) is None
        assert (await ledger.page())[1] == 0

    async def test_a_refusal_has_the_contracts_words(self, deployment):
        """What a contract refuses is refused before anything is sent, with its reason."""
        user = deployment.sender(1)
        await deployment.ledger.add(user, "add", 10)
        with pytest.raises(ChainRefused, match="ledger: insufficient balance"):
            await deployment.ledger.refund(user, "refund", 11)
        with pytest.raises(ChainRefused, match="ledger: exists already"):
            await deployment.ledger.add(user, "add again", 10)
        await deployment.ledger.refund(user, "refund", 10)

    @pytest.mark.parametrize("amount", [-1, 1 << 256, 1.0, True, "1"])
    async def test_what_is_no_amount_is_not_sent(self, deployment, amount):
        """Negative, huge, float: refused by name, with the limit."""
        with pytest.raises(InvalidField, match="amount"):
            await deployment.ledger.add(deployment.sender(1), "add", amount)

    async def test_what_is_no_address_is_not_sent(self, deployment):
        """A provider is 0x and 40 hex digits."""
        with pytest.raises(InvalidField, match="address"):
            await deployment.ledger.transfer(deployment.sender(1), "t", "0x12", "inference", 1)


class TestInference:
    async def test_receipts_are_settled_and_claimed(self, deployment):
        """A batch is paid, comes back as it was settled, and is claimed after the window."""
        user, provider, signer = deployment.sender(1), deployment.sender(2), deployment.key(3)
        inference = deployment.inference
        await deployment.ledger.add(user, "add", 100)
        await deployment.ledger.transfer(user, "transfer", provider.address, "inference", 60)
        await inference.acknowledge(user, "ack", provider.address, signer.address)
        assert (await inference.signer(user.address, provider.address))[0] == signer.address
        top = sums.root([sums.leaf(bytes([at]) * 32, 10) for at in range(3)])
        line = Line(user.address, top.digest, top.total, 3)
        poor = Line(deployment.key(4).address, top.digest, top.total, 3)
        batch = await inference.settle(provider, "batch", signer, provider.address, [poor, line], nonce=1, deadline=2**40)
        assert batch.paid == 0b10
        assert await inference.is_settled(provider.address, signer.address, 1)
        assert await inference.balance(user.address, provider.address) == (30, 0)
        again = await inference.settle(provider, "batch", signer, provider.address, [poor, line], nonce=1, deadline=2**40)
        assert again == batch
        await deployment.advance(51)
        await inference.claim(provider, "claim", batch)
        assert await inference.withdrawable(provider.address) == 30
        await inference.withdraw(provider, "withdraw", provider.address)
        assert await inference.withdrawable(provider.address) == 0

    async def test_services_are_listed_and_quoted(self, deployment):
        """An offer is shown with its provider and time, and quoted by the contract."""
        provider = deployment.sender(2)
        await deployment.inference.offer(provider, "offer", OFFER)
        [shown], count = await deployment.inference.services()
        assert (count, shown.provider, shown.model, shown.output_price) == (1, provider.address, "llama", 3)
        assert shown.updated_at == await deployment.chain.now()
        assert await deployment.inference.quote(provider.address, "chat", 10, 1) == 23
        with pytest.raises(ChainRefused, match="inference: no such service"):
            await deployment.inference.quote(provider.address, "other", 10, 1)


class TestConnecting:
    async def test_a_chain_that_is_not_there_is_unavailable(self):
        """Nobody listening: the error is the one for a service that does not answer."""
        with pytest.raises(ServiceUnavailable, match="chain"):
            async with connected("http://127.0.0.1:1"):
                pass

    async def test_another_chain_is_refused(self, anvil):
        """A node of another chain than was meant is not used."""
        with pytest.raises(InvalidField, match="31337, not 1"):
            async with connected(anvil.url, chain_id=1):
                pass


class TestDeploying:
    async def test_deploying_again_finds_what_is_there(self, deployment):
        """The same call gives the same addresses, and the contracts know each other."""
        found = await deploy(deployment.sender(0), Terms(lock_time=100, window=50))
        assert await deployment.ledger.services() == (found.inference, found.fine_tuning)
        assert deployment.inference.where.address == found.inference
