"""A network on hosts of its own: database, services, two dispatchers, Envoy, two operators and a caller, each with an address."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from aos.client import Client
from aos.rpc.channel import channel
from aos.v1 import broker_pb2, dispatcher_pb2
from tests.hosts.hosts import Host, Hosts, hosts
from tests.hosts.operate import SLOTS
from tests.postgres_server import PostgresServer, running_postgres
from tests.system.serving import ADMIN, SECRETS

MODEL: Final = "scripted"
BALANCE: Final = 10**9
PATIENCE: Final = 90.0
"""Seconds in which everything happens that a test waits for, on a busy machine too."""
STEP_SECONDS: Final = 0.1
"""Between two looks at what tells nobody that it changed."""
LONGEST: Final = 300.0
"""Seconds after which a test is given up, starting the network included."""
CALL_SECONDS: Final = 5.0
BEAT_SECONDS: Final = 1.0
"""How often dispatchers say that they are there; after 5 silent ones they are given up."""
HEARTBEAT_SECONDS: Final = 2.0
"""How often operators do; after 3 silent ones they are."""
NAMES: Final = ("database", "services", "one", "two", "gate", "left", "right", "caller")
DISPATCHERS: Final = ("one", "two")
OPERATORS: Final = ("left", "right")

T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T]], good: Callable[[T], bool]) -> T:
    """Return what ``look`` sees once that is good. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        while not good(seen := await look()):
            await asyncio.sleep(STEP_SECONDS)
    return seen


@dataclass
class Operator:
    """One that runs on a host, and whose answers can be held."""

    process: Process
    address: str

    async def told(self, word: str) -> None:
        """Return once it says so."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while (await self.process.stdout.readline()).decode().strip() != word:
                assert self.process.returncode is None

    async def tell(self, word: str) -> None:
        """Tell it to `hold`, or to let answers `go` on, and return once it does."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        await self.told(word)


@dataclass
class Network:
    """All of it. The test itself speaks with the services past the links, over unix sockets; callers speak through Envoy."""

    net: Hosts
    folder: Path
    stack: AsyncExitStack
    hosts: dict[str, Host] = field(default_factory=dict)
    operators: dict[str, Operator] = field(default_factory=dict)
    admins: dict[str, Client] = field(default_factory=dict)
    """Services by the name of their process, called as the administrator."""
    channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    token: str = ""

    async def cut(self, one: str, other: str) -> None:
        await self.net.cut(self.hosts[one], self.hosts[other])

    async def heal(self, one: str, other: str) -> None:
        await self.net.heal(self.hosts[one], self.hosts[other])

    async def slow(self, one: str, other: str, seconds: float) -> None:
        await self.net.slow(self.hosts[one], self.hosts[other], seconds)

    async def mute(self, source: str, target: str) -> None:
        await self.net.mute(self.hosts[source], self.hosts[target])

    async def whole(self) -> None:
        """Make all links whole and let all answers go on; return once everybody is well again, and nothing is held."""
        for number, one in enumerate(NAMES):
            for other in NAMES[:number]:
                await self.heal(one, other)
        for operator in self.operators.values():
            await operator.tell("go")
        for name in DISPATCHERS:
            await self.serves(name)
        addresses = {one.address for one in self.operators.values()}
        await eventually(self.attached, lambda seen: set(seen) == addresses)
        async with self.caller() as client:
            await eventually(client.models, lambda models: any(one.name == MODEL and one.routable for one in models))
        await eventually(self.account, lambda account: account.held == "0")

    async def serves(self, name: str, *, well: bool = True) -> None:
        """Return once a service says that it is ready, or that it is not."""
        stub: Any = health_pb2_grpc.HealthStub(self.channels[name])
        wanted = health_pb2.HealthCheckResponse.SERVING if well else health_pb2.HealthCheckResponse.NOT_SERVING

        async def ask() -> int:
            return (await stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS)).status

        await eventually(ask, lambda status: status == wanted)

    async def attached(self) -> dict[str, str]:
        """Return which dispatcher has which operator's stream, of those that get jobs."""
        found: dict[str, str] = {}
        for name in DISPATCHERS:
            listed = await self.admins[name].dispatcher.ListHealth(dispatcher_pb2.ListHealthRequest(), timeout=CALL_SECONDS)
            healthy = dispatcher_pb2.HEALTH_STATE_HEALTHY
            found |= {one.operator: name for one in listed.health if one.attached and one.state == healthy and one.slots == SLOTS}
        return found

    def which(self, address: str) -> str:
        """Return the name of the operator at an address."""
        return next(name for name, one in self.operators.items() if one.address == address)

    @asynccontextmanager
    async def caller(self) -> AsyncGenerator[Client]:
        """A client on the caller's host, with a connection of its own to Envoy."""
        async with channel(f"unix:{self.folder}/door", self.token) as opened:
            yield Client(opened)

    @asynccontextmanager
    async def at(self, dispatcher: str) -> AsyncGenerator[Client]:
        """A client of one dispatcher, past the links."""
        async with channel(f"unix:{self.folder}/{dispatcher}", self.token) as opened:
            yield Client(opened)

    async def account(self) -> broker_pb2.Account:
        request = broker_pb2.GetAccountRequest(name="accounts/demo")
        return await self.admins["broker"].broker.GetAccount(request, timeout=CALL_SECONDS)

    async def process(self, host: str, *command: object, **options: Any) -> Process:
        """Start a process on a host; what it says of itself is in the folder."""
        with (self.folder / f"{host}-{command[-1]}.log".replace("/", "_")).open("ab") as said:
            running = self.hosts[host].running(sys.executable, "-m", *command, stdout=PIPE, stderr=said, **options)
            process = await self.stack.enter_async_context(running)
        self.processes.append(process)
        return process

    async def start(self, host: str, service: str, /, **settings: str) -> None:
        """Start a service, and a channel to it past the links."""
        known = {f"AOS_{service.upper()}_{name.upper()}": value for name, value in settings.items()}
        process = await self.process(
            host, "aos", "serve", service, stdin=asyncio.subprocess.DEVNULL, env=os.environ | SECRETS | self.shared() | known
        )
        await _first(process)
        if service != "envoy":
            name = host if service == "dispatcher" else service
            self.channels[name] = await self.stack.enter_async_context(channel(f"unix:{self.folder}/{name}", ADMIN))
            self.admins[name] = Client(self.channels[name])

    def shared(self) -> dict[str, str]:
        at = {name: host.address for name, host in self.hosts.items()}
        return {
            "AOS_SHARED_DISPATCHERS": f"{at['one']}:7001,{at['two']}:7001",
            "AOS_SHARED_REGISTRY": f"{at['services']}:7002",
            "AOS_SHARED_BROKER": f"{at['services']}:7003",
            "AOS_SHARED_NOTICE": "0.1",
            "AOS_SHARED_GRACE": "0.5",
        }

    async def operator(self, name: str) -> None:
        """Start an operator."""
        gate = f"{self.hosts['gate'].address}:8080"
        process = await self.process(name, "tests.hosts.operate", gate, self.folder / f"{name}.key", MODEL, stdin=PIPE)
        self.operators[name] = Operator(process, (await _first(process)).strip().lower())


async def _first(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        line = await process.stdout.readline()
    assert line, f"it ended with {await process.wait()}"
    return line.decode()


@contextmanager
def _folder():
    # a path of a socket has at most 107 bytes
    with tempfile.TemporaryDirectory(prefix="aos-hosts-") as name:
        yield Path(name)


async def _database(network: Network) -> str:
    """Start PostgreSQL on its host, and return the address of its database."""
    host = network.hosts["database"]
    running = running_postgres("fsync=off", f"listen_addresses={host.address}", within=host.command(), let_in="10.77.0.0/24")
    server: PostgresServer = await asyncio.to_thread(running.__enter__)
    network.stack.callback(running.__exit__, None, None, None)
    url = await asyncio.to_thread(server.fresh)
    return f"postgresql://aos@{host.address}/{url.partition('@/')[2].partition('?')[0]}"


@asynccontextmanager
async def network_on_hosts() -> AsyncGenerator[Network]:
    """Give the network, whole and ready. Raises NoHosts where there can be none."""
    async with hosts() as net, AsyncExitStack() as stack:
        network = Network(net, stack.enter_context(_folder()), stack)
        for name in NAMES:
            network.hosts[name] = await net.add(name)
        at, folder = {name: host.address for name, host in network.hosts.items()}, network.folder
        database = await _database(network)
        dispatcher = {
            "database": database,
            "blobs": f"{folder}/blobs",
            "modules": f"{folder}/modules",
            "limits_node_seconds": str(BEAT_SECONDS),
            "limits_heartbeat_seconds": str(HEARTBEAT_SECONDS),
            "limits_canary_open_seconds": "1",
        }
        await asyncio.gather(
            network.start("services", "registry", listen=f"{at['services']}:7002,unix:{folder}/registry", database=database),
            network.start("services", "broker", listen=f"{at['services']}:7003,unix:{folder}/broker", database=database),
            *(
                network.start(one, "dispatcher", listen=f"{at[one]}:7001,unix:{folder}/{one}", limits_node=one, **dispatcher)
                for one in DISPATCHERS
            ),
            network.start(
                "gate", "envoy", host=at["gate"], port="8080", upstream=f"{at['one']}:7001,{at['two']}:7001", health_seconds="0.5"
            ),
        )
        await _first(await network.process("caller", "tests.hosts.door", folder / "door", at["gate"], 8080))
        for name in DISPATCHERS:
            await network.serves(name)
        await asyncio.gather(*map(network.operator, OPERATORS))
        made = await network.admins["one"].dispatcher.CreateProject(dispatcher_pb2.CreateProjectRequest(project_id="demo"))
        network.token = made.token
        deposit = broker_pb2.DepositRequest(account="accounts/demo", amount=str(BALANCE), request_id="welcome")
        await network.admins["broker"].broker.Deposit(deposit)
        try:
            yield network
        finally:
            for process in network.processes:  # all at once: each takes a moment to leave
                with suppress(ProcessLookupError):
                    process.terminate()
