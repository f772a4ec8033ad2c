"""Contracts that are on a chain already: named by an address or a file, and looked at before they are believed."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, cast

from aos.chain.client import Chain, checked
from aos.chain.deploy import Addresses
from aos.chain.ledger import LedgerContract
from aos.chain.serving import InferenceContract
from aos.errors import ChainRefused, InvalidField

FILE_BYTES: Final = 64 * 1024
"""Longest file that names contracts."""
AT: Final = "chain_contracts"


async def found(chain: Chain, named: str) -> Addresses:
    """Return the contracts of the ledger at this address, or of the file with this name.

    Raises InvalidField if there are none, if they are not each other's, or if the file says otherwise; and as Chain.ask does.
    """
    said = {"ledger": named} if named.lower().startswith("0x") else await asyncio.to_thread(_read, Path(named))
    other = said.get("chain_id", chain.chain_id)
    if other != chain.chain_id:
        raise InvalidField(AT, f"are on chain {other}, not {chain.chain_id}", value=other, limit=chain.chain_id)
    ledger = str(checked(said["ledger"]))
    try:
        inference, fine_tuning = await LedgerContract(chain, ledger).services()
        back = await InferenceContract(chain, inference).ledger()
    except ChainRefused:
        raise _none_there(chain, ledger) from None
    except Exception as error:
        if not await chain.has_code(ledger):  # web3 has several kinds for an answer that is empty
            raise _none_there(chain, ledger) from error
        raise
    there = Addresses(ledger, str(checked(inference)), str(checked(fine_tuning)))
    if checked(back) != ledger:
        raise InvalidField(AT, f"the inference contract {there.inference} has another ledger, {back}", value=ledger, limit=back)
    for name in ("inference", "fine_tuning"):
        right = str(getattr(there, name))
        if checked(str(said.get(name, right))) != right:
            raise InvalidField(AT, f"the ledger's {name} is {right}", value=said[name], limit=right)
    return there


async def first_used(chain: Chain, addresses: Addresses, file: Path, height: int) -> int:
    """Return the block at which these contracts were first used here: kept in the file, else ``height``, which is kept then.

    Raises InvalidField for a file that is no JSON.
    """
    said = asdict(addresses) | {"chain_id": chain.chain_id}
    kept = await asyncio.to_thread(lambda: _read(file) if file.is_file() else {})
    if all(kept.get(name) == value for name, value in said.items()):
        return int(kept.get("block", 0))
    await asyncio.to_thread(_write, file, said | {"block": height})
    return height


def _write(file: Path, said: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(said, indent=2) + "\n")


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open() as opened:
            said: object = json.loads(opened.read(FILE_BYTES))
    except (OSError, ValueError) as error:
        raise InvalidField(AT, f"{file} cannot be read: {error}", value=file, limit="a JSON file, or an address") from error
    if not isinstance(said, dict) or "ledger" not in said:
        raise InvalidField(AT, f"{file} names no ledger", value=file, limit='{"ledger": "0x…"}')
    return cast(dict[str, Any], said)


def _none_there(chain: Chain, ledger: str) -> InvalidField:
    problem = f"there is no ledger of ours at {ledger} on chain {chain.chain_id}"
    return InvalidField(AT, problem, value=ledger, limit="a ledger's address")
