"""A broker behind a real server, over a database of either kind, with a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count

import pytest
import pytest_asyncio

from aos.broker.node import running_broker
from aos.broker.settings import BrokerSettings
from aos.rpc.auth import Caller, FixedTokens, Kind
from aos.rpc.channel import channel
from aos.rpc.server import Service, serving
from aos.store.opening import opened
from aos.store.sql import SqlDatabase
from aos.testing.clock import ManualClock
from aos.v1 import broker_pb2 as pb
from aos.v1 import broker_pb2_grpc
from aos.v1.receipt_pb2 import Receipt
from aos.verification.keys import OperatorKey
from aos.verification.receipts import sign
from tests.receipts import JOB, a_receipt

BROKER = pb.DESCRIPTOR.services_by_name["Broker"]
HOLD = f"holds/{JOB.hex()}"


class Harness:
    """The four kinds of caller, and short names for what they ask."""

    def __init__(self, stubs: dict[str, broker_pb2_grpc.BrokerAsyncStub], clock: ManualClock, database: SqlDatabase) -> None:
        self.project, self.other, self.admin, self.service, self.nobody, self.disguised = (
            stubs[name] for name in ("project", "other", "admin", "service", "", "disguised")
        )
        self.clock, self.database = clock, database

    async def deposit(self, amount: int, *, account: str = "accounts/p", request_id: str = "r1") -> pb.Account:
        return await self.admin.Deposit(pb.DepositRequest(account=account, amount=str(amount), request_id=request_id))

    async def reserve(self, amount: int, *, account: str = "accounts/p", hold: str = HOLD) -> pb.Hold:
        return await self.service.Reserve(pb.ReserveRequest(hold=hold, account=account, amount=str(amount)))

    async def settle(self, receipt: Receipt | None = None, *, hold: str = HOLD) -> pb.Hold:
        return await self.service.Settle(pb.SettleRequest(hold=hold, receipt=receipt))

    async def transfer(self, amount: int, provider: str, *, service: str = "inference", request_id: str = "") -> pb.SubAccount:
        request = pb.TransferFundRequest(provider=provider, service=service, amount=str(amount), request_id=request_id)
        return await self.project.TransferFund(request)

    async def acknowledge(self, provider: str, signer: str = "", *, service: str = "inference") -> pb.SubAccount:
        request = pb.AcknowledgeSignerRequest(provider=provider, service=service, signer=signer or provider)
        return await self.project.AcknowledgeSigner(request)

    async def sub(self, provider: str, *, service: str = "inference") -> pb.SubAccount:
        return await self.project.GetSubAccount(pb.GetSubAccountRequest(provider=provider, service=service))

    async def ledger(self) -> pb.Ledger:
        return await self.project.GetLedger(pb.GetLedgerRequest())

    async def check(self) -> list[str]:
        """The invariants that are broken."""
        found = await self.admin.CheckInvariants(pb.CheckInvariantsRequest())
        return [one.name for one in found.invariants if not one.holds]

    async def pots(self, account: str = "accounts/p") -> tuple[int, int]:
        found = await self.admin.GetAccount(pb.GetAccountRequest(name=account))
        return int(found.available), int(found.held)

    async def journal(self) -> list[pb.Entry]:
        return list((await self.admin.ListEntries(pb.ListEntriesRequest(page_size=1000))).entries)


ADDRESS = "0x" + "ab" * 20


async def projects(token: str) -> Caller | None:
    known = {"project": "projects/p", "other": "projects/q", "disguised": f"projects/{ADDRESS}"}
    return Caller(Kind.PROJECT, known[token]) if token in known else None


@asynccontextmanager
async def running(
    address: str, *, clock: ManualClock | None = None, settings: BrokerSettings | None = None
) -> AsyncGenerator[Harness]:
    clock, ids = clock or ManualClock(), count(1)
    tokens = FixedTokens(admin="admin", service="service", otherwise=projects)
    async with (
        opened(address) as database,
        running_broker(database, settings=settings, clock=clock, new_id=lambda: f"t{next(ids)}") as node,
    ):
        service = Service(BROKER, broker_pb2_grpc.add_BrokerServicer_to_server, node.servicer)
        async with serving(service, authenticate=tokens, grace=0) as (port,):
            at = f"127.0.0.1:{port}"
            async with (
                channel(at, "project") as project,
                channel(at, "other") as other,
                channel(at, "admin") as admin,
                channel(at, "service") as own,
                channel(at) as nobody,
                channel(at, "disguised") as disguised,
            ):
                channels = {
                    "project": project, "other": other, "admin": admin, "service": own, "": nobody, "disguised": disguised,
                }  # fmt: skip
                yield Harness({name: broker_pb2_grpc.BrokerStub(one) for name, one in channels.items()}, clock, database)


@pytest.fixture(scope="session")
def key() -> OperatorKey:
    return OperatorKey.create()


@pytest.fixture
def signed(key):
    """A receipt for the hold's job, signed: ``signed(price=5)``."""
    return lambda price=11, job=JOB: sign(a_receipt(job=job, price=str(price)), key)


@pytest_asyncio.fixture
async def broker(database_address: str) -> AsyncGenerator[Harness]:
    async with running(database_address) as harness:
        yield harness
