"""Envoy in front of several servers: who gets calls, what is sent again, and who is left out for how long."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aos.rpc.channel import channel
from aos.v1.dispatcher_pb2 import CreateJobRequest, GetJobRequest
from aos.v1.dispatcher_pb2_grpc import DispatcherStub
from aos.v1.types_pb2 import Order
from gateway.envoy.config import config
from gateway.envoy.run import EnvoySettings, running_envoy
from tests.gateway import scripted_network as scripted
from tests.rest.upstream import model_of, two_upstreams

PATIENCE = 40
RARELY = 3600.0
"""Seconds between health checks, for tests of what calls alone tell."""


@asynccontextmanager
async def spread(**settings):
    """Two upstreams, Envoy before them, and a stub through it."""
    with tempfile.TemporaryDirectory(prefix="aos-test-") as name:
        async with two_upstreams(Path(name)) as (a, b):
            where = f"unix:{a.socket},unix:{b.socket}"
            wanted = {"upstream": where, "drain_seconds": 0, "retries": 2, "health_seconds": 0.2} | settings
            async with running_envoy(EnvoySettings(**wanted)) as port, channel(f"127.0.0.1:{port}", scripted.TOKEN) as opened:
                stub = DispatcherStub(opened)
                async with asyncio.timeout(PATIENCE):
                    while {await ask(stub) for _ in range(4)} != {"a", "b"}:
                        await asyncio.sleep(0.05)
                yield a, b, stub


def ask(stub, name: str = "jobs/1", seconds: float = 20):
    return model_of(stub.GetJob(GetJobRequest(name=name), timeout=seconds))


async def answered_by(stub, wanted: set[str], *, seconds: float = 20) -> None:
    """Return once calls in a row are answered by these, all of them, and nobody else."""
    async with asyncio.timeout(PATIENCE):
        while {await ask(stub, seconds=seconds) for _ in range(12)} != wanted:
            await asyncio.sleep(0.05)


class TestKilled:
    async def test_no_call_is_lost_with_a_server(self):
        """One of two servers is killed while calls come in: every one of them is answered."""
        async with spread() as (a, _, stub):
            said = [await ask(stub) for _ in range(20)]
            killing = asyncio.create_task(a.kill())
            said += [await ask(stub) for _ in range(200)]
            await killing
            said += [await ask(stub) for _ in range(20)]
        assert set(said[:20]) == {"a", "b"}
        assert set(said) == {"a", "b"}
        assert set(said[-20:]) == {"b"}


class TestRetries:
    async def test_what_may_be_done_twice_is_sent_again(self):
        """A server dies in the middle of a call without side effects: the other one answers it."""
        async with spread() as (a, b, stub):
            answered = await ask(stub, "jobs/die")
            assert a.seen.read_text().splitlines() == ["b" if answered == "a" else "a", answered]
        assert answered in {a.name, b.name}

    async def test_what_may_not_is_not(self):
        """A server dies in the middle of a CreateJob: the caller hears so, and no other server sees the call."""
        async with spread() as (a, _, stub):
            assert await model_of(stub.CreateJob(CreateJobRequest(order=Order(model="die")), timeout=20)) == "UNAVAILABLE"
            assert len(a.seen.read_text().splitlines()) == 1

    async def test_what_no_server_has_begun_is_sent_again_whatever_it_does(self):
        """A server that is gone begins nothing, so its calls go to the other, CreateJob too."""
        async with spread(health_seconds=RARELY, eject_failures=1000) as (a, _, stub):
            await a.kill()
            created = [await model_of(stub.CreateJob(CreateJobRequest(order=Order(model="x")), timeout=20)) for _ in range(20)]
        assert set(created) == {"b"}

    def test_the_protos_say_which(self):
        """Calls that read or end something may be repeated, those that make or pay something without an id may not."""
        every = config(EnvoySettings(upstream="a:1,b:1", retries=1), "admin")
        manager = every["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        routes = manager["route_config"]["virtual_hosts"][0]["routes"]
        again = {
            route["match"].get("path")
            for route in routes
            if "unavailable" in route.get("route", {}).get("retry_policy", {}).get("retry_on", "")
        }
        safe = {
            "/aos.v1.Dispatcher/GetJob",
            "/aos.v1.Dispatcher/CancelJob",
            "/aos.v1.Broker/Settle",
            "/gateway.v1.Models/ListModels",
        }
        unsafe = {"/aos.v1.Dispatcher/CreateJob", "/aos.v1.Dispatcher/Attach", "/gateway.v1.Models/CreateChatCompletion"}
        assert safe <= again
        assert not (unsafe | {"/aos.v1.Dispatcher/RotateProjectToken", "/aos.v1.Broker/TransferFund"}) & again


class TestEjection:
    async def test_a_server_that_loses_calls_is_left_out_and_comes_back(self):
        """Calls alone tell that a server is gone; later it is tried again, and gets calls if it is there."""
        async with spread(health_seconds=RARELY, eject_seconds=1.0, retries=0) as (a, _, stub):
            await a.kill()
            await answered_by(stub, {"b"})
            await a.start()
            await answered_by(stub, {"a", "b"})

    async def test_a_server_that_hangs_is_left_out_and_comes_back(self):
        """One that takes calls and answers none fails its health checks; once it answers again, it gets calls."""
        async with spread() as (a, _, stub):
            a.send(signal.SIGSTOP)
            await answered_by(stub, {"b"}, seconds=2)
            a.send(signal.SIGCONT)
            await answered_by(stub, {"a", "b"})


class TestAddresses:
    @pytest.mark.parametrize(
        ("address", "kinds"),
        [
            ("unix:/a,unix:/b", ("STATIC", ["pipe", "pipe"])),
            ("10.0.0.1:80,[::1]:81", ("STATIC", ["socket_address", "socket_address"])),
            ("dispatchers.aos.svc:7001", ("STRICT_DNS", ["socket_address"])),
            ("/a/path:80", ("STATIC", ["pipe"])),
        ],
    )
    def test_their_form_says_what_they_are(self, address, kinds):
        """A path is a socket, numbers are an address, and a name is all that it stands for."""
        (cluster,) = config(EnvoySettings(upstream=address), "admin")["static_resources"]["clusters"]
        ends = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        assert (cluster["type"], [next(iter(one["endpoint"]["address"])) for one in ends]) == kinds

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"dispatchers": "a:0"}, "dispatchers: a port must be from 1 to 65535, not 0"),
            ({"broker": "a:1,,b:1"}, "broker: must not be empty"),
            ({"registry": ",".join(["a:1"] * 257)}, "registry: must be at most 256 addresses, not 257"),
            ({"private_key": Path("key")}, "certificate, private_key: go together"),
            ({"retries": 11}, "retries: must be from 0 to 10, not 11"),
        ],
    )
    def test_what_cannot_be_is_refused(self, wrong, words):
        """The message names the setting, the value and the limit."""
        with pytest.raises(ValueError, match=words):
            EnvoySettings(upstream="a:1", **wrong)
