from __future__ import annotations

import asyncio

import pytest

from aos.chain.client import connected
from aos.chain.outbox import FolderOutbox, Sent
from aos.chain.serving import Line
from aos.chain.transactions import Patience
from aos.errors import ChainRefused, ServiceUnavailable, TransactionPending

SHORT = Patience(each=0.2, forms=2)


async def paid(deployment, user) -> int:
    return (await deployment.ledger.get(user)).available_balance


async def stuck(deployment):
    """A sender whose deposit of 5, behind 10, no block takes for now."""
    sender = deployment.sender(1, SHORT)
    await deployment.ledger.add(sender, "add", 10)
    await deployment.rpc("evm_setAutomine", False)
    with pytest.raises(TransactionPending):
        await deployment.ledger.deposit(sender, "d", 5)
    return sender


class TestOnce:
    async def test_a_key_is_one_transaction(self, deployment):
        """Sent twice with one key, money moves once, and both calls have the same receipt."""
        sender = deployment.sender(1)
        await deployment.ledger.add(sender, "add", 10)
        first = await deployment.ledger.deposit(sender, "d", 5)
        assert await deployment.ledger.deposit(sender, "d", 5) == first
        assert await paid(deployment, sender.address) == 15

    async def test_many_at_once_have_their_own_nonces(self, deployment):
        """Ten transactions of one key at the same time all get in."""
        sender = deployment.sender(1)
        await deployment.ledger.add(sender, "add", 10)
        await asyncio.gather(*(deployment.ledger.deposit(sender, f"d{at}", 1) for at in range(10)))
        assert await paid(deployment, sender.address) == 20


class TestTrouble:
    async def test_after_a_restart_what_was_sent_is_found(self, deployment):
        """Killed between sending and the receipt, a new process waits for the same transaction, and pays nothing twice."""
        sender = deployment.sender(1, SHORT)
        await deployment.ledger.add(sender, "add", 10)
        await deployment.rpc("evm_setAutomine", False)
        with pytest.raises(TransactionPending, match="'d'"):
            await deployment.ledger.deposit(sender, "d", 5)
        await deployment.rpc("evm_setAutomine", True)
        restarted = deployment.sender(1)
        mining = asyncio.create_task(deployment.rpc("evm_mine"))
        [receipt] = await restarted.resume()
        await mining
        assert await deployment.ledger.deposit(restarted, "d", 5) == receipt
        assert await paid(deployment, sender.address) == 15

    async def test_what_is_too_cheap_is_made_dearer(self, deployment):
        """While no block takes it, each form offers more under the same nonce; in the end one of them counts."""
        sender = deployment.sender(1, Patience(each=0.1, forms=3))
        await deployment.ledger.add(sender, "add", 10)
        await deployment.rpc("evm_setAutomine", False)
        with pytest.raises(TransactionPending):
            await deployment.ledger.deposit(sender, "d", 5)
        [sent] = await FolderOutbox(deployment.folder / "1").unfinished()
        assert len(sent.forms) == 3
        assert len(set(sent.forms)) == 3
        await deployment.rpc("evm_setAutomine", True)
        await deployment.rpc("evm_mine")
        await deployment.ledger.deposit(sender, "d", 5)
        assert await paid(deployment, sender.address) == 15

    async def test_a_dropped_transaction_is_sent_again(self, deployment):
        """What a node forgot is told it anew by the same call."""
        sender = await stuck(deployment)
        await deployment.rpc("anvil_dropAllTransactions")
        await deployment.rpc("evm_setAutomine", True)
        await deployment.ledger.deposit(sender, "d", 5)
        assert await paid(deployment, sender.address) == 15

    async def test_a_nonce_that_somebody_took_is_given_up(self, deployment):
        """If another program used the nonce, ours can never count: it goes out under a new one, once."""
        sender = await stuck(deployment)
        await deployment.rpc("anvil_dropAllTransactions")
        await deployment.rpc("evm_setAutomine", True)
        other = deployment.sender(1)
        other._outbox = FolderOutbox(deployment.folder / "another program")
        await deployment.ledger.deposit(other, "its own", 1)
        await deployment.ledger.deposit(sender, "d", 5)
        assert await paid(deployment, sender.address) == 16

    async def test_without_a_chain_nothing_is_forgotten(self, deployment):
        """An outage is told as one; when the chain is back, the same call goes on."""
        sender = deployment.sender(1)
        await deployment.ledger.add(sender, "add", 10)
        async with connected(str(deployment.chain.web3.provider.endpoint_uri)) as away:
            away.web3.provider.endpoint_uri = "http://127.0.0.1:1"
            lost = deployment.sender(1, chain=away)
            with pytest.raises(ServiceUnavailable):
                await deployment.ledger.deposit(lost, "d", 5)
        await deployment.ledger.deposit(sender, "d", 5)
        assert await paid(deployment, sender.address) == 15

    async def test_a_wallet_without_money_is_told_so(self, deployment):
        """What the sender cannot pay is refused before anything is kept."""
        sender = deployment.sender(1)
        with pytest.raises(ChainRefused, match=r"(?i)insufficient funds"):
            await deployment.ledger.add(sender, "add", 10**30)
        assert await FolderOutbox(deployment.folder / "1").unfinished() == []

    async def test_what_was_refused_in_its_block_stays_refused(self, deployment):
        """A transaction that went bad between the question and the block paid nothing, and says so each time."""
        sender, signer, user = deployment.sender(1), deployment.key(3), deployment.key(4).address
        now = await deployment.chain.now()
        await deployment.rpc("evm_setAutomine", False)

        async def settle():
            terms = {"nonce": 1, "deadline": now + 100}
            return await deployment.inference.settle(sender, "b", signer, user, [Line(user, bytes(32), 0, 1)], **terms)

        settling = asyncio.create_task(settle())
        async with asyncio.timeout(20):
            while int((await deployment.rpc("txpool_status"))["pending"], 16) == 0:
                await asyncio.wait([settling], timeout=0.01)
        await deployment.rpc("evm_setNextBlockTimestamp", now + 1000)
        await deployment.rpc("evm_mine")
        for attempt in (settling, settle()):
            with pytest.raises(ChainRefused, match="refused in its block"):
                await attempt
        assert not await deployment.inference.is_settled(user, signer.address, 1)


class TestOutbox:
    async def test_it_keeps_what_it_was_given(self, tmp_path):
        """A second outbox over the folder finds what the first kept; finished ones are not unfinished."""
        outbox = FolderOutbox(tmp_path)
        later = Sent("b", 2, "0x1", "0x", 0, 1, 1, 1, ("0xaa",))
        earlier = Sent("a", 1, "0x1", "0x", 0, 1, 1, 1, ("0xbb",))
        for sent in (later, earlier, Sent("c", 0, "0x1", "0x", 0, 1, 1, 1, ("0xcc",), mined="0xdd")):
            await outbox.keep(sent)
        assert await FolderOutbox(tmp_path).unfinished() == [earlier, later]
        assert await FolderOutbox(tmp_path).find("b") == later
        assert await outbox.find("d") is None
