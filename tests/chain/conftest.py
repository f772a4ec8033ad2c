from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from eth_account import Account

from aos.chain.client import Chain, connected
from aos.chain.deploy import Addresses, Terms, deploy
from aos.chain.ledger import LedgerContract
from aos.chain.outbox import FolderOutbox
from aos.chain.serving import FineTuningContract, InferenceContract
from aos.chain.transactions import Patience, Sender
from aos.testing.anvil import KEYS, Anvil
from aos.verification.keys import OperatorKey
from tests.chain.shop import PAYER, QUICK, Shop, fund, open_shop


@dataclass
class Deployment:
    """A chain with the contracts on it, and wallets with money. What a test sends stays in the outboxes of this one test."""

    chain: Chain
    folder: Path
    addresses: Addresses
    ledger: LedgerContract
    inference: InferenceContract
    fine_tuning: FineTuningContract

    def key(self, at: int) -> OperatorKey:
        return OperatorKey(Account.from_key(KEYS[at]))

    def sender(self, at: int, patience: Patience | None = None, *, chain: Chain | None = None) -> Sender:
        return Sender(chain or self.chain, self.key(at), FolderOutbox(self.folder / str(at)), patience)

    async def rpc(self, method: str, *arguments: object):
        answer = await self.chain.web3.provider.make_request(method, list(arguments))
        assert "error" not in answer, answer
        return answer["result"]

    async def advance(self, seconds: int) -> None:
        await self.rpc("evm_setNextBlockTimestamp", await self.chain.now() + seconds)
        await self.rpc("evm_mine")


@pytest.fixture
async def deployment(anvil: Anvil, tmp_path: Path) -> AsyncIterator[Deployment]:
    async with connected(anvil.url, chain_id=anvil.chain_id) as chain:
        before = (await chain.web3.provider.make_request("evm_snapshot", []))["result"]
        base = (await chain.web3.eth.get_block("latest")).get("baseFeePerGas", 0)
        outbox = FolderOutbox(tmp_path / "0")
        addresses = await deploy(Sender(chain, OperatorKey(Account.from_key(KEYS[0])), outbox), Terms(lock_time=100, window=50))
        yield Deployment(
            chain, tmp_path, addresses, LedgerContract(chain, addresses.ledger), InferenceContract(chain, addresses.inference),
            FineTuningContract(chain, addresses.fine_tuning),
        )  # fmt: skip
        await chain.web3.provider.make_request("evm_setAutomine", [True])
        await chain.web3.provider.make_request("evm_revert", [before])
        # what a test made blocks cost is no part of what is undone
        await chain.web3.provider.make_request("anvil_setNextBlockBaseFeePerGas", [hex(base)])


@pytest.fixture
async def shop(deployment: Deployment) -> AsyncIterator[Shop]:
    await fund(deployment, PAYER, 1000)
    async with open_shop(deployment.chain, deployment.folder, deployment.addresses, patience=QUICK) as opened:
        yield opened
