"""Whom an Envoy that lets callers in without a token answers: nobody who is led there by a page of somewhere else."""

import json

import pytest

from aos.rpc.channel import channel
from aos.v1 import registry_pb2, registry_pb2_grpc
from tests.gateway.conftest import running_edge

HI = [{"role": "user", "content": "hi"}]
OWN = ("localhost", "127.0.0.1", "[::1]")


class TestNames:
    """A network that lets this machine's callers in without a token must not be reached by pages of somewhere else."""

    @pytest.mark.parametrize("name", ["localhost", "127.0.0.1:1", "[::1]:8080"])
    async def test_own(self, name):
        """It is called by its own names, whatever the port."""
        async with running_edge(open_as="projects/demo", hosts=OWN) as edge, edge.client("") as client:
            assert (await client.get("/v1/models", headers={"host": name})).status_code == 200

    @pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example:8080", "localhost.evil.example"])
    async def test_strange(self, name):
        """Under a name that somebody gave our address, nobody is answered, in the dialect that was asked."""
        async with running_edge(open_as="projects/demo", hosts=OWN) as edge, edge.client("") as client:
            reply = await client.get("/v1/models", headers={"host": name})

        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "forbidden")
        assert "localhost" in reply.json()["error"]["message"]

    @pytest.mark.parametrize(
        ("origin", "status"),
        [
            ("http://localhost:8080", 200),
            ("http://127.0.0.1", 200),
            ("https://a.example", 200),
            ("https://evil.example", 403),
            ("http://localhost.evil.example", 403),
            ("http://localhost:8080.evil.example", 403),
            ("null", 403),
        ],
    )
    async def test_origin(self, origin, status):
        """A page of another origin cannot even send a request that browsers send without asking first."""
        async with (
            running_edge(open_as="projects/demo", hosts=OWN, origins=("https://a.example",)) as edge,
            edge.client("") as client,
        ):
            asked = {"model": "echo", "messages": HI}
            reply = await client.post("/v1/chat/completions", content=json.dumps(asked), headers={"origin": origin})

        assert reply.status_code == status

    async def test_grpc(self):
        """gRPC clients are answered as before."""
        async with (
            running_edge(open_as="projects/demo", hosts=OWN) as edge,
            channel(edge.address) as opened,
        ):
            models = await registry_pb2_grpc.RegistryStub(opened).ListModels(registry_pb2.ListModelsRequest(), timeout=10)

        assert models.models
