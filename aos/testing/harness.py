"""The whole network in this process: real servers, store and operators; model, clock and Envoy as the test wants."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from aos.addresses import LOOPBACK, Network
from aos.broker.settings import BrokerSettings
from aos.client import Client
from aos.clock import Clock
from aos.dispatcher.settings import DispatcherSettings
from aos.operator.model import Model
from aos.operator.node import OperatorNode, running_operator
from aos.operator.rendering import Renderer
from aos.operator.settings import QuestionSettings
from aos.operator.tee import SimulatedEvidence
from aos.operator.upstream_settings import UpstreamSettings
from aos.registry.settings import RegistrySettings
from aos.rpc.channel import channel
from aos.rpc.status import answered
from aos.serve import running_services
from aos.settings import bundled_controllers
from aos.storage.blobs import BlobLimits
from aos.telemetry import Telemetry
from aos.testing.clock import ManualClock
from aos.testing.scripted import ScriptedModel
from aos.v1 import (
    broker_pb2,
    broker_pb2_grpc,
    dispatcher_pb2,
    dispatcher_pb2_grpc,
    operator_pb2_grpc,
    registry_pb2,
    registry_pb2_grpc,
)
from aos.v1.types_pb2 import Price
from aos.verification.attestation.policy import Policy
from aos.verification.attestation.simulated import image
from aos.verification.keys import OperatorKey
from aos.verification.vrf import SEED_BYTES, VrfKey

MODEL: Final = "scripted"
"""What a test's model is called, unless told otherwise."""
PROJECT: Final = "demo"
ADMIN_TOKEN: Final = "the-administrator-of-a-test"  # noqa: S105  # guards a network that lives for one test
BALANCE: Final = 10**18
PRICE: Final = Price(prompt_token="1", completion_token="2")
READY_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Aos:
    """A running network. ``client`` and its stubs are called as the project, ``admin`` as the administrator."""

    client: Client
    operator: operator_pb2_grpc.OperatorAsyncStub
    """The first operator's own service, called as its owner."""
    admin: Client
    clock: Clock
    models: tuple[Model | Renderer, ...]
    """One an operator."""
    operators: tuple[str, ...]
    """The operators' addresses, in the order of their models."""
    project: str
    token: str
    admin_token: str
    address: str
    """Where gRPC is served: `unix:…`, or Envoy's `host:port` if there is one."""
    url: str
    """Where Envoy serves REST; empty without Envoy."""

    @property
    def dispatcher(self) -> dispatcher_pb2_grpc.DispatcherAsyncStub:
        """The Dispatcher, called as the project."""
        return self.client.dispatcher

    @property
    def registry(self) -> registry_pb2_grpc.RegistryAsyncStub:
        """The Registry, called as the project."""
        return self.client.registry

    @property
    def broker(self) -> broker_pb2_grpc.BrokerAsyncStub:
        """The Broker, called as the project."""
        return self.client.broker

    @property
    def model(self) -> ScriptedModel:
        """The first operator's model, if it is scripted."""
        first = self.models[0]
        if not isinstance(first, ScriptedModel):
            raise TypeError("this network runs a real model")
        return first


@asynccontextmanager
async def running_aos(
    *models: Model | Renderer,
    name: str = MODEL,
    envoy: bool = False,
    clock: Clock | None = None,
    database: str | Path = ":memory:",
    balance: int = BALANCE,
    open_to_all: bool = False,
    telemetry: Telemetry | None = None,
    dispatcher: DispatcherSettings | None = None,
    vrf: bool = False,
    questions: QuestionSettings | None = None,
    attested: int = 0,
    blobs: BlobLimits | None = None,
    controllers: bool = False,
    picture_networks: Sequence[Network] = LOOPBACK,
    upstreams: UpstreamSettings | None = None,
    broker: BrokerSettings | None = None,
) -> AsyncGenerator[Aos]:
    """Run a network until the block ends; nothing of it is left.

    One operator a model, all offering it as ``name``; without models, one operator with a ScriptedModel. ``clock`` is a ManualClock
    unless one is given. ``database`` may be a file, to be opened again by a later network. ``open_to_all`` lets callers without a
    token act as the project. ``telemetry`` traces the dispatcher's jobs and the operators' answers. ``dispatcher`` are its
    settings. With ``vrf``, operators have VRF keys and can be drawn to check each other's jobs. ``questions`` are the limits of
    questions to an operator; unless they are given, callbacks may go to this machine, and nowhere else that is not public. The
    first ``attested`` operators run in a simulated TEE, whose evidence the network takes. Pictures may come from
    ``picture_networks``, too; ``blobs`` are the limits of their files. With ``controllers``, those that come with the package are
    there. With ``upstreams``, operators host model servers that are
    registered, those without a key included. ``broker`` are the settings of ledgers.
    """
    models = models or (ScriptedModel(),)
    clock = clock or ManualClock()
    tee, limits = Policy(images=(image(),), production=False) if attested else Policy(), dispatcher or DispatcherSettings()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        services = await enter(
            running_services(
                database,
                admin_token=ADMIN_TOKEN,
                clock=clock,
                operators=len(models),
                dispatcher=replace(limits, tee=tee) if attested else limits,
                registry=RegistrySettings(tee=tee, unsigned=open_to_all),
                broker=broker,
                open_as=f"projects/{PROJECT}" if open_to_all else "",
                telemetry=telemetry,
                blobs=blobs,
                controllers=bundled_controllers() if controllers else None,
                picture_networks=picture_networks,
                grace=0,
            )
        )
        admin = Client(await enter(channel(services.address, ADMIN_TOKEN)))
        token = await _project(admin, balance)
        if controllers:
            await services.installed
        outward = await enter(channel(services.address))
        running = [
            await enter(
                running_operator(
                    OperatorKey.create(),
                    {name: model},
                    registry=outward,
                    dispatcher=outward,
                    price=PRICE,
                    clock=clock,
                    random=random.Random(number).random,  # noqa: S311  # jitter
                    slots=None if isinstance(model, Renderer) else model.slots,
                    grace=0,
                    telemetry=telemetry,
                    vrf=VrfKey(secrets.token_bytes(SEED_BYTES)) if vrf else None,
                    tee=SimulatedEvidence(clock) if number < attested else None,
                    upstreams=upstreams,
                    unaddressed=True,
                )
            )
            for number, model in enumerate(models)
        ]
        await _ready(admin, name, running)
        direct = [
            await enter(_served(one, at, clock, questions, open_to_all=open_to_all))
            for one, at in zip(running, services.operators, strict=True)
        ]
        address, url = services.address, ""
        if envoy:
            url = await enter(_envoy(services.address, services.operators[0]))
            address = url.removeprefix("http://")
        mine = Client(await enter(channel(address, token)), clock=clock)
        yield Aos(
            client=mine,
            operator=direct[0],
            admin=admin,
            clock=clock,
            models=models,
            operators=tuple(one.address for one in running),
            project=f"projects/{PROJECT}",
            token=token,
            admin_token=ADMIN_TOKEN,
            address=address,
            url=url,
        )


async def _project(admin: Client, balance: int) -> str:
    """Make the project, or give it a new token if the database has it already; fill its account once."""
    from aos.errors import ProjectExists

    try:
        made = await answered(admin.dispatcher.CreateProject(dispatcher_pb2.CreateProjectRequest(project_id=PROJECT)))
    except ProjectExists:
        again = dispatcher_pb2.RotateProjectTokenRequest(name=f"projects/{PROJECT}")
        made = await answered(admin.dispatcher.RotateProjectToken(again))
    if balance:
        deposit = broker_pb2.DepositRequest(account=f"accounts/{PROJECT}", amount=str(balance), request_id="welcome")
        await answered(admin.broker.Deposit(deposit))
    return made.token


async def _ready(admin: Client, name: str, running: list[OperatorNode]) -> None:
    """Return once all operators are attached and the registry offers all of them."""
    from aos.errors import ModelNotFound

    async with asyncio.timeout(READY_SECONDS):
        for operator in running:
            await operator.attached()
        while True:
            try:
                model = await answered(admin.registry.GetModel(registry_pb2.GetModelRequest(name=name)))
            except ModelNotFound:
                model = registry_pb2.Model()
            if len(model.operators) == len(running):
                return
            await asyncio.sleep(0.005)


@asynccontextmanager
async def _served(
    node: OperatorNode, address: str, clock: Clock, questions: QuestionSettings | None, *, open_to_all: bool
) -> AsyncGenerator[operator_pb2_grpc.OperatorAsyncStub]:
    from aos.serve_operator import serving_operator

    async with (
        serving_operator(
            node,
            listen=address,
            token=ADMIN_TOKEN,
            questions=":memory:",
            settings=questions or QuestionSettings(networks=LOOPBACK),
            clock=clock,
            random=random.Random(0).random,  # noqa: S311  # jitter
            open_to_all=open_to_all,
        ),
        channel(address, ADMIN_TOKEN) as opened,
    ):
        yield operator_pb2_grpc.OperatorStub(opened)


@asynccontextmanager
async def _envoy(address: str, operator: str) -> AsyncGenerator[str]:
    from gateway.envoy.run import EnvoySettings, running_envoy

    upstream, beside = address.removeprefix("unix:"), operator.removeprefix("unix:")
    async with running_envoy(EnvoySettings(port=0, upstream=upstream, operator=beside, drain_seconds=0)) as port:
        yield f"http://127.0.0.1:{port}"
