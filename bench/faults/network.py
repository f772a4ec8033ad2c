"""The network of the chaos bench: PostgreSQL, a registry, a broker, two of dispatchers and gateways, operators, Envoy in front."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aos.client import Client
from aos.rpc.channel import channel
from aos.v1 import broker_pb2, dispatcher_pb2, registry_pb2
from bench.faults.parts import DatabasePart, EnvoyPart, Part, ProcessPart, answers, at_once, serves
from tests.postgres_server import PostgresServer
from tests.system.serving import ADMIN, SECRETS, free_port

DISPATCHERS: Final = ("a", "b")
GATEWAYS: Final = ("a", "b")
PROJECT: Final = "chaos"
MONEY: Final = 10**24
START_SECONDS: Final = 180.0
CALL_SECONDS: Final = 20.0


@dataclass
class Network:
    """The running network, and the token of its one project."""

    address: str
    database: str
    parts: list[Part] = field(default_factory=list)
    token: str = ""

    @property
    def url(self) -> str:
        """Where REST is served."""
        return f"http://{self.address}"

    @property
    def by_itself(self) -> dict[str, int]:
        """How often processes ended that nobody had killed, by their kind."""
        found: dict[str, int] = {}
        for part in self.parts:
            if isinstance(part, ProcessPart) and part.by_itself:
                found[part.kind] = found.get(part.kind, 0) + part.by_itself
        return found


def settings(folder: Path, at: dict[str, str], database: str, envoy: int) -> str:
    """Return the file of settings of all services; ``at`` are their addresses. What differs is in their environments."""
    dispatchers = ",".join(at[f"dispatcher {name}"] for name in DISPATCHERS)
    gateways = ",".join(at[f"gateway {name}"] for name in GATEWAYS)
    return f"""
[shared]
database = "{database}"
dispatchers = "{dispatchers}"
registry = "{at["registry"]}"
broker = "{at["broker"]}"
notice = 0.0
grace = 1.0
[registry]
listen = ["{at["registry"]}"]
[broker]
listen = ["{at["broker"]}"]
[dispatcher]
blobs = "{folder}/blobs"
modules = "{folder}/modules"
[dispatcher.limits]
node_seconds = 1.0
heartbeat_seconds = 2.0
reconcile_seconds = 1.0
look_seconds = 1.0
# operators are killed all the time: that is no reason to end a job, nor to keep jobs from them for long
max_attempts = 1000
unroutable_seconds = 0.0
canary_open_seconds = 1.0
[gateway]
answers_key = "{folder}/answers.key"
[envoy]
port = {envoy}
upstream = "{gateways}"
notice_seconds = 0.0
drain_seconds = 1.0
health_seconds = 0.5
eject_seconds = 1.0
"""


@asynccontextmanager
async def network(folder: Path, server: PostgresServer, operators: int) -> AsyncGenerator[Network]:
    """Run it until the block ends, with so many operators; logs and files are in the folder, a database on the server."""
    names = ("registry", "broker", *(f"dispatcher {one}" for one in DISPATCHERS), *(f"gateway {one}" for one in GATEWAYS))
    at = {name: f"127.0.0.1:{free_port()}" for name in names}
    envoy, database = free_port(), await asyncio.to_thread(server.fresh)
    running = Network(f"127.0.0.1:{envoy}", database)
    file = folder / "aos.toml"
    await asyncio.to_thread(file.write_text, settings(folder, at, database, envoy))

    def served(service: str, name: str = "", **env: str) -> ProcessPart:
        here, secrets = f"{service} {name}".strip(), {"AOS_SHARED_ADMIN_TOKEN", "AOS_SHARED_SERVICE_TOKEN"}
        kind, ready = (EnvoyPart, answers(running.url)) if service == "envoy" else (ProcessPart, serves(at.get(here, "")))
        return kind(
            *(service.capitalize(), here, sys.executable, "-m", "aos", "serve", service, "--settings", str(file)),
            env={key: SECRETS[key] for key in secrets} | env,
            log=folder / f"{here}.log",
            ready=ready,
        )

    def operator(number: int) -> ProcessPart:
        command = (sys.executable, "-m", "bench.faults.operator", running.address, str(folder / f"operator-{number}.key"))
        log = folder / f"operator {number}.log"
        return ProcessPart("Operator", f"operator {number}", *command, env={}, log=log, ready=at_once)

    services = [
        *(served("registry"), served("broker"), served("envoy")),
        *(
            served(
                "dispatcher",
                name,
                AOS_DISPATCHER_LISTEN=at[f"dispatcher {name}"],
                AOS_DISPATCHER_LIMITS_NODE=name,
                AOS_DISPATCHER_LIMITS_IDENTITY=f"dispatchers/{name}",
            )
            for name in DISPATCHERS
        ),
        *(served("gateway", name, AOS_GATEWAY_LISTEN=at[f"gateway {name}"]) for name in GATEWAYS),
    ]
    own = [operator(number) for number in range(operators)]
    running.parts = [DatabasePart(server, database), *services, *own]
    try:
        async with asyncio.timeout(START_SECONDS):
            await asyncio.gather(*(one.start() for one in services))
            await _fill(running)
            await asyncio.gather(*(one.start() for one in own))
            await _routable(running)
        yield running
    finally:
        for wave in (own, services):
            await asyncio.gather(*(one.stop() for one in wave))
        await asyncio.to_thread(server.drop, database)


async def _fill(running: Network) -> None:
    """Make the project, and give it money."""
    async with channel(running.address, ADMIN) as opened:
        admin, project = Client(opened), dispatcher_pb2.CreateProjectRequest(project_id=PROJECT)
        made = await admin.dispatcher.CreateProject(project, timeout=CALL_SECONDS, wait_for_ready=True)
        deposit = broker_pb2.DepositRequest(account=f"accounts/{PROJECT}", amount=str(MONEY), request_id=PROJECT)
        await admin.broker.Deposit(deposit, timeout=CALL_SECONDS, wait_for_ready=True)
        running.token = made.token


async def _routable(running: Network) -> None:
    """Return once the model can be asked."""
    async with channel(running.address, running.token) as opened:
        client = Client(opened)
        while True:
            found = await client.registry.ListModels(registry_pb2.ListModelsRequest(), timeout=CALL_SECONDS)
            if any(one.routable for one in found.models):
                return
            await asyncio.sleep(0.1)
