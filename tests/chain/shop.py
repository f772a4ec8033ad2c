"""A network's books and the settlement of its receipts on a chain, over files: a process may end at any time and another go on.

``python -m tests.chain.shop URL FOLDER LEDGER INFERENCE FINE_TUNING`` settles what there is, and ends.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from eth_account import Account

from aos.broker.accounts import Movement
from aos.broker.chain import ChainBatch, ChainSettings, Progress
from aos.broker.chain_calls import OnChain
from aos.broker.chain_duties import ChainDuties
from aos.broker.chain_settlement import ChainSettlement
from aos.broker.chain_turns import ChainTurns
from aos.broker.metrics import BrokerMetrics
from aos.broker.requests_servicer import RequestsServicer
from aos.broker.servicer import BrokerServicer
from aos.broker.settings import BrokerSettings
from aos.chain.client import Chain, connected
from aos.chain.deploy import Addresses
from aos.chain.keeping import ChainKeeper
from aos.chain.outbox import FolderOutbox
from aos.chain.transactions import Patience, Sender
from aos.clock import SystemClock
from aos.metrics import CollectorRegistry
from aos.rpc.auth import Caller, Kind
from aos.rpc.local import LocalChannel
from aos.rpc.server import Service
from aos.store.broker import SqlBrokerStore
from aos.store.broker_answers import SqlAnswerStore
from aos.store.broker_chain import SqlChainStore
from aos.store.broker_duties import SqlDutyStore
from aos.store.broker_ledger import SqlLedgerStore
from aos.store.broker_wallets import SqlWalletStore
from aos.store.opening import opened
from aos.testing.anvil import KEYS
from aos.v1 import broker_pb2 as pb
from aos.v1 import broker_pb2_grpc, requests_pb2, requests_pb2_grpc
from aos.verification.keys import OperatorKey
from aos.verification.receipts import digest, sign
from aos.verification.requests import statement_of
from aos.verification.wallets import INFERENCE, Contract
from tests.receipts import a_receipt

SETTLER, PAYER, OTHER, OPERATOR = 5, 1, 2, 3
"""Which of anvil's keys send batches, pay for ``accounts/p`` and ``accounts/q``, and sign receipts."""
QUICK = Patience(each=0.3, forms=2)


def a_key(at: int) -> OperatorKey:
    return OperatorKey(Account.from_key(KEYS[at]))


PROVIDER = a_key(OPERATOR).address


async def fund(deployment, at: int, amount: int, *, acknowledged: bool = True) -> None:
    """Give a wallet a sub-account with the operator."""
    user = deployment.sender(at)
    await deployment.ledger.add(user, "add", 10_000)
    await deployment.ledger.transfer(user, "transfer", PROVIDER, "inference", amount)
    if acknowledged:
        await deployment.inference.acknowledge(user, "ack", PROVIDER, PROVIDER)


async def left(deployment, at: int) -> int:
    return (await deployment.inference.balance(a_key(at).address, PROVIDER))[0]


@dataclass
class Shop:
    settlement: ChainSettlement
    settler: ChainKeeper
    store: SqlChainStore
    broker: broker_pb2_grpc.BrokerAsyncStub
    requests: requests_pb2_grpc.RequestsAsyncStub
    duties: ChainDuties
    turns: ChainTurns

    async def in_turn(self, **lasting: float) -> bool:
        """Settle, if it is this broker's turn."""
        return await self.turns.take(self.settlement.round, **lasting)

    async def pay(self, *prices: int, account: str = "accounts/p", first: int = 1) -> list[str]:
        """Run jobs of these prices to their end; return their receipts' names."""
        names = []
        for number, price in enumerate(prices, first):
            job = f"{account}/{number}".encode().rjust(32, b"\0")
            receipt = sign(a_receipt(job=job, price=str(price)), a_key(OPERATOR))
            await self.broker.Reserve(pb.ReserveRequest(hold=f"holds/{job.hex()}", account=account, amount="1000"))
            await self.broker.Settle(pb.SettleRequest(hold=f"holds/{job.hex()}", receipt=receipt))
            names.append(f"receipts/{digest(receipt).hex()}")
        return names

    async def serve(self, *prices: int, max_fee: int = 1000, noted: bool = True) -> list[str]:
        """Answer requests that the payer's wallet signed, paid from its sub-account with the operator; return receipts' names."""
        service, provider, wallet = {"provider": PROVIDER, "service": "inference"}, PROVIDER.lower(), a_key(PAYER)
        await self.broker.TransferFund(pb.TransferFundRequest(account="accounts/p", amount=str(max_fee * len(prices)), **service))
        await self.broker.AcknowledgeSigner(pb.AcknowledgeSignerRequest(account="accounts/p", signer=PROVIDER, **service))
        await self.requests.AuthorizeWallet(requests_pb2.AuthorizeWalletRequest(account="accounts/p", wallet=wallet.address))
        domain = await self.requests.GetRequestDomain(requests_pb2.GetRequestDomainRequest())
        where, names = Contract(domain.name, domain.chain_id, domain.verifying_contract), []
        for price in prices:
            job = secrets.token_bytes(32)
            request = requests_pb2.SignedRequest(
                account="accounts/p", user=wallet.address, provider=provider, service="m", body_hash=b"\1" * 32,
                max_fee=str(max_fee), nonce=secrets.randbits(62), expiry=int(time.time()) + 3600, chain_id=domain.chain_id,
            )  # fmt: skip
            request.signature = wallet.sign(statement_of(request, where))
            await self.requests.AdmitRequest(request)
            hold = f"holds/{job.hex()}"
            await self.broker.Reserve(pb.ReserveRequest(hold=hold, account="accounts/p", amount=str(max_fee), **service))
            if noted:
                note = requests_pb2.NoteJobRequest(user=wallet.address, nonce=request.nonce, job=f"jobs/{job.hex()}")
                await self.requests.NoteJob(note)
            receipt = sign(a_receipt(job=job, price=str(price)), a_key(OPERATOR))
            await self.broker.Settle(pb.SettleRequest(hold=hold, receipt=receipt))
            names.append(f"receipts/{digest(receipt).hex()}")
        return names

    async def paid(self, name: str) -> pb.PaidReceipt:
        return await self.broker.GetPaidReceipt(pb.GetPaidReceiptRequest(name=name))

    async def earned(self) -> int:
        """What the operator's account here has."""
        found = await self.broker.GetAccount(pb.GetAccountRequest(name=f"accounts/{a_key(OPERATOR).address.lower()}"))
        return int(found.available)

    async def batches(self, progress: Progress = Progress.SETTLED) -> list[ChainBatch]:
        return list(await self.store.batches(progress, 100))

    async def is_sound(self) -> bool:
        return (await self.broker.CheckInvariants(pb.CheckInvariantsRequest())).hold


@asynccontextmanager
async def open_shop(
    chain: Chain,
    folder: Path,
    addresses: Addresses,
    *,
    patience: Patience | None = None,
    confirmations: int = 0,
    valid: int = 86_400,
    database: str = "",
) -> AsyncIterator[Shop]:
    ids, operator, clock = count(1), a_key(OPERATOR), SystemClock()
    sender = Sender(chain, a_key(SETTLER), FolderOutbox(folder / "outbox"), patience)
    settler = ChainKeeper(sender, addresses, {operator.address: operator}, confirmations=confirmations)
    settings = ChainSettings(payers={"accounts/p": a_key(PAYER).address, "accounts/q": a_key(OTHER).address}, valid_seconds=valid)

    async def service(token: str) -> Caller:
        del token
        return Caller(Kind.SERVICE)

    async with opened(database or folder / "aos.db") as shared:
        await shared.migrate("broker", "wallets", "answers", "chain", "duties")
        money, store = SqlBrokerStore(shared), SqlChainStore(shared)
        servicer = BrokerServicer(
            money, SqlLedgerStore(shared), settings=BrokerSettings(), clock=clock, new_id=lambda: f"{folder}/{next(ids)}",
            metrics=BrokerMetrics(CollectorRegistry()), on_chain=OnChain(settler, store, settings),
        )  # fmt: skip
        served = Service(pb.DESCRIPTOR.services_by_name["Broker"], broker_pb2_grpc.add_BrokerServicer_to_server, servicer)
        contract = Contract(INFERENCE, chain.chain_id, addresses.inference)
        signing = RequestsServicer(
            SqlWalletStore(shared), SqlLedgerStore(shared), SqlAnswerStore(shared), settings=BrokerSettings(), contract=contract,
            clock=clock,
        )  # fmt: skip
        descriptor = requests_pb2.DESCRIPTOR.services_by_name["Requests"]
        asked = Service(descriptor, requests_pb2_grpc.add_RequestsServicer_to_server, signing)
        broker = broker_pb2_grpc.BrokerStub(LocalChannel(served, authenticate=service))
        requests = requests_pb2_grpc.RequestsStub(LocalChannel(asked, authenticate=service))
        settlement = ChainSettlement(
            settler, store, money, settings=settings, movement=lambda: Movement(f"{folder}/chain/{next(ids)}", clock.now())
        )
        for account in settings.payers:
            await broker.Deposit(pb.DepositRequest(account=account, amount=str(10**6), request_id=account))
        duties = ChainDuties(settler, store, SqlDutyStore(shared))
        yield Shop(settlement, settler, store, broker, requests, duties, ChainTurns(store))


async def main(url: str, folder: str, *addresses: str) -> None:
    async with connected(url) as chain, open_shop(chain, Path(folder), Addresses(*addresses)) as shop:
        await shop.settlement.round()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
