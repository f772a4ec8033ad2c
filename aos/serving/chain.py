"""The chain of a broker alone in its process: a node, contracts that are there, and keys from files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aos.broker.chain import ChainSettings
from aos.chain.client import connected
from aos.chain.found import first_used, found
from aos.chain.keeping import ChainKeeper
from aos.chain.outbox import FolderOutbox
from aos.chain.transactions import Sender
from aos.chain_side import ChainSide
from aos.errors import AosError
from aos.serving.chain_settings import BrokerChain
from aos.settings import StartError
from aos.verification.keys import OperatorKey


@asynccontextmanager
async def running_chain(settings: BrokerChain) -> AsyncGenerator[ChainSide]:
    """Give the chain that complete settings speak of, until the block ends. Raises StartError."""
    assert settings.key is not None
    assert settings.folder is not None
    async with AsyncExitStack() as stack:
        try:
            chain = await stack.enter_async_context(connected(settings.rpc, chain_id=None))
            key = await asyncio.to_thread(OperatorKey.load, settings.key)
            folder = settings.folder / f"node-{chain.chain_id}"
            sender = Sender(chain, key, FolderOutbox(folder / key.address))
            addresses = await found(chain, settings.contracts)
            # a chain has a long past, in which nothing is looked for
            since = await first_used(chain, addresses, folder / "contracts.json", await chain.height())
            signers = [await asyncio.to_thread(_signer, Path(file)) for file in settings.signers]
        except (AosError, OSError, ValueError) as error:
            raise StartError(f"chain: {error}") from error
        by_address, confirmations = {one.address: one for one in signers}, settings.confirmations
        settler = ChainKeeper(sender, addresses, by_address, confirmations=confirmations, start=since)
        yield ChainSide(settings.rpc, settler.site, "", settler, ChainSettings(payers=settings.wallets()))


def _signer(file: Path) -> OperatorKey:
    # one that were made here would be no operator's
    if not file.is_file():
        raise ValueError(f"signers: there is no {file}")
    return OperatorKey.load(file)
