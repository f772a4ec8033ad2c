"""A broker that is a process of its own, and settles receipts of operators whose keys it was given."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from aos.rpc.channel import channel
from aos.serving.chain import running_chain
from aos.serving.chain_settings import BrokerChain
from aos.settings import StartError
from aos.v1 import broker_pb2, broker_pb2_grpc
from aos.verification.keys import OperatorKey
from tests.chain.conftest import Deployment
from tests.chain.shop import PAYER, SETTLER
from tests.system.serving import SECONDS, network

ALL = ("registry", "broker", "dispatcher", "gateway", "envoy", "operator")
ASKED = {"model": "aos-demo", "messages": [{"role": "user", "content": "What is AI?"}], "max_tokens": 8}
NEURONS = 10**15


def settings(deployment: Deployment, **more) -> BrokerChain:
    folder = deployment.folder
    given = {"contracts": deployment.addresses.ledger, "key": folder / "sender.key", "folder": folder / "sent"}
    return BrokerChain(rpc=str(deployment.chain.web3.provider.endpoint_uri), **given | {"signers": ("operator.key",)} | more)


def as_table(chain: BrokerChain) -> str:
    lines = [f'{name} = "{getattr(chain, name)}"' for name in ("rpc", "contracts", "key", "folder")]
    return "\n".join(["[broker.chain]", *lines, f"signers = {list(chain.signers)}", f"payers = {list(chain.payers)}"])


async def test_settled(deployment):
    """What an operator elsewhere signed is on the chain soon after, paid by the project's wallet."""
    key = OperatorKey.load(deployment.folder / "operator.key")
    (deployment.folder / "sender.key").write_text(deployment.key(SETTLER)._account.key.hex())
    payer = deployment.sender(PAYER)
    await deployment.ledger.add(payer, "add", NEURONS)
    await deployment.ledger.transfer(payer, "transfer", key.address, "inference", NEURONS)
    await deployment.inference.acknowledge(payer, "ack", key.address, key.address)
    wallet = deployment.key(PAYER).address
    told = settings(deployment, signers=(str(deployment.folder / "operator.key"),), payers=(f"demo={wallet}",))
    async with network(deployment.folder, *ALL, broker=as_table(told)) as running:
        await running.ready()
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {running.token}"}, timeout=SECONDS) as client:
            reply = await client.post(f"{running.url}/v1/chat/completions", json=ASKED)
        assert reply.status_code == 200, reply.text
        async with channel(running.address, running.token) as opened, asyncio.timeout(SECONDS):
            broker = broker_pb2_grpc.BrokerStub(opened)
            while not (found := await broker.GetChain(broker_pb2.GetChainRequest())).receipts_settled:
                await asyncio.sleep(0.1)
            statement = await broker.GetStatement(broker_pb2.GetStatementRequest())
    left, _ = await deployment.inference.balance(wallet, key.address)
    assert found.chain_id == deployment.chain.chain_id
    assert (found.receipts_settled, found.receipts_waiting + found.receipts_sent) == (1, 0)
    assert [one.transaction for one in statement.chain_payments]
    assert 0 < NEURONS - left < NEURONS


class TestRefused:
    async def test_not_there(self, deployment, tmp_path):
        """A node that does not answer, contracts that are none, and a key that is nowhere end the start with the setting's name."""
        (deployment.folder / "operator.key").unlink(missing_ok=True)
        OperatorKey.load(tmp_path / "there.key")
        for more, said in [
            ({"signers": (str(tmp_path / "nowhere.key"),)}, "signers: there is no .*nowhere.key"),
            ({"contracts": "0x" + "1" * 40, "signers": (str(tmp_path / "there.key"),)}, "there is no ledger of ours"),
        ]:
            with pytest.raises(StartError, match=said):
                async with running_chain(settings(deployment, **more)):
                    pass

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"contracts": "0x1"}, "chain.contracts: goes with chain.rpc"),
            ({"rpc": "node:8545"}, "chain.rpc: must be an http or https URL"),
            ({"rpc": "http://node"}, "chain.contracts: is needed"),
            ({"payers": ("demo=0x1",)}, "chain.payers: must be PROJECT=WALLET.*'demo=0x1'"),
            ({"confirmations": 1001}, "chain.confirmations: must be 0 to 1000, not 1001"),
            ({"signers": ("key",) * 65}, "chain.signers: must be at most 64 files, not 65"),
        ],
    )
    def test_settings(self, given, said, tmp_path):
        """What cannot be is said with the setting's name, the value and the limit."""
        whole = {"rpc": "http://node", "contracts": "0x1", "key": tmp_path / "k", "folder": tmp_path, "signers": ("operator.key",)}
        incomplete = not {"payers", "confirmations", "signers"} & given.keys()
        with pytest.raises(ValueError, match=said):
            BrokerChain(**given if incomplete else whole | given)
