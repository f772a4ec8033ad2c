"""A connection to a chain: views, with every wait bounded, and refusals with the contract's own words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import aiohttp
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.contract import AsyncContract
from web3.contract.async_contract import AsyncContractFunction
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3RPCError

from aos.chain.artifacts import Name, artifact
from aos.errors import ChainRefused, InvalidField, ServiceUnavailable

CALL_SECONDS: Final = 10.0
"""How long one question to the chain may take."""
_T = TypeVar("_T")
_REVERTED: Final = "execution reverted"


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain that answers, and is the one that was meant."""

    web3: AsyncWeb3[Any]
    chain_id: int

    async def ask(self, question: Awaitable[_T]) -> _T:
        """Return the chain's answer. Raises ServiceUnavailable if there is none in time, ChainRefused with the words of a
        contract or the node, and TransactionNotFound.
        """
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await question
        except TransactionNotFound:
            raise
        except (ContractLogicError, Web3RPCError) as error:
            raise ChainRefused(_words(error)) from None
        except (TimeoutError, OSError, aiohttp.ClientError):
            raise ServiceUnavailable("chain") from None

    def contract(self, name: Name, address: str) -> AsyncContract:
        """Return the contract at this address."""
        return cast(AsyncContract, self.web3.eth.contract(address=checked(address), abi=artifact(name).abi))

    async def view(self, call: AsyncContractFunction) -> Any:
        """Return what a view returns, as of the latest block."""
        return await self.ask(call.call())

    async def balance(self, address: str) -> int:
        """Return what an address has, in neurons."""
        return int(await self.ask(self.web3.eth.get_balance(checked(address))))

    async def has_code(self, address: str) -> bool:
        """Return whether there is a contract at this address."""
        return bool(await self.ask(self.web3.eth.get_code(checked(address))))

    async def height(self) -> int:
        """Return the latest block's number."""
        return int(await self.ask(self.web3.eth.block_number))

    async def now(self) -> int:
        """Return the latest block's time, seconds since 1970: the clock that contracts go by."""
        block = await self.ask(self.web3.eth.get_block("latest"))
        return int(block.get("timestamp", 0))


@asynccontextmanager
async def connected(url: str, *, chain_id: int | None = None) -> AsyncGenerator[Chain]:
    """Connect to the node at this URL until the block ends. Raises ServiceUnavailable, or InvalidField if it has another chain."""
    provider = AsyncHTTPProvider(url, request_kwargs={"timeout": aiohttp.ClientTimeout(total=CALL_SECONDS)})
    web3: AsyncWeb3[Any] = AsyncWeb3(provider)
    try:
        found = await Chain(web3, 0).ask(web3.eth.chain_id)
        if chain_id is not None and found != chain_id:
            raise InvalidField("chain_rpc", f"is of chain {found}, not {chain_id}", value=found, limit=chain_id)
        yield Chain(web3, found)
    finally:
        await provider.disconnect()


def _words(error: Web3RPCError | ContractLogicError) -> str:
    """The contract's words, or the node's."""
    words = str(error.message or "").removeprefix(_REVERTED).removeprefix(": ").strip()
    return words or "it gave no reason"


def checked(address: str) -> Any:
    """Return the address in EIP-55. Raises InvalidField for what is none."""
    if not AsyncWeb3.is_address(address):
        raise InvalidField("address", "must be 0x and 40 hex digits", value=address)
    return AsyncWeb3.to_checksum_address(address)
