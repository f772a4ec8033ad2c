"""A scripted network behind a real Envoy."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from aos.clock import SystemClock
from aos.rpc.channel import channel
from aos.rpc.server import Service, serving
from aos.testing.clock import ManualClock
from aos.v1 import dispatcher_pb2, dispatcher_pb2_grpc, registry_pb2, registry_pb2_grpc
from gateway.envoy.run import EnvoySettings, running_envoy
from gateway.jobs import JobsServicer
from gateway.models import ModelsServicer
from gateway.v1 import jobs_pb2, jobs_pb2_grpc, models_pb2, models_pb2_grpc
from tests.gateway import scripted_network as scripted


@dataclass
class Edge:
    """A scripted network and the port in front of it."""

    dispatcher: scripted.ScriptedDispatcher
    clock: SystemClock | ManualClock
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def client(self, token: str = scripted.TOKEN) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=20)


@asynccontextmanager
async def servers(folder: str, edge: Edge, open_as: str = "") -> AsyncGenerator[str]:
    """Serve the scripted network with the dialects in front; gives the socket's path."""
    socket = str(Path(folder) / "grpc")
    async with channel(f"unix:{socket}") as face:
        services = [
            Service(
                dispatcher_pb2.DESCRIPTOR.services_by_name["Dispatcher"],
                dispatcher_pb2_grpc.add_DispatcherServicer_to_server,
                edge.dispatcher,
            ),
            Service(
                registry_pb2.DESCRIPTOR.services_by_name["Registry"],
                registry_pb2_grpc.add_RegistryServicer_to_server,
                scripted.ScriptedRegistry(),
            ),
            Service(jobs_pb2.DESCRIPTOR.services_by_name["Jobs"], jobs_pb2_grpc.add_JobsServicer_to_server, JobsServicer(face)),
            Service(
                models_pb2.DESCRIPTOR.services_by_name["Models"],
                models_pb2_grpc.add_ModelsServicer_to_server,
                ModelsServicer(face, edge.clock),
            ),
        ]
        async with serving(*services, authenticate=scripted.authenticator(open_as), addresses=(f"unix:{socket}",), grace=0.2):
            yield socket


@asynccontextmanager
async def running_edge(*, open_as: str = "", clock: SystemClock | ManualClock | None = None, **settings) -> AsyncGenerator[Edge]:
    edge = Edge(scripted.ScriptedDispatcher(), clock or SystemClock())
    with tempfile.TemporaryDirectory(prefix="aos-test-") as folder:
        async with (
            servers(folder, edge, open_as) as socket,
            running_envoy(EnvoySettings(upstream=socket, **({"drain_seconds": 0} | settings))) as port,
        ):
            edge.port = port
            yield edge


@pytest.fixture
async def edge() -> AsyncGenerator[Edge]:
    async with running_edge() as running:
        yield running
