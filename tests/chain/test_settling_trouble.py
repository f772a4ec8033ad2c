"""Settlement while the chain, the node or the process fails: nothing is paid twice, nothing is forgotten."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import astuple

import pytest
from eth_account import Account
from web3 import AsyncHTTPProvider, AsyncWeb3

from aos.broker.chain import Progress
from aos.chain.client import Chain, connected
from aos.chain.deploy import Terms, deploy
from aos.chain.ledger import LedgerContract
from aos.chain.outbox import FolderOutbox
from aos.chain.proof import check_on_chain
from aos.chain.serving import InferenceContract
from aos.chain.transactions import Patience, Sender
from aos.errors import ServiceUnavailable
from aos.testing.anvil import CHAIN_ID, KEYS, running_anvil
from aos.verification.keys import OperatorKey
from tests.chain.conftest import Deployment
from tests.chain.shop import PAYER, PROVIDER, QUICK, SETTLER, a_key, fund, left, open_shop

SECONDS = 60


@asynccontextmanager
async def connected_to(url: str) -> AsyncIterator[Chain]:
    """A connection to a node that need not be there yet."""
    provider = AsyncHTTPProvider(url)
    yield Chain(AsyncWeb3(provider), CHAIN_ID)
    await provider.disconnect()


async def nonces(deployment) -> list[int]:
    """Of the settler's transactions that are in no block."""
    return [one.nonce for one in await FolderOutbox(deployment.folder / "outbox").unfinished()]


class TestOutage:
    async def test_without_a_chain_it_waits(self, deployment, shop):
        """An outage ends the round; nothing is lost, and the next round goes on."""
        await shop.pay(10)
        provider = deployment.chain.web3.provider
        before, provider.endpoint_uri = provider.endpoint_uri, "http://127.0.0.1:1"
        with pytest.raises(ServiceUnavailable):
            await shop.settlement.round()
        provider.endpoint_uri = before
        await shop.settlement.round()
        assert await left(deployment, PAYER) == 990

    async def test_slow_blocks_and_forgotten_transactions(self, deployment, shop):
        """No block, then a node that forgot: each round offers more for the same nonce, and in the end one of them counts."""
        await shop.pay(10)
        await deployment.rpc("evm_setAutomine", False)
        await shop.settlement.round()
        [sent] = await FolderOutbox(deployment.folder / "outbox").unfinished()
        assert len(sent.forms) == QUICK.forms
        assert len(await shop.batches(Progress.MADE)) == 1
        await deployment.rpc("anvil_dropAllTransactions")
        await deployment.rpc("evm_setAutomine", True)
        await shop.settlement.round()
        assert await left(deployment, PAYER) == 990
        assert len(await shop.batches()) == 1

    async def test_a_batch_behind_confirmations_is_not_settled_yet(self, deployment):
        """With confirmations, a batch counts once so many blocks are on top of it, and not before."""
        await fund(deployment, PAYER, 1000)
        terms = {"patience": Patience(each=0.3, forms=1), "confirmations": 3}
        async with open_shop(deployment.chain, deployment.folder, deployment.addresses, **terms) as shop:
            await deployment.rpc("anvil_mine", 3)
            await shop.pay(10)
            await shop.settlement.round()
            assert await shop.batches() == []
            assert await left(deployment, PAYER) == 990
            await deployment.rpc("anvil_mine", 3)
            await shop.settlement.round()
            assert len(await shop.batches()) == 1
            assert await left(deployment, PAYER) == 990

    async def test_a_node_that_stops_and_starts(self, tmp_path):
        """The node itself ends in mid-work and starts again on its state: what was sent and not mined goes on."""
        async with running_anvil(state=tmp_path / "chain") as anvil, connected(anvil.url) as chain:
            port = int(anvil.url.rpartition(":")[2])
            sender = Sender(chain, OperatorKey(Account.from_key(KEYS[0])), FolderOutbox(tmp_path / "0"))
            addresses = await deploy(sender, Terms(lock_time=100, window=50))
            ledger, inference = LedgerContract(chain, addresses.ledger), InferenceContract(chain, addresses.inference)
            deployment = Deployment(chain, tmp_path, addresses, ledger, inference, None)
            await fund(deployment, PAYER, 1000)
            async with open_shop(chain, tmp_path, addresses, patience=QUICK) as shop:
                await shop.pay(10)
                await shop.settlement.round()
                await shop.pay(20, first=2)
                await deployment.rpc("evm_setAutomine", False)
                await shop.settlement.round()
        async with connected_to(anvil.url) as gone, open_shop(gone, tmp_path, addresses, patience=QUICK) as shop:
            with pytest.raises(ServiceUnavailable):
                await shop.settlement.round()
            async with running_anvil(state=tmp_path / "chain", port=port):
                await shop.settlement.round()
                deployment = Deployment(gone, tmp_path, addresses, ledger, InferenceContract(gone, addresses.inference), None)
                assert await left(deployment, PAYER) == 970
                assert [batch.number for batch in await shop.batches()] == [2, 1]


class TestTransactions:
    async def test_too_cheap_for_the_block(self, deployment, shop):
        """When blocks become dearer than what was offered, a dearer form of the same transaction takes its place."""
        await shop.pay(10)
        await deployment.rpc("evm_setAutomine", False)
        await shop.settlement.round()
        [before] = await FolderOutbox(deployment.folder / "outbox").unfinished()
        await deployment.rpc("anvil_setNextBlockBaseFeePerGas", hex(before.fee * 2))
        await deployment.rpc("evm_mine")
        assert await left(deployment, PAYER) == 1000
        await deployment.rpc("anvil_setNextBlockBaseFeePerGas", hex(before.fee * 2))
        await deployment.rpc("evm_setAutomine", True)
        await shop.settlement.round()
        sent = await FolderOutbox(deployment.folder / "outbox").find(before.key)
        assert (sent.nonce, sent.fee > before.fee, bool(sent.mined)) == (before.nonce, True, True)
        assert await left(deployment, PAYER) == 990

    async def test_replaced_by_another_program(self, deployment, shop):
        """Somebody used our key, and our nonce, for something else: the batch goes out under the next one, once."""
        await shop.pay(10)
        await deployment.rpc("evm_setAutomine", False)
        await shop.settlement.round()
        await deployment.rpc("anvil_dropAllTransactions")
        await deployment.rpc("evm_setAutomine", True)
        other = Sender(deployment.chain, a_key(SETTLER), FolderOutbox(deployment.folder / "another program"))
        await deployment.ledger.add(other, "its own", 1)
        await shop.settlement.round()
        assert await left(deployment, PAYER) == 990
        assert len(await shop.batches()) == 1

    async def test_a_gap_is_filled(self, deployment, shop):
        """A reorganisation took a settled batch and left the one behind it waiting for its nonce: both are settled, once each."""
        await shop.pay(10)
        before = await deployment.rpc("evm_snapshot")
        await shop.settlement.round()
        await deployment.rpc("evm_setAutomine", False)
        await shop.pay(20, first=2)
        await shop.settlement.round()
        [behind] = await nonces(deployment)
        await deployment.rpc("evm_revert", before)
        await deployment.rpc("evm_setAutomine", True)
        for _ in range(3):
            await shop.settlement.round()
        assert await nonces(deployment) == []
        assert sorted(batch.number for batch in await shop.batches()) == [1, 2]
        assert await left(deployment, PAYER) == 970
        assert int(await deployment.chain.web3.eth.get_transaction_count(a_key(SETTLER).address)) == behind + 1

    async def test_what_was_left_over_holds_up_nothing(self, deployment, shop):
        """A batch that came too late leaves a transaction that no block took: it is got out of the way."""
        await shop.pay(10)
        await deployment.rpc("evm_setAutomine", False)
        await shop.settlement.round()
        await deployment.rpc("anvil_dropAllTransactions")
        await deployment.advance(86_401)
        await deployment.rpc("evm_setAutomine", True)
        for _ in range(3):
            await shop.settlement.round()
        assert await nonces(deployment) == []
        assert [len(await shop.batches(one)) for one in (Progress.RELEASED, Progress.SETTLED)] == [1, 1]
        assert await left(deployment, PAYER) == 990


class TestReorganisation:
    async def test_an_undone_batch_is_settled_again(self, deployment, shop):
        """A block that is no longer the chain's takes its batch along: the chain's state tells, and it is sent anew, once."""
        names = await shop.pay(10, 20)
        before = await deployment.rpc("evm_snapshot")
        await shop.settlement.round()
        await deployment.rpc("evm_revert", before)
        assert await left(deployment, PAYER) == 1000
        for _ in range(2):
            await shop.settlement.round()
        assert await left(deployment, PAYER) == 970
        assert [batch.attempt for batch in await shop.batches()] == [1]
        assert await check_on_chain(deployment.chain, await shop.paid(names[0]))
        assert (await shop.earned(), await shop.is_sound()) == (0, True)

    async def test_events_of_blocks_that_are_gone_are_forgotten(self, deployment, shop):
        """A dispute in a block that was undone is no dispute; the cursor goes back, and reads what is there instead."""
        [name] = await shop.pay(10)
        await shop.settlement.round()
        [batch] = await shop.batches()
        before = await deployment.rpc("evm_snapshot")
        functions, user = deployment.inference._contract.functions, deployment.sender(PAYER)
        lines = [(one.user, one.root, one.total, one.count) for one in batch.lines]
        words = (PROVIDER, PROVIDER, batch.nonce, batch.closes_at, 1, lines)
        await user.send("demand", functions.demandReceipt(words, 0, 0), value=10**15)
        await shop.settlement.round()
        assert (await shop.paid(name)).chain.dispute == "disputed"
        await deployment.rpc("evm_revert", before)
        await deployment.rpc("anvil_mine", 5)
        await shop.settlement.round()
        assert (await shop.paid(name)).chain.dispute == ""
        again = await shop.store.cursor()
        assert again.block == await shop.settler.height()


class TestRestart:
    async def test_killed_between_sending_and_the_receipt(self, deployment):
        """The process is killed once its transaction waits for a block; another one goes on, and money moves once."""
        await fund(deployment, PAYER, 1000)
        async with open_shop(deployment.chain, deployment.folder, deployment.addresses) as shop:
            await shop.pay(10, 20)
        await deployment.rpc("evm_setAutomine", False)
        url = str(deployment.chain.web3.provider.endpoint_uri)
        words = (sys.executable, "-m", "tests.chain.shop", url, str(deployment.folder), *astuple(deployment.addresses))
        first = await asyncio.create_subprocess_exec(*words)
        try:
            async with asyncio.timeout(SECONDS):
                while int((await deployment.rpc("txpool_status"))["pending"], 16) == 0:
                    await asyncio.wait([asyncio.ensure_future(first.wait())], timeout=0.05)
                    assert first.returncode is None
        finally:
            first.kill()
            assert await first.wait() != 0
        await deployment.rpc("evm_mine")
        await deployment.rpc("evm_setAutomine", True)
        second = await asyncio.create_subprocess_exec(*words)
        assert await asyncio.wait_for(second.wait(), SECONDS) == 0
        assert await left(deployment, PAYER) == 970
        async with open_shop(deployment.chain, deployment.folder, deployment.addresses) as shop:
            [batch] = await shop.batches()
            assert (batch.attempt, batch.lines[0].count) == (0, 2)
            assert (await shop.earned(), await shop.is_sound()) == (0, True)
        assert int(await deployment.chain.web3.eth.get_transaction_count(a_key(SETTLER).address)) == 1
