"""`aos serve …` as an administrator starts it: a process for each service, one file of settings."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from aos.rpc.channel import channel
from aos.v1 import broker_pb2, broker_pb2_grpc, dispatcher_pb2, dispatcher_pb2_grpc, registry_pb2, registry_pb2_grpc

SECONDS = 90
"""Patience with what is started on a busy machine."""
ADMIN, SERVICE = "the-administrators-token", "the-services-own-token"
SECRETS = {"AOS_SHARED_ADMIN_TOKEN": ADMIN, "AOS_SHARED_SERVICE_TOKEN": SERVICE, "AOS_OPERATOR_TOKEN": ADMIN}


@dataclass
class Process:
    """One running service."""

    service: str
    process: asyncio.subprocess.Process
    listen: list[str]
    said: Path

    def log(self) -> str:
        return self.said.read_text()

    async def stop(self) -> int:
        """Ask it to leave, and return its exit status."""
        if self.process.returncode is None:
            self.process.terminate()
        try:
            return await asyncio.wait_for(self.process.wait(), SECONDS)
        except TimeoutError:
            self.process.kill()
            raise


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@dataclass
class Network:
    """Services of one network, started one by one."""

    folder: Path
    running: dict[str, Process] = field(default_factory=dict)
    token: str = ""
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.ports['envoy']}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def write(self, **tables: str) -> Path:
        """Write the file of settings; ``tables`` are lines for services' tables."""
        names = ("dispatcher", "registry", "broker", "gateway", "operator", "envoy")
        self.ports |= {name: free_port() for name in names if name not in self.ports}
        at, folder = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}, self.folder
        path = folder / "aos.toml"
        path.write_text(f"""
[shared]
dispatchers = "{at["dispatcher"]}"
registry = "{at["registry"]}"
broker = "{at["broker"]}"
notice = 0.5
[dispatcher]
listen = ["{at["dispatcher"]}"]
database = "{folder}/dispatcher.db"
blobs = "{folder}/blobs"
modules = "{folder}/modules"
{tables.get("dispatcher", "")}
[registry]
listen = ["{at["registry"]}"]
database = "{folder}/registry.db"
[broker]
listen = ["{at["broker"]}"]
database = "{folder}/broker.db"
{tables.get("broker", "")}
[gateway]
listen = ["{at["gateway"]}"]
answers_key = "{folder}/answers.key"
operators = ["{at["operator"]}"]
[operator]
connect = "{at["envoy"]}"
listen = "{at["operator"]}"
key = "{folder}/operator.key"
slots = 4
[envoy]
port = {self.ports["envoy"]}
upstream = "{at["gateway"]}"
operator = "{at["operator"]}"
notice_seconds = 0.5
health_seconds = 0.5
drain_seconds = 20
""")
        return path

    async def start(self, *services: str) -> None:
        """Start these, all at once; returns once all listen."""
        await asyncio.gather(*(self._start(one) for one in services))

    async def _start(self, service: str) -> None:
        said = self.folder / f"{service}.log"
        with said.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "aos", "serve", service, "--settings", str(self.folder / "aos.toml")),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                env=os.environ
                | {"AOS_SHARED_ADMIN_TOKEN": ADMIN, "AOS_SHARED_SERVICE_TOKEN": SERVICE, "AOS_OPERATOR_TOKEN": ADMIN},
            )
        assert process.stdout is not None
        self.running[service] = one = Process(service, process, [], said)
        line = await asyncio.wait_for(process.stdout.readline(), SECONDS)
        assert line, one.log()
        one.listen = json.loads(line)["listen"]

    async def healthy(self, status: int = 200) -> None:
        """Return once Envoy says so."""
        async with httpx.AsyncClient() as client, asyncio.timeout(SECONDS):
            while (await client.get(f"{self.url}/healthz")).status_code != status:
                await asyncio.sleep(0.1)

    async def ready(self) -> None:
        """Return once the demo model can be asked, with a project whose token is ``token``."""
        await self.healthy()
        async with channel(self.address, ADMIN) as opened:
            made = await dispatcher_pb2_grpc.DispatcherStub(opened).CreateProject(
                dispatcher_pb2.CreateProjectRequest(project_id="demo")
            )
            self.token = made.token
            deposit = broker_pb2.DepositRequest(account="accounts/demo", amount=str(10**18), request_id="welcome")
            await broker_pb2_grpc.BrokerStub(opened).Deposit(deposit)
            registry = registry_pb2_grpc.RegistryStub(opened)
            async with asyncio.timeout(SECONDS):
                while not any(model.routable for model in (await registry.ListModels(registry_pb2.ListModelsRequest())).models):
                    await asyncio.sleep(0.1)

    async def stop(self, *services: str) -> dict[str, int]:
        """Stop these, all at once, and return their exit statuses."""
        leaving = [self.running.pop(one) for one in services]
        return dict(zip(services, await asyncio.gather(*(one.stop() for one in leaving)), strict=True))


@asynccontextmanager
async def network(folder: Path, *services: str, **tables: str) -> AsyncGenerator[Network]:
    """These services, with their settings in a file in the folder."""
    made = Network(folder)
    await asyncio.to_thread(made.write, **tables)
    try:
        await made.start(*services)
        yield made
    finally:
        await made.stop(*made.running)
