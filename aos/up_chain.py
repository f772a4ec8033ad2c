"""The chain of a network on one machine: anvil, or a node that there is; the contracts on it; and what settles receipts there."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from aos.broker.chain import ChainSettings
from aos.chain.client import Chain, connected
from aos.chain.deploy import FIRST, Addresses, Terms, deploy
from aos.chain.found import first_used, found
from aos.chain.keeping import ChainKeeper
from aos.chain.ledger import LedgerContract
from aos.chain.outbox import FolderOutbox
from aos.chain.serving import InferenceContract
from aos.chain.transactions import Sender
from aos.chain_side import ChainSide
from aos.errors import AosError
from aos.settings import NEURONS, NetworkSettings, StartError
from aos.testing.anvil import CHAIN_ID, KEYS, running_anvil
from aos.testing.anvil_binary import NoAnvil
from aos.verification.keys import OperatorKey

FOLDER: Final = "chain"
"""In the data folder: the development chain's state, and what was sent."""
KEY: Final = "AOS_CHAIN_KEY"
"""Environment variable with the key, 64 hex digits, that pays for transactions on a given node."""
KEY_FILE: Final = "chain.key"
"""In the data folder: the same key, if the variable is not set. Made if it is not there."""
WELCOME: Final = 10 * NEURONS
"""What the project's wallet puts into its ledger on the development chain."""
SHARE: Final = NEURONS
"""What it gives to each operator of that."""


@asynccontextmanager
async def running_chain(settings: NetworkSettings, data: Path, keys: Sequence[OperatorKey]) -> AsyncGenerator[ChainSide]:
    """Give the chain that the settings ask for, the contracts on it, until the block ends. ``keys`` are the operators'.

    Without a URL it is anvil, its state in the data folder, and the project's wallet is a known one with money at every operator.
    Raises StartError.
    """
    folder = data / FOLDER
    async with AsyncExitStack() as stack:
        try:
            url = settings.chain_rpc or (await stack.enter_async_context(running_anvil(state=folder / "anvil"))).url
            chain = await stack.enter_async_context(connected(url, chain_id=None if settings.chain_rpc else CHAIN_ID))
            outboxes = folder / (f"node-{chain.chain_id}" if settings.chain_rpc else "sent")
            key = _sending_key(data, os.environ) if settings.chain_rpc else OperatorKey.from_hex(KEYS[0])
            sender = Sender(chain, key, FolderOutbox(outboxes / key.address))
            addresses, since = await _contracts(settings, sender, folder)
            payers = {f"accounts/{project}": wallet for project, wallet in settings.chain_payers}
            if not settings.chain_rpc:
                payers.setdefault(f"accounts/{settings.project}", await _welcome(chain, addresses, outboxes, keys))
        except NoAnvil as error:
            raise StartError(f"chain: {error}") from None
        except (AosError, ValueError) as error:
            raise StartError(f"chain: {error}") from error
        confirmations = settings.chain_confirmations
        settler = ChainKeeper(sender, addresses, {one.address: one for one in keys}, confirmations=confirmations, start=since)
        wallet = payers.get(f"accounts/{settings.project}", "")
        yield ChainSide(url, settler.site, wallet, settler, ChainSettings(payers=payers))


async def _contracts(settings: NetworkSettings, sender: Sender, folder: Path) -> tuple[Addresses, int]:
    """Return where the contracts are, named, deployed before, or deployed now, and the block before which nothing of ours is.

    Raises StartError, and as ``found`` and Sender.send do.
    """
    chain, file = sender.chain, folder / f"contracts-{sender.chain.chain_id}.json"
    if not settings.chain_rpc:
        addresses = await deploy(sender, Terms())
        await _check_there(chain, addresses, folder)
        return addresses, 0
    # a chain has a long past, in which nothing is looked for
    height = await chain.height()
    # a folder that deployed before there was the file goes on with what it has
    if settings.chain_deploy or (not settings.chain_contracts and await sender.is_spent(FIRST)):
        addresses = await deploy(sender, Terms())
        await _check_there(chain, addresses, folder)
    elif settings.chain_contracts or file.is_file():
        addresses = await found(chain, settings.chain_contracts or str(file))
    else:
        raise StartError(
            "chain: chain-rpc needs contracts: --chain-contracts ADDRESS|FILE for those that are there, or --chain-deploy"
        )
    return addresses, await first_used(chain, addresses, file, height)


def _sending_key(data: Path, environment: Mapping[str, str]) -> OperatorKey:
    """Return the key that pays for transactions. Raises ValueError, which does not repeat it, for what is none."""
    given = environment.get(KEY)
    if given is None:
        return OperatorKey.load(data / KEY_FILE)
    try:
        return OperatorKey.from_hex(given)
    except ValueError:
        raise ValueError(f"{KEY} holds no key: 64 hex digits are needed") from None


async def _check_there(chain: Chain, addresses: Addresses, folder: Path) -> None:
    """Raise StartError if the contracts are not where they were deployed: the chain is not the one that it was."""
    for address in (addresses.ledger, addresses.inference, addresses.fine_tuning):
        if not await chain.has_code(address):
            raise StartError(f"chain: no contract at {address} any more; the chain lost its state. Remove {folder} to begin anew.")


async def _welcome(chain: Chain, addresses: Addresses, outboxes: Path, keys: Sequence[OperatorKey]) -> str:
    """Give the project's wallet a ledger and money at each operator, once. Returns its address."""
    wallet = OperatorKey.from_hex(KEYS[1])
    user = Sender(chain, wallet, FolderOutbox(outboxes / wallet.address))
    ledger, inference = LedgerContract(chain, addresses.ledger), InferenceContract(chain, addresses.inference)
    await ledger.add(user, "welcome", WELCOME)
    for key in keys:
        await ledger.transfer(user, f"welcome/{key.address}", key.address, "inference", SHARE)
        await inference.acknowledge(user, f"acknowledge/{key.address}", key.address, key.address)
    return wallet.address
