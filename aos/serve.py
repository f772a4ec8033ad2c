"""The one place where parts meet: stores, slices, servers and dialects become a network, and end in order."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import grpc

from aos.addresses import Network
from aos.broker.chain import ChainSettings
from aos.broker.chain_store import DutyChain
from aos.broker.node import running_broker
from aos.broker.settings import BrokerSettings
from aos.clock import Clock
from aos.dispatcher.node import running_dispatcher
from aos.dispatcher.settings import DispatcherSettings
from aos.fetch import fetcher
from aos.metrics import CollectorRegistry, exposition
from aos.registry.node import running_registry
from aos.registry.settings import RegistrySettings
from aos.rpc.auth import Authenticator, Caller, FixedTokens, Kind
from aos.rpc.channel import channel
from aos.rpc.local import LocalChannel
from aos.rpc.server import Service, serving
from aos.storage.blobs import BlobLimits, Blobs
from aos.storage.modules import ModuleFiles
from aos.store.sqlite import sqlite_file
from aos.telemetry import Telemetry
from aos.v1 import (
    blobs_pb2,
    blobs_pb2_grpc,
    broker_pb2,
    broker_pb2_grpc,
    callbacks_pb2,
    callbacks_pb2_grpc,
    controllers_pb2,
    controllers_pb2_grpc,
    dispatcher_pb2,
    dispatcher_pb2_grpc,
    registry_pb2,
    registry_pb2_grpc,
    requests_pb2,
    requests_pb2_grpc,
)
from aos.verification.keys import OperatorKey
from aos.verification.requests import EMBEDDED
from aos.verification.wallets import Contract
from gateway.ai_projects import AiProjectsServicer
from gateway.aici import AiciServicer
from gateway.images import ImagesServicer
from gateway.jobs import JobsServicer
from gateway.metrics import MetricsServicer
from gateway.models import ModelsServicer
from gateway.operators import OperatorsServicer
from gateway.opml_callbacks import OpmlCallbacksServicer
from gateway.pages import PagesServicer
from gateway.projects import ProjectsServicer
from gateway.v1 import (
    ai_projects_pb2,
    ai_projects_pb2_grpc,
    aici_pb2,
    aici_pb2_grpc,
    images_pb2,
    images_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    metrics_pb2,
    metrics_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    operators_pb2,
    operators_pb2_grpc,
    opml_pb2,
    opml_pb2_grpc,
    pages_pb2,
    pages_pb2_grpc,
    projects_pb2,
    projects_pb2_grpc,
    zerog_pb2,
    zerog_pb2_grpc,
)
from gateway.zerog import ZerogServicer

DATABASE: Final = "aos.db"
IN_MEMORY: Final = ":memory:"
"""A database that is no file."""
ANSWERS_KEY: Final = ".answers.key"
"""Ends the name of the file of the key that signs answers, beside the database."""
BLOBS: Final = ".blobs"
"""Ends the name of the folder for pictures' files, beside the database."""
MODULES: Final = ".controllers"
"""Ends the name of the folder for controllers' modules, beside the database."""


@dataclass(frozen=True, slots=True)
class Services:
    """The running services of one machine."""

    address: str
    """Where they serve: `unix:…`."""
    folder: Path
    """A private folder for sockets, gone when they stop."""
    operators: tuple[str, ...]
    """Where the operators beside them are expected to serve, `unix:…`, so that their metrics are found."""
    ports: list[int]
    """Of the further addresses, in their order."""
    installed: asyncio.Task[None]
    """Ends when the controllers that come with the package are there."""


async def a_service(token: str) -> Caller:
    """Take whoever calls within this process for a service of the network."""
    del token
    return Caller(Kind.SERVICE)


async def as_project(token: str) -> Caller:
    """Take a project's name for its token: for calls within this process that were let in otherwise."""
    return Caller(Kind.PROJECT, token)


async def nobody(token: str) -> None:
    """Know no token."""
    del token


@asynccontextmanager
async def running_services(
    database: str | Path,
    *,
    admin_token: str,
    clock: Clock,
    addresses: tuple[str, ...] = (),
    operators: int = 0,
    open_as: str = "",
    dispatcher: DispatcherSettings | None = None,
    registry: RegistrySettings | None = None,
    broker: BrokerSettings | None = None,
    telemetry: Telemetry | None = None,
    blobs: BlobLimits | None = None,
    controllers: Path | None = None,
    picture_networks: Sequence[Network] = (),
    contract: Contract = EMBEDDED,
    chain: DutyChain | None = None,
    chain_settings: ChainSettings | None = None,
    grace: float = 10.0,
) -> AsyncGenerator[Services]:
    """Serve Dispatcher, Registry, Broker and the REST dialects from one database until the block ends.

    ``addresses`` are served besides the unix socket in ``folder``. ``operators`` is how many run beside them. ``open_as`` is the
    project that callers without a token act as. Jobs are traced with ``telemetry``. Pictures' files are kept within the limits
    ``blobs`` in a folder beside the database, or, if that is in memory, in ``folder``; so are controllers' modules. Those in the
    folder ``controllers`` are brought in if they are not there. Pictures are got from public URLs, and from ``picture_networks``.
    Wallets sign requests for ``contract``. Receipts are settled on ``chain``, if there is one.
    """
    # not below `database`: the path of a unix socket has at most 107 characters
    with tempfile.TemporaryDirectory(prefix="aos-") as name:
        folder = Path(name)
        public = f"unix:{folder / 'public'}"
        beside = tuple(f"unix:{folder / f'operator-{number}'}" for number in range(1, operators + 1))
        metrics = CollectorRegistry()
        beside_it = folder / "kept" if str(database) == IN_MEMORY else Path(database)
        kept = await asyncio.to_thread(Blobs, beside_it.with_suffix(BLOBS), blobs)
        modules = await asyncio.to_thread(ModuleFiles, beside_it.with_suffix(MODULES))
        async with (
            AsyncExitStack() as stack,
            sqlite_file(database) as file,
            running_registry(file, settings=registry or RegistrySettings(unsigned=bool(open_as)), clock=clock) as known,
            running_broker(
                file,
                settings=broker,
                clock=clock,
                new_id=lambda: secrets.token_hex(16),
                metrics=metrics,
                contract=contract,
                chain=chain,
                chain_settings=chain_settings,
                jobs_beside=True,
            ) as money,
        ):
            shared = (_registry(known.servicer), _broker(money.servicer), _requests(money.requests))
            own = LocalChannel(*shared, authenticate=a_service)
            async with (
                running_dispatcher(
                    file,
                    blobs=kept,
                    modules=modules,
                    shipped=controllers,
                    settings=dispatcher or DispatcherSettings(),
                    registry=registry_pb2_grpc.RegistryStub(own),
                    broker=broker_pb2_grpc.BrokerStub(own),
                    clock=clock,
                    randomness=secrets.token_bytes,
                    metrics=metrics,
                    telemetry=telemetry,
                ) as jobs,
                fetcher(picture_networks, at="image") as outward,
            ):
                known_tokens = FixedTokens(admin=admin_token, service="", otherwise=jobs.authenticate, open_as=open_as)
                native = (
                    *shared,
                    _dispatcher(jobs.servicer),
                    _callbacks(jobs.callbacks),
                    _blobs(jobs.blobs),
                    _controllers(jobs.controllers),
                )
                face = LocalChannel(*native, authenticate=known_tokens)
                dialects = _dialects(face, clock)
                asked = [await stack.enter_async_context(channel(one)) for one in beside]
                images = ImagesServicer(face, clock, outward)
                stack.push_async_callback(images.files.aclose)
                page = PagesServicer(face, clock, open_to_all=bool(open_as))
                counts = _metrics(MetricsServicer(partial(exposition, metrics), asked))
                zerog = ZerogServicer(
                    own,
                    LocalChannel(*native, authenticate=as_project),
                    openly=face if open_as else None,
                    key=await asyncio.to_thread(_answers_key, database),
                    clock=clock,
                    new_key=lambda: secrets.token_hex(16),
                )
                everything = (*native, *dialects, _images(images), _pages(page), counts, _zerog(zerog))
                async with serving(*everything, authenticate=known_tokens, addresses=(public, *addresses), grace=grace) as (
                    _,
                    *ports,
                ):
                    try:
                        yield Services(public, folder, beside, ports, jobs.installed)
                    finally:
                        # while the server still stands, so that its streams end by themselves
                        known.stop()
                        page.stop()
                        await jobs.drain(grace)


def _registry(servicer: registry_pb2_grpc.RegistryServicer) -> Service:
    return Service(registry_pb2.DESCRIPTOR.services_by_name["Registry"], registry_pb2_grpc.add_RegistryServicer_to_server, servicer)


def _broker(servicer: broker_pb2_grpc.BrokerServicer) -> Service:
    return Service(broker_pb2.DESCRIPTOR.services_by_name["Broker"], broker_pb2_grpc.add_BrokerServicer_to_server, servicer)


def _requests(servicer: requests_pb2_grpc.RequestsServicer) -> Service:
    descriptor = requests_pb2.DESCRIPTOR.services_by_name["Requests"]
    return Service(descriptor, requests_pb2_grpc.add_RequestsServicer_to_server, servicer)


def _zerog(servicer: zerog_pb2_grpc.ZerogServicer) -> Service:
    return Service(zerog_pb2.DESCRIPTOR.services_by_name["Zerog"], zerog_pb2_grpc.add_ZerogServicer_to_server, servicer)


def _answers_key(database: str | Path) -> OperatorKey:
    """Return the key that signs which bytes were sent: kept beside the database, or, if that is in memory, not at all."""
    return OperatorKey.create() if str(database) == IN_MEMORY else OperatorKey.load(Path(database).with_suffix(ANSWERS_KEY))


def _dispatcher(servicer: dispatcher_pb2_grpc.DispatcherServicer) -> Service:
    descriptor = dispatcher_pb2.DESCRIPTOR.services_by_name["Dispatcher"]
    return Service(descriptor, dispatcher_pb2_grpc.add_DispatcherServicer_to_server, servicer)


def _images(servicer: images_pb2_grpc.ImagesServicer) -> Service:
    return Service(images_pb2.DESCRIPTOR.services_by_name["Images"], images_pb2_grpc.add_ImagesServicer_to_server, servicer)


def _blobs(servicer: blobs_pb2_grpc.BlobsServicer) -> Service:
    return Service(blobs_pb2.DESCRIPTOR.services_by_name["Blobs"], blobs_pb2_grpc.add_BlobsServicer_to_server, servicer)


def _controllers(servicer: controllers_pb2_grpc.ControllersServicer) -> Service:
    descriptor = controllers_pb2.DESCRIPTOR.services_by_name["Controllers"]
    return Service(descriptor, controllers_pb2_grpc.add_ControllersServicer_to_server, servicer)


def _callbacks(servicer: callbacks_pb2_grpc.CallbacksServicer) -> Service:
    descriptor = callbacks_pb2.DESCRIPTOR.services_by_name["Callbacks"]
    return Service(descriptor, callbacks_pb2_grpc.add_CallbacksServicer_to_server, servicer)


def _dialects(face: grpc.aio.Channel, clock: Clock) -> tuple[Service, ...]:
    jobs, models = JobsServicer(face), ModelsServicer(face, clock)
    projects, operators = ProjectsServicer(face), OperatorsServicer(face)
    callbacks = opml_pb2.DESCRIPTOR.services_by_name["OpmlCallbacks"]
    registered = ai_projects_pb2.DESCRIPTOR.services_by_name["AiProjects"]
    return (
        Service(aici_pb2.DESCRIPTOR.services_by_name["Aici"], aici_pb2_grpc.add_AiciServicer_to_server, AiciServicer(face, clock)),
        Service(callbacks, opml_pb2_grpc.add_OpmlCallbacksServicer_to_server, OpmlCallbacksServicer(face)),
        Service(projects_pb2.DESCRIPTOR.services_by_name["Projects"], projects_pb2_grpc.add_ProjectsServicer_to_server, projects),
        Service(registered, ai_projects_pb2_grpc.add_AiProjectsServicer_to_server, AiProjectsServicer(face)),
        Service(
            operators_pb2.DESCRIPTOR.services_by_name["Operators"], operators_pb2_grpc.add_OperatorsServicer_to_server, operators
        ),
        Service(jobs_pb2.DESCRIPTOR.services_by_name["Jobs"], jobs_pb2_grpc.add_JobsServicer_to_server, jobs),
        Service(models_pb2.DESCRIPTOR.services_by_name["Models"], models_pb2_grpc.add_ModelsServicer_to_server, models),
    )


def _pages(servicer: pages_pb2_grpc.PagesServicer) -> Service:
    return Service(pages_pb2.DESCRIPTOR.services_by_name["Pages"], pages_pb2_grpc.add_PagesServicer_to_server, servicer)


def _metrics(servicer: metrics_pb2_grpc.MetricsServicer) -> Service:
    return Service(metrics_pb2.DESCRIPTOR.services_by_name["Metrics"], metrics_pb2_grpc.add_MetricsServicer_to_server, servicer)


def operator_service(servicer: object) -> Service:
    """Return an operator's own service, to be served where the operator runs."""
    from aos.v1 import operator_pb2, operator_pb2_grpc

    descriptor = operator_pb2.DESCRIPTOR.services_by_name["Operator"]
    return Service(descriptor, operator_pb2_grpc.add_OperatorServicer_to_server, servicer)


def operator_auth(token: str, open_as: str = "") -> Authenticator:
    """Return who may call an operator directly: the holder of its access token, or, if it is empty, nobody.

    ``open_as`` lets in callers without a token, as projects; what asks for more than a project's power stays closed.
    """
    return FixedTokens(admin=token, service="", otherwise=nobody, open_as=open_as)
