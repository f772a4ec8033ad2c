"""A whole network on one machine: services in this process, an operator a process, Envoy in front."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shlex
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc

from aos.broker.settings import BrokerSettings
from aos.clock import SystemClock
from aos.credentials import Credentials
from aos.dispatcher.settings import DispatcherSettings
from aos.errors import InvalidField, ModelNotFound, ProjectExists, RequestIdReused
from aos.memory import default_memory
from aos.registry.settings import RegistrySettings
from aos.rpc.channel import channel
from aos.rpc.status import answered
from aos.serve import DATABASE, Services, running_services
from aos.settings import SIMULATED, NetworkSettings, StartError, bundled_controllers, own_names
from aos.telemetry import telemetry
from aos.v1 import broker_pb2, broker_pb2_grpc, dispatcher_pb2, dispatcher_pb2_grpc, registry_pb2, registry_pb2_grpc
from aos.verification.attestation.policy import Policy
from aos.verification.attestation.policy_file import POLICY_BYTES, read_policy
from aos.verification.attestation.simulated import image
from aos.verification.keys import OperatorKey
from aos.verification.requests import EMBEDDED
from aos.verification.vrf import Suite
from gateway.envoy.run import EnvoyError, EnvoySettings, running_envoy

START_SECONDS: Final = 180.0
"""How long operators may take to load a model; each is opened once at the start."""
STOP_SECONDS: Final = 10.0
"""How long an operator may take to end beyond the grace that its jobs get."""
RESTART_SECONDS: Final = (0.2, 1.0, 5.0)
"""Pauses before a lost operator is started again; the last one repeats."""
STEADY_SECONDS: Final = 60.0
"""An operator that ran so long is started again with the first pause."""

if TYPE_CHECKING:
    from aos.chain_side import ChainSide

CHECK_SECONDS: Final = 3600.0
"""How long from one comparison of the ledgers with their journal to the next."""

MEBIBYTE: Final = 1 << 20

log = logging.getLogger(__name__)

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Network:
    """A running network."""

    credentials: Credentials
    models: tuple[str, ...]
    """Their names; the first one is what examples ask."""
    operators: tuple[str, ...]
    """Their addresses."""
    chain: ChainSide | None = None
    """Where receipts are settled, if they are."""

    @property
    def model(self) -> str:
        """The first model's name."""
        return self.models[0]


@asynccontextmanager
async def running_network(settings: NetworkSettings, *, told: Told = lambda _: None) -> AsyncGenerator[Network]:
    """Run a network until the block ends; then running jobs end, or are given back and go on at the next start.

    ``told`` hears what is being waited for. Raises StartError.
    """
    data = settings.data.expanduser()
    for kind, files in (("model", settings.models), ("adapter", settings.adapters)):
        for one in files:
            if not one.path.is_file():
                raise StartError(f"{kind}: there is no file {one.path}")
    tee = tee_policy(settings)
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        stack.enter_context(_only_one(data))
        credentials = Credentials.load(data).with_admin()
        credentials.save(data)
        traces = await enter(telemetry("aos-dispatcher", os.environ))
        chain = None
        if settings.chain:
            from aos.up_chain import running_chain  # slow: web3

            told("starting the chain")
            own = [await asyncio.to_thread(OperatorKey.load, _key_file(data, at)) for at in range(1, settings.operators + 1)]
            chain = await enter(running_chain(settings, data, own))
        told("starting the services")
        services = await enter(
            running_services(
                data / DATABASE,
                admin_token=credentials.admin_token,
                clock=SystemClock(),
                operators=settings.operators,
                open_as=f"projects/{settings.project}" if settings.dev else "",
                dispatcher=DispatcherSettings(tee=tee, vrf_suite=Suite[settings.vrf_suite.upper()]),
                registry=RegistrySettings(tee=tee, unsigned=settings.dev, api_networks=settings.api_networks),
                broker=BrokerSettings(check_seconds=CHECK_SECONDS),
                contract=chain.contract if chain else EMBEDDED,
                chain=chain.settler if chain else None,
                chain_settings=chain.settings if chain else None,
                telemetry=traces,
                controllers=bundled_controllers(),
                grace=settings.grace,
            )
        )
        admin = await enter(channel(services.address, credentials.admin_token))
        credentials = await _welcome(admin, credentials, settings)
        credentials.save(data)
        children = [
            await enter(_operator(settings, data, number, services, listen, credentials.admin_token))
            for number, listen in enumerate(services.operators, 1)
        ]
        told(f"loading {', '.join(one.name for one in (*settings.models, *settings.adapters))}")
        operators = await _ready(admin, settings, children)
        # compiled while the models were loaded; takes time at the first start only
        told("installing controllers")
        await services.installed
        told("starting Envoy")
        envoy = EnvoySettings(
            host=settings.host,
            port=settings.port,
            upstream=services.address.removeprefix("unix:"),
            operator=services.operators[0].removeprefix("unix:"),
            log_path=data / "envoy.log",
            hosts=own_names(settings.host) if settings.dev else (),
            drain_seconds=settings.grace,
        )
        try:
            port = await enter(running_envoy(envoy))
        except EnvoyError as error:
            raise StartError(str(error)) from error
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        credentials = replace(credentials, url=f"http://{host}:{port}", grpc=f"{host}:{port}")
        credentials.save(data)
        yield Network(credentials, tuple(one.name for one in (*settings.models, *settings.adapters)), operators, chain)
        told("stopping: running jobs end or are given back")


def tee_policy(settings: NetworkSettings) -> Policy:
    """Return which evidence the network takes: in dev mode that of simulated operators, too. Raises StartError."""
    text = "{}"
    if settings.tee_policy is not None:
        try:
            with settings.tee_policy.open() as file:
                text = file.read(POLICY_BYTES + 1)
        except (OSError, UnicodeDecodeError) as error:
            raise StartError(f"tee-policy: {settings.tee_policy} cannot be read: {error}") from error
    try:
        policy = read_policy(text, production=not settings.dev)
        return replace(policy, images=(*policy.images, image())) if settings.tee == SIMULATED else policy
    except InvalidField as error:
        raise StartError(f"tee-policy: {settings.tee_policy}: {error}") from error


async def _welcome(admin: grpc.aio.Channel, credentials: Credentials, settings: NetworkSettings) -> Credentials:
    """Make the project, or find it, with a token that we hold and money on its account."""
    name = f"projects/{settings.project}"
    dispatcher, broker = dispatcher_pb2_grpc.DispatcherStub(admin), broker_pb2_grpc.BrokerStub(admin)
    try:
        made = await answered(dispatcher.CreateProject(dispatcher_pb2.CreateProjectRequest(project_id=settings.project)))
        credentials = replace(credentials, project=name, token=made.token)
    except ProjectExists:
        if not credentials.token or credentials.project != name:
            made = await answered(dispatcher.RotateProjectToken(dispatcher_pb2.RotateProjectTokenRequest(name=name)))
            credentials = replace(credentials, project=name, token=made.token)
    if settings.welcome:
        welcome = broker_pb2.DepositRequest(
            account=f"accounts/{settings.project}", amount=str(settings.welcome), request_id=f"welcome-{settings.project}"
        )
        with suppress(RequestIdReused):  # it was welcomed with another amount
            await answered(broker.Deposit(welcome))
    return credentials


def _key_file(data: Path, number: int) -> Path:
    return data / f"operator-{number}.key"


@contextmanager
def _only_one(data: Path) -> Generator[None]:
    """Hold the data folder. Raises StartError if another network does: two would hand out the same jobs."""
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(f"data: another network runs on {data}; stop it, or give another --data folder") from None
        yield


class Child:
    """An operator process, started again whenever it ends without being asked to."""

    def __init__(self, command: list[str], environment: dict[str, str], log_path: Path) -> None:
        self._command, self._environment, self.log_path = command, environment, log_path
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self.starts = 0

    async def run(self) -> None:
        """Keep it running until ``stop``."""
        pauses = RESTART_SECONDS
        while not self._stopping:
            started = asyncio.get_running_loop().time()
            with self.log_path.open("ab") as output:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    env=self._environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    # Ctrl-C in the terminal is for us: we tell the operators when it is their turn
                    start_new_session=True,
                )
            self.starts += 1
            code = await self._process.wait()
            if self._stopping:
                return
            steady = asyncio.get_running_loop().time() - started >= STEADY_SECONDS
            pauses = RESTART_SECONDS if steady else pauses
            log.warning("operator ended with %s; starting it again in %g s (see %s)", code, pauses[0], self.log_path)
            await asyncio.sleep(pauses[0])
            pauses = pauses[1:] or pauses

    async def stop(self, seconds: float) -> None:
        """Ask it to end, and make it end after so many seconds."""
        self._stopping = True
        if self._process is None or self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), seconds)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    def last_words(self) -> str:
        """Return the end of its log."""
        return self.log_path.read_text(errors="replace")[-2000:].strip()


@asynccontextmanager
async def _operator(
    settings: NetworkSettings, data: Path, number: int, services: Services, listen: str, token: str
) -> AsyncGenerator[Child]:
    command = [
        *(sys.executable, "-m", "aos", "operator", "--die-with-parent"),
        *("--connect", services.address, "--listen", listen),
        *("--key", str(_key_file(data, number))),
        *(word for one in settings.models for word in ("--model", str(one))),
        *(word for one in settings.adapters for word in ("--adapter", str(one))),
        *("--memory", str(settings.memory or default_memory(settings.operators) // MEBIBYTE), "--slots", str(settings.slots)),
        *("--gpu-layers", str(settings.gpu_layers), "--main-gpu", str(settings.main_gpu)),
        *("--split-mode", settings.split_mode, "--tensor-split", ",".join(map(str, settings.tensor_split))),
        *("--threads", str(settings.threads), "--context", str(settings.context)),
        *("--prompt-price", str(settings.prompt_price), "--completion-price", str(settings.completion_price)),
        *(word for one in settings.api_networks for word in ("--allow-api", str(one))),
        *(word for one in settings.host_for for word in ("--host-for", one)),
        *("--grace", str(settings.grace)),
        *(["--dev"] if settings.dev else []),
        *(["--tee", settings.tee] if settings.tee else []),
        *(["--tee-command", shlex.join(settings.tee_command)] if settings.tee_command else []),
    ]
    # by environment, because every user of the machine can read a command line
    child = Child(command, os.environ | {"AOS_OPERATOR_TOKEN": token}, data / f"operator-{number}.log")
    running = asyncio.create_task(child.run(), name=f"operator {number}")
    try:
        yield child
    finally:
        await child.stop(settings.grace + STOP_SECONDS)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def _ready(admin: grpc.aio.Channel, settings: NetworkSettings, children: list[Child]) -> tuple[str, ...]:
    """Return the operators' addresses once all of them can be used."""
    registry = registry_pb2_grpc.RegistryStub(admin)
    patience = START_SECONDS * (len(settings.models) + len(settings.adapters))
    try:
        async with asyncio.timeout(patience):
            while True:
                with suppress(ModelNotFound):
                    model = await answered(registry.GetModel(registry_pb2.GetModelRequest(name=settings.model_name)))
                    if model.routable and len(model.operators) >= settings.operators:
                        return tuple(sorted(model.operators))
                for child in children:
                    if child.starts > 1:
                        raise StartError(f"an operator cannot start; it said:\n{child.last_words()}")
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise StartError(f"the operators were not ready within {patience:g} s; see {children[0].log_path}") from None
