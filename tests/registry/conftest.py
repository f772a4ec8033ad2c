"""A registry behind a real server, over a database of either kind, with a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from aos.registry.node import running_registry
from aos.registry.settings import RegistrySettings
from aos.rpc.auth import Caller, FixedTokens, Kind
from aos.rpc.channel import channel
from aos.rpc.server import Service, serving
from aos.store.opening import opened
from aos.store.sql import SqlDatabase
from aos.testing.clock import ManualClock
from aos.v1 import registry_pb2 as pb
from aos.v1 import registry_pb2_grpc
from aos.v1.types_pb2 import Price
from aos.verification.keys import OperatorKey, prove

REGISTRY = pb.DESCRIPTOR.services_by_name["Registry"]


def an_offer(model: str = "m", *, digest: str = "aa" * 32, **changes) -> pb.Offer:
    given = {
        "context_length": 1024,
        "chat": True,
        "price": Price(prompt_token="1", completion_token="2"),
        "slots": 4,
    } | changes
    return pb.Offer(model=model, digest=digest, **given)


@dataclass
class Harness:
    stub: registry_pb2_grpc.RegistryAsyncStub
    clock: ManualClock
    address: str

    @property
    def second(self) -> int:
        return int(self.clock.now().timestamp())

    async def register(self, key: OperatorKey, *offers: pb.Offer, issued_at: int = 0) -> pb.OperatorInfo:
        what = list(offers or (an_offer(),))
        proof = prove(key, "register", what, issued_at=issued_at or self.second)
        return await self.stub.RegisterOperator(pb.RegisterOperatorRequest(proof=proof, offers=what))

    async def renew(self, key: OperatorKey, *, issued_at: int = 0) -> pb.OperatorInfo:
        proof = prove(key, "renew", [], issued_at=issued_at or self.second)
        return await self.stub.RenewOperator(pb.RenewOperatorRequest(proof=proof))

    async def unregister(self, key: OperatorKey) -> pb.OperatorInfo:
        proof = prove(key, "unregister", [], issued_at=self.second)
        return await self.stub.UnregisterOperator(pb.UnregisterOperatorRequest(proof=proof))

    async def operator(self, key: OperatorKey) -> pb.OperatorInfo:
        return await self.stub.GetOperator(pb.GetOperatorRequest(name=f"operators/{key.address}"))

    async def model(self, name: str = "m") -> pb.Model:
        return await self.stub.GetModel(pb.GetModelRequest(name=name))


async def project(token: str) -> Caller | None:
    return Caller(Kind.PROJECT, "projects/p") if token == "project-token" else None


@asynccontextmanager
async def running(address: str, *, clock: ManualClock, settings: RegistrySettings | None = None) -> AsyncGenerator[Harness]:
    async with opened(address) as database, running_over(database, clock=clock, settings=settings) as harness:
        yield harness


@asynccontextmanager
async def running_over(
    database: SqlDatabase, *, clock: ManualClock, settings: RegistrySettings | None = None
) -> AsyncGenerator[Harness]:
    tokens = FixedTokens(admin="admin-token", service="service-token", otherwise=project)
    async with running_registry(database, settings=settings, clock=clock) as node:
        service = Service(REGISTRY, registry_pb2_grpc.add_RegistryServicer_to_server, node.servicer)
        async with (
            serving(service, authenticate=tokens, grace=0) as (port,),
            channel(f"127.0.0.1:{port}", "project-token") as stub,
        ):
            yield Harness(registry_pb2_grpc.RegistryStub(stub), clock, f"127.0.0.1:{port}")


@pytest.fixture
def key() -> OperatorKey:
    return OperatorKey.create()


@pytest_asyncio.fixture
async def registry(database_address: str) -> AsyncGenerator[Harness]:
    async with running(database_address, clock=ManualClock()) as harness:
        yield harness
