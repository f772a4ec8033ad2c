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
from aos.serving.services import (
    blobs_service,
    broker_service,
    callbacks_service,
    controllers_service,
    dialect_services,
    dispatcher_service,
    images_service,
    metrics_service,
    pages_service,
    registry_service,
    requests_service,
    zerog_service,
)
from aos.storage.blobs import BlobLimits, Blobs
from aos.storage.modules import ModuleFiles
from aos.store.sqlite import sqlite_file
from aos.telemetry import Telemetry
from aos.v1 import broker_pb2_grpc, registry_pb2_grpc
from aos.verification.keys import OperatorKey
from aos.verification.requests import EMBEDDED
from aos.verification.wallets import Contract
from gateway.images import ImagesServicer
from gateway.metrics import MetricsServicer
from gateway.pages import PagesServicer
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
            shared = (registry_service(known.servicer), broker_service(money.servicer), requests_service(money.requests))
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
                    beside=money.beside,
                ) as jobs,
                fetcher(picture_networks, at="image") as outward,
            ):
                known_tokens = FixedTokens(admin=admin_token, service="", otherwise=jobs.authenticate, open_as=open_as)
                native = (
                    *shared,
                    dispatcher_service(jobs.servicer),
                    callbacks_service(jobs.callbacks),
                    blobs_service(jobs.blobs),
                    controllers_service(jobs.controllers),
                )
                face = LocalChannel(*native, authenticate=known_tokens)
                dialects = dialect_services(face, clock)
                asked = [await stack.enter_async_context(channel(one)) for one in beside]
                images = ImagesServicer(face, clock, outward)
                stack.push_async_callback(images.files.aclose)
                page = PagesServicer(face, clock, open_to_all=bool(open_as))
                counts = metrics_service(MetricsServicer(partial(exposition, metrics), asked))
                zerog = ZerogServicer(
                    own,
                    LocalChannel(*native, authenticate=as_project),
                    openly=face if open_as else None,
                    key=await asyncio.to_thread(_answers_key, database),
                    clock=clock,
                    new_key=lambda: secrets.token_hex(16),
                )
                everything = (*native, *dialects, images_service(images), pages_service(page), counts, zerog_service(zerog))
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


def _answers_key(database: str | Path) -> OperatorKey:
    """Return the key that signs which bytes were sent: kept beside the database, or, if that is in memory, not at all."""
    return OperatorKey.create() if str(database) == IN_MEMORY else OperatorKey.load(Path(database).with_suffix(ANSWERS_KEY))


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
