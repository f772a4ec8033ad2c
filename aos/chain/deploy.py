"""Put the three contracts on a chain, and find them again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import rlp
from eth_utils.address import to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak

from aos.chain.artifacts import Name, artifact
from aos.chain.transactions import Sender
from aos.errors import InvalidField

DAY: Final = 86_400
HOUR: Final = 3_600


@dataclass(frozen=True, slots=True)
class Terms:
    """What is fixed for ever when the contracts are deployed. Times in seconds, money in wei."""

    lock_time: int = DAY
    """Between a refund's request and its release."""
    window: int = DAY
    """In which a settled receipt can be disputed."""
    answer_time: int = 6 * HOUR
    """In which the provider must answer a dispute."""
    bond: int = 10**15
    """What opening a dispute costs: at least what answering one costs the provider."""
    acknowledge_time: int = 2 * DAY
    """In which a user must acknowledge a deliverable."""
    penalty: int = 30
    """Hundredths of the fee that a deliverable costs which was not acknowledged."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the contracts are, EIP-55."""

    ledger: str
    inference: str
    fine_tuning: str


def contract_address(sender: str, nonce: int) -> str:
    """Return where the contract will be that this transaction creates."""
    return to_checksum_address(keccak(rlp.encode([to_canonical_address(sender), nonce]))[12:])


def planned(sender: str, nonce: int) -> Addresses:
    """Return the addresses of a deployment that begins with this nonce: inference, fine-tuning, ledger, in this order.

    They name each other in their constructors, so that none of them needs an owner who introduces them later.
    """
    return Addresses(contract_address(sender, nonce + 2), contract_address(sender, nonce), contract_address(sender, nonce + 1))


def creations(addresses: Addresses, terms: Terms) -> list[tuple[Name, tuple[str | int, ...]]]:
    """Return the contracts in the order of their creation, with their constructors' arguments."""
    return [
        ("InferenceServing", (addresses.ledger, terms.lock_time, terms.window, terms.answer_time, terms.bond)),
        ("FineTuningServing", (addresses.ledger, terms.lock_time, terms.acknowledge_time, terms.penalty)),
        ("Ledger", (addresses.inference, addresses.fine_tuning)),
    ]


FIRST: Final = "deploy/aos/0"
"""The key of the first transaction of a deployment that nobody gave another name."""


async def deploy(sender: Sender, terms: Terms, *, name: str = "aos") -> Addresses:
    """Deploy the contracts, or find them where the same call, under this name, deployed them. Raises as Sender.send does.

    Raises InvalidField if another transaction of this key came between: take another name then.
    """
    chain, first = sender.chain, await sender.first_nonce(f"deploy/{name}/0")
    addresses = planned(sender.address, first)
    for at, (contract, arguments) in enumerate(creations(addresses, terms)):
        made = artifact(contract)
        created = chain.web3.eth.contract(abi=made.abi, bytecode=made.bytecode)
        receipt = await sender.send(f"deploy/{name}/{at}", created.constructor(*arguments))
        wanted = contract_address(sender.address, first + at)
        if receipt["contractAddress"] != wanted:
            raise InvalidField("name", "is of a deployment that another transaction broke up", value=name, limit=wanted)
    return addresses
