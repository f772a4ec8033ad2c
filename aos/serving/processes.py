"""Each service as a process: its settings become its parts, its calls to the others and its server; and it leaves in order."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from aos.broker.node import running_broker
from aos.clock import Clock, SystemClock
from aos.dispatcher.node import running_dispatcher
from aos.errors import AosError, InvalidField
from aos.fetch import fetcher
from aos.metrics import CollectorRegistry, exposition, serving_metrics
from aos.registry.node import running_registry
from aos.rpc.auth import Authenticator, FixedTokens
from aos.rpc.channel import channel
from aos.rpc.readiness import Need, Readiness, serves
from aos.rpc.server import Service, serving
from aos.serving import services
from aos.serving.calls import spread, to_services
from aos.serving.settings import BrokerProcess, Common, DispatcherProcess, GatewayProcess, RegistryProcess
from aos.serving.tokens import AskedDispatchers
from aos.settings import StartError, bundled_controllers
from aos.storage.blobs import Blobs
from aos.storage.modules import ModuleFiles
from aos.store.opening import migrate_all, opened
from aos.store.sql import SqlDatabase
from aos.telemetry import telemetry
from aos.v1 import broker_pb2_grpc, registry_pb2_grpc
from aos.verification.attestation.policy import Policy
from aos.verification.attestation.policy_file import POLICY_BYTES, read_policy
from aos.verification.keys import OperatorKey
from aos.verification.requests import EMBEDDED
from gateway.images import ImagesServicer
from gateway.metrics import MetricsServicer
from gateway.pages import PagesServicer
from gateway.zerog import ZerogServicer

IN_MEMORY: Final = ":memory:"


@asynccontextmanager
async def serving_dispatcher(settings: DispatcherProcess, *, clock: Clock | None = None) -> AsyncGenerator[tuple[str, ...]]:
    """Serve Dispatcher, Blobs, Callbacks and Controllers until the block ends; gives the addresses. Raises StartError."""
    clock, metrics = clock or SystemClock(), CollectorRegistry()
    limits = replace(settings.limits, tee=_policy(settings.tee_policy))
    blobs = await asyncio.to_thread(Blobs, settings.blobs)
    modules = await asyncio.to_thread(ModuleFiles, settings.modules)
    async with (
        _database(settings.database) as database,
        spread(settings.registry, settings.service_token) as registry,
        spread(settings.broker, settings.service_token) as broker,
        telemetry("aos-dispatcher", os.environ) as traces,
        running_dispatcher(
            database,
            blobs=blobs,
            modules=modules,
            shipped=bundled_controllers(),
            settings=limits,
            registry=registry_pb2_grpc.RegistryStub(registry),
            broker=broker_pb2_grpc.BrokerStub(broker),
            clock=clock,
            randomness=secrets.token_bytes,
            metrics=metrics,
            telemetry=traces,
        ) as jobs,
    ):
        served = (
            services.dispatcher_service(jobs.servicer),
            services.callbacks_service(jobs.callbacks),
            services.blobs_service(jobs.blobs),
            services.controllers_service(jobs.controllers),
        )
        needs = {"database": _answers(database), "registry": serves(registry), "broker": serves(broker)}
        async with _served(settings, served, jobs.authenticate, needs, metrics, clock) as (addresses, leaving):
            yield addresses
            await leaving()
            # while the server still stands, so that its streams end by themselves
            await jobs.drain(settings.grace)


@asynccontextmanager
async def serving_registry(settings: RegistryProcess, *, clock: Clock | None = None) -> AsyncGenerator[tuple[str, ...]]:
    """Serve Registry until the block ends; gives the addresses. Raises StartError."""
    clock, metrics = clock or SystemClock(), CollectorRegistry()
    limits = replace(settings.limits, tee=_policy(settings.tee_policy))
    async with (
        _database(settings.database) as database,
        spread(settings.dispatchers) as dispatchers,
        running_registry(database, settings=limits, clock=clock) as registry,
    ):
        served = (services.registry_service(registry.servicer),)
        known, needs = AskedDispatchers(dispatchers, clock), {"database": _answers(database)}
        async with _served(settings, served, known, needs, metrics, clock) as (addresses, leaving):
            yield addresses
            await leaving()
            registry.stop()


@asynccontextmanager
async def serving_broker(settings: BrokerProcess, *, clock: Clock | None = None) -> AsyncGenerator[tuple[str, ...]]:
    """Serve Broker and Requests until the block ends; gives the addresses. Raises StartError."""
    clock, metrics = clock or SystemClock(), CollectorRegistry()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        database, dispatchers = await enter(_database(settings.database, turn="broker")), await enter(spread(settings.dispatchers))
        side = None
        if settings.chain.rpc:
            from aos.serving.chain import running_chain  # slow: web3

            side = await enter(running_chain(settings.chain))
        money = running_broker(
            database,
            settings=settings.limits,
            clock=clock,
            new_id=lambda: secrets.token_hex(16),
            metrics=metrics,
            contract=side.contract if side else EMBEDDED,
            chain=side.settler if side else None,
            chain_settings=side.settings if side else None,
        )
        broker = await enter(money)
        served = (services.broker_service(broker.servicer), services.requests_service(broker.requests))
        known, needs = AskedDispatchers(dispatchers, clock), {"database": _answers(database)}
        async with _served(settings, served, known, needs, metrics, clock) as (addresses, leaving):
            yield addresses
            await leaving()


@asynccontextmanager
async def serving_gateway(settings: GatewayProcess, *, clock: Clock | None = None) -> AsyncGenerator[tuple[str, ...]]:
    """Serve the REST dialects until the block ends; gives the addresses. Raises StartError."""
    clock, metrics = clock or SystemClock(), CollectorRegistry()
    beyond = {"dispatchers": settings.dispatchers, "registry": settings.registry, "broker": settings.broker}
    key = await asyncio.to_thread(OperatorKey.load, settings.answers_key)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        # callers' own tokens go on; only what a signature let in is asked for with the gateway's
        face = await enter(to_services(beyond))
        own = await enter(to_services(beyond, settings.service_token))
        acting = await enter(to_services(beyond, settings.service_token, acting=True))
        ready = {name: serves(await enter(spread(address))) for name, address in beyond.items()}
        dispatchers = await enter(spread(settings.dispatchers))
        operators = [await enter(channel(one)) for one in settings.operators]
        images = ImagesServicer(face, clock, await enter(fetcher(settings.picture_networks, at="image")))
        stack.push_async_callback(images.files.aclose)
        page = PagesServicer(face, clock, open_to_all=False)
        zerog = ZerogServicer(own, acting, openly=None, key=key, clock=clock, new_key=lambda: secrets.token_hex(16))
        served = (
            *services.dialect_services(face, clock),
            services.images_service(images),
            services.pages_service(page),
            services.metrics_service(MetricsServicer(partial(exposition, metrics), operators)),
            services.zerog_service(zerog),
        )
        known = AskedDispatchers(dispatchers, clock)
        async with _served(settings, served, known, ready, metrics, clock) as (addresses, leaving):
            yield addresses
            await leaving()
            page.stop()


async def migrated(database: str) -> None:
    """Bring a database's tables up to date, those of all services. Raises StartError if it cannot be opened."""
    async with _database(database) as there:
        await migrate_all(there)


Leave = Callable[[], Any]


@asynccontextmanager
async def _served(
    settings: Common,
    served: tuple[Service, ...],
    known: Authenticator,
    needs: dict[str, Need],
    metrics: CollectorRegistry,
    clock: Clock,
) -> AsyncGenerator[tuple[tuple[str, ...], Leave]]:
    """Serve, and give the addresses and what to await first on leaving: from then on it is ready no more, and others take over."""
    readiness = Readiness(needs)
    tokens = FixedTokens(admin=settings.admin_token, service=settings.service_token, otherwise=known)

    async def leave() -> None:
        readiness.leave()
        await clock.sleep(settings.notice)

    async with AsyncExitStack() as stack:
        try:
            stack.enter_context(serving_metrics(metrics, settings.metrics))
            server = serving(*served, authenticate=tokens, addresses=settings.listen, grace=settings.grace, readiness=readiness)
            ports = await stack.enter_async_context(server)
        except (RuntimeError, OSError) as error:
            raise StartError(f"listen, metrics: {', '.join((*settings.listen, settings.metrics))}: {error}") from error
        yield tuple(map(_with_port, settings.listen, ports)), leave


def _with_port(address: str, port: int) -> str:
    return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"


@asynccontextmanager
async def _database(database: str, *, turn: str = "") -> AsyncGenerator[SqlDatabase]:
    """Open it; a file for this process alone. Raises StartError, which does not repeat a password."""
    async with AsyncExitStack() as stack:
        try:
            stack.enter_context(_only_one(database))
            file = await stack.enter_async_context(opened(database, turn=turn))
        except AosError as error:
            raise StartError(error.message) from error
        except OSError as error:
            raise StartError(f"database: cannot be opened: {error}") from error
        yield file


@contextmanager
def _only_one(database: str) -> Generator[None]:
    """Hold a database that is a file. Raises StartError if another process does: two would hand out the same jobs."""
    if database == IN_MEMORY or "://" in database:
        yield
        return
    Path(database).parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{database}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(f"database: another process has {database} open; several need a postgresql:// URL") from None
        yield


def _answers(database: SqlDatabase) -> Need:
    async def ask() -> None:
        await database.transact(lambda tx: tx.execute("SELECT 1").fetchone())

    return ask


def _policy(path: Path | None) -> Policy:
    if path is None:
        return Policy()
    try:
        with path.open() as file:
            return read_policy(file.read(POLICY_BYTES + 1), production=True)
    except (OSError, UnicodeDecodeError, InvalidField) as error:
        raise StartError(f"tee_policy: {path}: {error}") from error
