"""Gas per settled receipt: batches of 1, 100 and 10 000 on anvil, against a settlement call for each.

``python -m bench.settlement_gas``. Receipts are spread evenly over USERS users. What a first time costs, writing to storage that
was empty, is left out: each user has been in a batch before.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from eth_account import Account

from aos.chain.client import connected
from aos.chain.deploy import Terms, deploy
from aos.chain.ledger import LedgerContract
from aos.chain.outbox import FolderOutbox
from aos.chain.serving import InferenceContract, Line
from aos.chain.transactions import Sender
from aos.testing.anvil import KEYS, running_anvil
from aos.verification import sums
from aos.verification.keys import OperatorKey

SIZES = (1, 100, 10_000)
USERS = (1, 4, 8)
FEE = 1000
DEADLINE = 2**40


def line(user: str, receipts: int) -> Line:
    top = sums.root([sums.leaf(at.to_bytes(32, "big"), FEE) for at in range(receipts)])
    return Line(user, top.digest, top.total, receipts)


async def main() -> None:
    keys = [OperatorKey(Account.from_key(key)) for key in KEYS]
    with tempfile.TemporaryDirectory() as folder:
        async with running_anvil() as anvil, connected(anvil.url, chain_id=anvil.chain_id) as chain:
            senders = [Sender(chain, key, FolderOutbox(Path(folder) / key.address)) for key in keys]
            found = await deploy(senders[0], Terms())
            ledger, inference = LedgerContract(chain, found.ledger), InferenceContract(chain, found.inference)
            provider, users = senders[0], senders[1 : 1 + max(USERS)]
            for user in users:
                await ledger.add(user, "add", 10**18)
                await ledger.transfer(user, "transfer", provider.address, "inference", 10**17)
                await inference.acknowledge(user, "acknowledge", provider.address, keys[-1].address)

            async def gas(nonce: int, lines: list[Line]) -> int:
                key = f"batch/{nonce}"
                terms = {"nonce": nonce, "deadline": DEADLINE}
                batch = await inference.settle(provider, key, keys[-1], provider.address, lines, **terms)
                assert batch.paid == (1 << len(lines)) - 1
                # the same key is the same transaction: asked again, its receipt
                sent = await FolderOutbox(Path(folder) / provider.address).find(key)
                assert sent is not None
                return int((await chain.web3.eth.get_transaction_receipt(sent.mined))["gasUsed"])

            await gas(0, [line(user.address, 1) for user in users])
            alone = await gas(1, [line(users[0].address, 1)])
            print(f"a settlement call for one receipt: {alone} gas")
            nonce = 2
            for size in SIZES:
                for count in USERS:
                    if count > size:
                        continue
                    spent = await gas(nonce, [line(user.address, size // count) for user in users[:count]])
                    nonce += 1
                    each = spent / (size // count * count)
                    print(f"{size:6} receipts of {count} users: {each:10.1f} gas each, 1/{alone / each:.0f} of a call for each")


if __name__ == "__main__":
    asyncio.run(main())
