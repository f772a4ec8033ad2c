from __future__ import annotations

from dataclasses import replace

import pytest

from aos.broker.chain import Progress
from aos.chain.proof import check_on_chain
from aos.chain.serving import Batch, Line
from aos.errors import BadSettlement
from aos.v1 import broker_pb2 as pb
from aos.verification.settled import check_settled
from tests.chain.shop import OPERATOR, OTHER, PAYER, PROVIDER, a_key, fund, left
from tests.refusals import refused


class TestSettling:
    async def test_receipts_of_many_users_settle_in_one_transaction(self, deployment, shop):
        """Each user's receipts are one line, and each receipt is proved against its root, here and on the chain."""
        await fund(deployment, OTHER, 500)
        names = await shop.pay(10, 20, 30) + await shop.pay(7, account="accounts/q")
        assert await shop.earned() == 67
        await shop.settlement.round()
        [batch] = await shop.batches()
        assert sorted((line.account, line.total, line.count) for line in batch.lines) == [
            ("accounts/p", 60, 3),
            ("accounts/q", 7, 1),
        ]
        assert (await left(deployment, PAYER), await left(deployment, OTHER)) == (940, 493)
        assert await shop.earned() == 0
        for name in names:
            receipt = await shop.paid(name)
            assert receipt.chain.transaction == batch.transaction
            assert await check_on_chain(deployment.chain, receipt) == batch.block
        await shop.settlement.round()
        assert await shop.batches() == [batch]
        assert await shop.is_sound()

    async def test_statements_name_the_transaction(self, shop):
        """Payer and provider see what was settled, and by which transaction; others see nothing."""
        await shop.pay(10, 20)
        await shop.settlement.round()
        [batch] = await shop.batches()
        for account in ("accounts/p", f"accounts/{PROVIDER}"):
            [payment] = (await shop.broker.GetStatement(pb.GetStatementRequest(account=account))).chain_payments
            assert (payment.transaction, payment.receipts, payment.amount) == (batch.transaction, 2, "30")
        assert not (await shop.broker.GetStatement(pb.GetStatementRequest(account="accounts/q"))).chain_payments

    async def test_what_an_account_has_on_the_chain(self, deployment, shop):
        """Contracts, wallet, balances read from the chain, and how far its receipts are."""
        await shop.pay(10, 2000 - 10 - 1000, 10)
        await shop.settlement.round()
        await shop.pay(3, first=9)
        found = await shop.broker.GetChain(pb.GetChainRequest(account="accounts/p"))
        assert (found.inference, found.wallet) == (deployment.addresses.inference, a_key(PAYER).address)
        assert (found.available, found.total) == ("9000", "9000")
        assert (found.receipts_settled, found.amount_settled, found.receipts_waiting) == (2, "1000", 2)

    async def test_who_cannot_pay_holds_up_nobody(self, deployment, shop):
        """Receipts beyond a user's balance wait, in their order; other users' are settled. With more money they follow."""
        await fund(deployment, OTHER, 50)
        names = await shop.pay(40, 40, 5, account="accounts/q")
        await shop.pay(100)
        await shop.settlement.round()
        assert (await left(deployment, PAYER), await left(deployment, OTHER)) == (900, 10)
        assert not (await shop.paid(names[2])).HasField("chain")
        await deployment.ledger.transfer(deployment.sender(OTHER), "more", PROVIDER, "inference", 100)
        await shop.settlement.round()
        assert await left(deployment, OTHER) == 65
        assert await shop.is_sound()

    async def test_without_acknowledgement_nothing_is_sent(self, deployment, shop):
        """Receipts wait for the user's word for the signer, which costs nobody gas."""
        await fund(deployment, OTHER, 50, acknowledged=False)
        await shop.pay(40, account="accounts/q")
        await shop.settlement.round()
        assert await shop.batches() == await shop.batches(Progress.MADE) == []
        await deployment.inference.acknowledge(deployment.sender(OTHER), "ack", PROVIDER, PROVIDER)
        await shop.settlement.round()
        assert await left(deployment, OTHER) == 10

    async def test_a_refused_line_waits_again(self, deployment, shop):
        """Money that went between the question and the block: that line is refused, the other paid, and it is settled later."""
        await fund(deployment, OTHER, 50)
        names = await shop.pay(40, account="accounts/q")
        await shop.pay(10)
        batch = await shop.settlement._next(PROVIDER.lower())
        top = shop.settler._inference
        spent = Line(a_key(OTHER).address, b"\1" * 32, 30, 1)
        await top.settle(deployment.sender(6), "before", a_key(OPERATOR), PROVIDER, [spent], nonce=1, deadline=2**40)
        await shop.settlement._attempt(batch)
        [settled] = await shop.batches()
        assert {line.account: line.refused for line in settled.lines} == {"accounts/p": "", "accounts/q": "insufficient balance"}
        assert (await left(deployment, PAYER), await left(deployment, OTHER), await shop.earned()) == (990, 20, 40)
        await deployment.ledger.transfer(deployment.sender(OTHER), "more", PROVIDER, "inference", 100)
        await shop.settlement.round()
        assert (await left(deployment, OTHER), await shop.earned()) == (80, 0)
        assert (await shop.paid(names[0])).chain.batch.hex() == (await shop.batches())[0].identity
        assert await shop.is_sound()

    async def test_what_was_paid_out_here_is_not_paid_there(self, deployment, shop):
        """An operator whose money was paid out by the administrator gets no more of it from the chain."""
        await shop.pay(60, 60)
        await shop.broker.Refund(pb.RefundRequest(account=f"accounts/{PROVIDER}", amount="50"))
        await shop.settlement.round()
        assert await left(deployment, PAYER) == 940
        assert await shop.earned() == 10
        await shop.settlement.round()
        assert await left(deployment, PAYER) == 940

    async def test_a_batch_that_came_too_late_is_made_again(self, deployment, shop):
        """After its deadline its receipts go into another batch; the first can never be settled any more."""
        await shop.pay(10)
        batch = await shop.settlement._next(PROVIDER.lower())
        await deployment.advance(86_401)
        await shop.settlement.round()
        [released], [settled] = await shop.batches(Progress.RELEASED), await shop.batches()
        assert (released.number, settled.number) == (batch.number, batch.number + 1)
        assert (await left(deployment, PAYER), await shop.earned()) == (990, 0)
        assert await shop.is_sound()

    async def test_who_sends_it_does_not_matter(self, deployment, shop):
        """Somebody else sent our batch: the chain's state says that it is settled, and it is not sent again."""
        await shop.pay(10)
        batch = await shop.settlement._next(PROVIDER.lower())
        lines = [Line(one.user, one.root, one.total, one.count) for one in batch.lines]
        terms = {"nonce": batch.nonce, "deadline": batch.deadline}
        await deployment.inference.settle(deployment.sender(7), "theirs", a_key(OPERATOR), PROVIDER, lines, **terms)
        await shop.settlement.round()
        assert [one.number for one in await shop.batches()] == [batch.number]
        assert await left(deployment, PAYER) == 990

    async def test_networks_without_a_chain_say_so(self, aos):
        """Asking for the chain's side has an error of its own."""
        with refused("NO_CHAIN"):
            await aos.client.broker.GetChain(pb.GetChainRequest())


class TestProofs:
    @pytest.mark.parametrize(
        "change", [{"price": "11"}, {"name": f"receipts/{'ab' * 32}"}, {"name": "receipts/x"}, {"price": "-1"}]
    )
    async def test_another_receipt_is_not_under_the_root(self, shop, change):
        """A proof is good for one digest and one price."""
        [name, _] = await shop.pay(10, 20)
        await shop.settlement.round()
        receipt = await shop.paid(name)
        check_settled(receipt)
        for field, value in change.items():
            setattr(receipt, field, value)
        with pytest.raises(BadSettlement):
            check_settled(receipt)

    async def test_a_root_that_nobody_paid(self, deployment, shop):
        """What the network says of the chain is looked up there: root, user, sum and transaction."""
        [name] = await shop.pay(10)
        with pytest.raises(BadSettlement, match="in no batch yet"):
            check_settled(await shop.paid(name))
        await shop.settlement.round()
        good = await shop.paid(name)
        for change, why in (
            ({"transaction": "0x" + "11" * 32}, "no transaction"),
            ({"user": a_key(OTHER).address}, "paid no line"),
            ({"contract": deployment.addresses.ledger}, "paid no line"),
            ({"chain_id": 1}, "not on chain 31337"),
            ({"total": "11"}, "come to 10"),
        ):
            bad = pb.PaidReceipt.FromString(good.SerializeToString())
            for field, value in change.items():
                setattr(bad.chain, field, value)
            with pytest.raises(BadSettlement, match=why):
                await check_on_chain(deployment.chain, bad)


class TestDisputes:
    async def test_a_dispute_freezes_one_receipt(self, deployment, shop):
        """The disputed receipt's fee, and nothing else, is kept from the provider; unanswered, it is the user's again."""
        names = await shop.pay(10, 20, 30)
        await shop.settlement.round()
        [batch], receipt = await shop.batches(), await shop.paid(names[1])
        proof, user = receipt.chain, deployment.sender(PAYER)
        lines = tuple(Line(one.user, one.root, one.total, one.count) for one in batch.lines)
        words = Batch(PROVIDER, PROVIDER, batch.nonce, batch.closes_at, 1, lines).words()
        leaf = (proof.leaf, bytes.fromhex(names[1].removeprefix("receipts/")), 20)
        siblings = [(one[:32], int.from_bytes(one[32:], "big")) for one in proof.proof]
        functions = deployment.inference._contract.functions
        await user.send("dispute", functions.disputeReceipt(words, 0, leaf, siblings), value=10**15)
        await shop.settlement.round()
        assert [(await shop.paid(name)).chain.dispute for name in names] == ["", "disputed", ""]
        await deployment.advance(51)
        await user.send("claim", functions.claim(words))
        assert await deployment.inference.withdrawable(PROVIDER) == 40
        await deployment.advance(6 * 3600)
        await user.send("close", functions.closeDispute(words, 0, proof.leaf))
        await shop.settlement.round()
        assert [(await shop.paid(name)).chain.dispute for name in names] == ["", "returned", ""]
        assert await deployment.inference.withdrawable(user.address) == 20 + 10**15


class TestOutbox:
    async def test_keys_are_never_shown(self, deployment, shop, caplog):
        """Nothing that is logged or kept has a key in it."""
        from aos.testing.anvil import KEYS

        await shop.pay(10)
        await shop.settlement.round()
        await shop.settlement._attempt(replace((await shop.batches())[0], deadline=0, nonce=2))
        kept = "".join(file.read_text() for file in (deployment.folder / "outbox").glob("*.json"))
        assert kept
        assert not any(key in caplog.text + kept + repr(shop.settler._sender.__dict__) for key in KEYS)
