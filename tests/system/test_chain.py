"""`aos up --chain`: a network whose receipts are settled on a development chain that is kept in its data folder."""

from __future__ import annotations

import asyncio

import pytest

from aos.client import Client, connect
from aos.rpc.status import answered
from aos.settings import NetworkSettings, StartError, bundled
from aos.testing.anvil import KEYS
from aos.up import running_network
from aos.v1.broker_pb2 import ChainState, GetChainRequest, ListEntriesRequest
from tests.cli.conftest import run_aos

SECONDS = 60


async def settled(client: Client) -> ChainState:
    """The chain's side, once no receipt waits any more."""
    async with asyncio.timeout(SECONDS):
        while True:
            found = await answered(client.broker.GetChain(GetChainRequest()))
            if found.receipts_settled and not found.receipts_waiting + found.receipts_sent:
                return found
            entries = await answered(client.broker.ListEntries(ListEntriesRequest(page_size=1)))
            assert entries.entries


async def test_a_job_is_settled_on_the_chain_and_proved(tmp_path):
    """An answer's receipt is on the chain soon after, shown by the command, proved by it, and still there after a restart."""
    settings = NetworkSettings(data=tmp_path, port=0, models=(bundled(),), chain=True)

    async def aos(*arguments: str) -> str:
        result = await run_aos("--data", str(tmp_path), *arguments)
        assert result.code == 0, result.err
        return result.out + result.err

    async with running_network(settings) as network:
        chat = await aos("chat", "What is AI?")
        assert "machines" in chat
        async with connect(network.credentials.grpc, network.credentials.token) as client:
            found = await settled(client)
            entries = await answered(client.broker.ListEntries(ListEntriesRequest(page_size=1000)))
        assert (found.receipts_settled, found.chain_id, found.wallet) == (1, network.chain.site.chain_id, network.chain.wallet)
        assert entries.entries
        assert "1 receipts settled" in await aos("ledger", "show")
        stated = await aos("ledger", "statement")
        [transaction] = {word for word in stated.split() if word.startswith("0x") and len(word) == 66}
        [receipt] = await receipts(tmp_path)
        proved = await aos("ledger", "prove", receipt, "--chain-rpc", network.chain.url)
        assert transaction in proved
        assert "settled it in block" in proved
        assert "BROKEN" not in await aos("ledger", "check")
    async with running_network(settings) as again, connect(again.credentials.grpc, again.credentials.token) as client:
        assert again.chain.site == network.chain.site
        assert (await settled(client)).amount_settled == found.amount_settled
    logged = "".join(file.read_text(errors="replace") for file in tmp_path.glob("*.log"))
    assert not any(key in logged for key in KEYS)


async def receipts(folder) -> list[str]:
    """The digests of receipts in batches on the chain."""
    from aos.store.sqlite import sqlite_file

    async with sqlite_file(folder / "aos.db") as file:
        return await file.transact(lambda db: [row["receipt"] for row in db.query("SELECT receipt FROM chain_receipts")])


class TestRefusals:
    async def test_a_node_that_is_not_there(self, tmp_path):
        """Starting says so, and names the option."""
        settings = NetworkSettings(data=tmp_path, port=0, chain=True, chain_rpc="http://127.0.0.1:1")
        with pytest.raises(StartError, match="chain: "):
            async with running_network(settings):
                pass

    async def test_a_key_that_is_none(self, anvil, tmp_path, monkeypatch):
        """A malformed key is refused without being repeated."""
        monkeypatch.setenv("AOS_CHAIN_KEY", "deadbeef")
        settings = NetworkSettings(data=tmp_path, port=0, chain=True, chain_rpc=anvil.url)
        with pytest.raises(StartError, match="AOS_CHAIN_KEY holds no key") as refused:
            async with running_network(settings):
                pass
        assert "deadbeef" not in str(refused.value)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"chain_payers": (("p", "0x1"),), "chain": True}, "chain-payer: p needs a wallet"),
            ({"chain_rpc": "ftp://x", "chain": True}, "chain-rpc: must be an http"),
            ({"chain_confirmations": -1, "chain": True}, "chain-confirmations: must be from 0"),
            ({"chain_payers": (("p", "0x" + "1" * 40),)}, "go with chain"),
        ],
    )
    def test_settings_that_cannot_be(self, options, words):
        """Each names the option."""
        with pytest.raises(ValueError, match=words):
            NetworkSettings(**options)
