"""Envoy's process and its configuration."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import stat
import sys
import tempfile
from pathlib import Path

import grpc
import httpx
import pytest

from aos.clock import SystemClock
from aos.rpc.channel import channel
from aos.rpc.server import Service, serving
from aos.v1 import operator_pb2, operator_pb2_grpc
from gateway.descriptors import rest
from gateway.envoy.run import EnvoyError, EnvoySettings, running_envoy
from tests.gateway import scripted_network as scripted
from tests.gateway.conftest import Edge, running_edge, servers

HI = [{"role": "user", "content": "hi"}]
NOBODY = EnvoySettings(upstream="nowhere", drain_seconds=0)


@pytest.fixture
def temporary(monkeypatch):
    """A folder for temporary files that no other run uses, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="aos-test-") as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        monkeypatch.setenv("TMPDIR", name)
        yield Path(name)


def envoy_of(parent: int, port: int) -> int:
    """The process id of the parent's Envoy that listens on the port."""
    inodes = {
        line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[1].endswith(f":{port:04X}")
    }
    sockets = {f"socket:[{inode}]" for inode in inodes if inode != "0"}
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        for descriptor in Path(f"/proc/{child}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if str(descriptor.readlink()) in sockets:
                    return int(child)
    raise LookupError(f"nobody listens on {port}")


async def refuses(port: int) -> None:
    """Return once nobody listens on the port."""
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return
            except ConnectionResetError:  # it was closed while we waited to be let in
                continue
            writer.close()
            await asyncio.sleep(0.01)


class TestPaths:
    def test_the_rest_paths_are_the_documented_ones(self):
        """A path that is changed or lost breaks callers, and buf does not see it."""
        assert {(form.verb, form.template, form.method) for form in rest()} >= {
            ("POST", "/v1/jobs", "/aos.v1.Dispatcher/CreateJob"),
            ("GET", "/v1/jobs", "/aos.v1.Dispatcher/ListJobs"),
            ("GET", "/v1/{name=jobs/*}", "/aos.v1.Dispatcher/GetJob"),
            ("POST", "/v1/{name=jobs/*}:cancel", "/aos.v1.Dispatcher/CancelJob"),
            ("GET", "/v1/{name=jobs/*}:watch", "/aos.v1.Dispatcher/WatchJob"),
            ("GET", "/v1/{name=jobs/*}/receipt", "/aos.v1.Dispatcher/GetReceipt"),
            ("GET", "/v1/{name=accounts/*}", "/aos.v1.Broker/GetAccount"),
            ("POST", "/api/job/submit", "/gateway.v1.Jobs/SubmitJob"),
            ("POST", "/api/job/result", "/gateway.v1.Jobs/GetJobResults"),
            ("POST", "/api/job/detail", "/gateway.v1.Jobs/GetJobDetail"),
            ("POST", "/v1/chat/completions", "/gateway.v1.Models/CreateChatCompletion"),
            ("POST", "/v1/embeddings", "/gateway.v1.Models/CreateEmbeddings"),
            ("GET", "/v1/models", "/gateway.v1.Models/ListModels"),
            ("GET", "/v1/models/{model=**}", "/gateway.v1.Models/GetModel"),
        }

    def test_no_path_has_two_meanings(self):
        """Envoy does not notice two methods on one path."""
        forms = [(form.verb, form.pattern) for form in rest()]
        assert len(forms) == len(set(forms))


class TestSettings:
    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"port": 70_000}, "port: must be from 0 to 65535, not 70000"),
            ({"upstream": ""}, "upstream: is needed"),
            ({"upstream": "/" + "x" * 200}, "upstream: the path of a unix socket has at most 107 bytes"),
            ({"drain_seconds": -1}, "drain_seconds: must be from 0"),
            ({"origins": ("*",)}, "origins: must have the form"),
            ({"origins": ("https://a.example/",)}, "origins: must have the form"),
        ],
    )
    def test_what_cannot_be_is_refused_by_name(self, wrong, says):
        """A wrong setting never becomes a default."""
        with pytest.raises(ValueError, match=says):
            EnvoySettings(**({"upstream": "socket"} | wrong))


class TestStart:
    async def test_a_taken_port_is_said(self):
        """The error names the port and repeats Envoy's own words; two Envoys never share one."""
        async with running_envoy(NOBODY) as port:
            with pytest.raises(EnvoyError, match=rf"port: 127\.0\.0\.1:{port} is taken.*\n.*Address already in use"):
                async with running_envoy(EnvoySettings(upstream="nowhere", port=port)):
                    pass

    async def test_a_refused_configuration_is_said(self):
        """What Envoy does not accept is an error with its words, at once."""
        with pytest.raises(EnvoyError, match="malformed IP address: not-an-address"):
            async with running_envoy(EnvoySettings(upstream="nowhere", host="not-an-address")):
                pass

    async def test_its_admin_is_for_this_user_only(self, temporary):
        """Who could reach the admin socket could end Envoy and read its configuration."""
        async with running_envoy(NOBODY):
            (folder,) = temporary.iterdir()
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert stat.S_IMODE((folder / "admin").stat().st_mode) == 0o600

    async def test_nothing_is_left_behind(self, temporary):
        """After the block, neither files nor port."""
        async with running_envoy(NOBODY) as port:
            pass
        await refuses(port)
        assert not list(temporary.iterdir())

    async def test_its_words_go_to_the_log(self, tmp_path):
        """Warnings land in the file that the settings name."""
        log = tmp_path / "envoy.log"
        async with running_edge(log_path=log, body_bytes=10) as edge, edge.client() as client:
            assert (await client.post("/api/job/submit", json={"job": "too long"})).status_code == 413
        assert "content length exceeds maximum" in log.read_text()

    async def test_a_crashed_envoy_is_started_again(self, edge, caplog):
        """On the same port, and the log says that it was."""
        async with edge.client() as client, asyncio.timeout(20):
            os.kill(envoy_of(os.getpid(), edge.port), signal.SIGKILL)
            await refuses(edge.port)
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get("/v1/models")).status_code == 200:
                        break
                await asyncio.sleep(0.05)
        assert "Envoy ended with -9" in caplog.text

    @pytest.mark.usefixtures("temporary")
    async def test_it_dies_with_its_parent(self):
        """A killed parent, which can clean up nothing, leaves no Envoy on the port."""
        program = (
            "import asyncio\n"
            "from gateway.envoy.run import EnvoySettings, running_envoy\n"
            "async def main():\n"
            "    async with running_envoy(EnvoySettings(upstream='nowhere')) as port:\n"
            "        print(port, flush=True)\n"
            "        await asyncio.Event().wait()\n"
            "asyncio.run(main())\n"
        )
        parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
        assert parent.stdout is not None
        port = int(await asyncio.wait_for(parent.stdout.readline(), 20))
        os.kill(parent.pid, signal.SIGKILL)
        await parent.wait()
        await refuses(port)


class TestStop:
    async def test_running_answers_end_first(self):
        """While Envoy drains, new callers are refused and a running answer comes whole."""
        async with servers_and_envoy(drain_seconds=20) as (edge, leaving, left):
            async with edge.client() as client:
                waiting = asyncio.create_task(client.post("/v1/chat/completions", json={"model": "silent", "messages": HI}))
                name = await asyncio.wait_for(edge.dispatcher.watched.get(), 10)
                leaving.set()
                await refuses(edge.port)
                assert not waiting.done()
                edge.dispatcher.say(name, "whole")
                edge.dispatcher.finish(name)
                assert (await waiting).json()["choices"][0]["message"]["content"] == "whole"
            await asyncio.wait_for(left.wait(), 10)

    async def test_answers_that_take_too_long_are_cut(self):
        """Draining has an end."""
        async with servers_and_envoy(drain_seconds=0.2) as (edge, leaving, left), edge.client() as client:
            waiting = asyncio.create_task(client.post("/v1/chat/completions", json={"model": "silent", "messages": HI}))
            await asyncio.wait_for(edge.dispatcher.watched.get(), 10)
            leaving.set()
            await asyncio.wait_for(left.wait(), 10)
            with pytest.raises(httpx.TransportError):
                await waiting


class servers_and_envoy:  # noqa: N801  # reads as the function that it stands for
    """A scripted network whose Envoy alone stops when `leaving` is set; `left` says that it has."""

    def __init__(self, **settings) -> None:
        self._settings = settings

    async def __aenter__(self):
        self._edge, self._leaving, self._left = Edge(scripted.ScriptedDispatcher(), SystemClock()), asyncio.Event(), asyncio.Event()
        self._ready = asyncio.Event()
        self._task = asyncio.create_task(self._run())
        await asyncio.wait_for(self._ready.wait(), 20)
        return self._edge, self._leaving, self._left

    async def _run(self):
        with tempfile.TemporaryDirectory(prefix="aos-test-") as folder:
            async with servers(folder, self._edge) as socket:
                async with running_envoy(EnvoySettings(upstream=socket, **self._settings)) as port:
                    self._edge.port = port
                    self._ready.set()
                    await self._leaving.wait()
                self._left.set()

    async def __aexit__(self, *_):
        self._leaving.set()
        await asyncio.wait_for(self._task, 20)


class TestServersDown:
    async def test_each_dialect_says_so_and_recovers(self):
        """Without servers every dialect answers 503 in its shape, and works again when they are back."""
        edge = Edge(scripted.ScriptedDispatcher(), SystemClock())
        with tempfile.TemporaryDirectory(prefix="aos-test-") as folder:
            async with running_envoy(EnvoySettings(upstream=f"{folder}/grpc", drain_seconds=0)) as port:
                edge.port = port
                async with edge.client() as client:
                    jobs = await client.post("/api/job/submit", json={})
                    models = await client.get("/v1/models")
                    native = await client.get("/v1/jobs/x")
                    health = await client.get("/healthz")
                    async with servers(folder, edge), asyncio.timeout(20):
                        while (await client.get("/healthz")).status_code != 200:
                            await asyncio.sleep(0.05)
                        assert (await client.get("/v1/models")).status_code == 200
        assert {reply.status_code for reply in (jobs, models, native, health)} == {503}
        assert {reply.headers.get("retry-after") for reply in (jobs, models, native)} == {"1"}
        assert (jobs.json()["code"], jobs.json()["result"]) == (503, None)
        assert (models.json()["code"], models.json()["error"]["type"]) == (1006, "server_error")
        assert (native.json()["code"], native.json()["details"]) == (14, [])
        assert "do not answer" in jobs.json()["message"]


class TestLimits:
    async def test_too_many_streams_are_refused(self):
        """One call more than the limit gets 503 at once, in its dialect; the others go on."""
        async with running_edge(streams=2) as edge, edge.client() as client:
            asked = {"model": "silent", "messages": HI}
            waiting = [asyncio.create_task(client.post("/v1/chat/completions", json=asked)) for _ in range(2)]
            names = [await asyncio.wait_for(edge.dispatcher.watched.get(), 10) for _ in waiting]
            refused = await client.post("/v1/chat/completions", json=asked)
            for name in names:
                edge.dispatcher.finish(name)
            assert [(await one).status_code for one in waiting] == [200, 200]
        assert (refused.status_code, refused.json()["code"]) == (503, 1006)

    async def test_hundreds_of_streams_run_at_once(self, edge):
        """Streams that wait do not keep others out: 300 on one connection."""
        count = 300
        async with channel(edge.address, scripted.TOKEN) as opened:
            calls = [chat(opened) for _ in range(count)]
            names = [await asyncio.wait_for(edge.dispatcher.watched.get(), 30) for _ in range(count)]
            for name in names:
                edge.dispatcher.finish(name)
            assert len({json.loads((await call)[0].data)["id"] for call in calls}) == count


def chat(opened: grpc.aio.Channel) -> asyncio.Task:
    from google.api.httpbody_pb2 import HttpBody

    from gateway.v1.models_pb2_grpc import ModelsStub

    call = ModelsStub(opened).CreateChatCompletion(HttpBody(data=json.dumps({"model": "silent", "messages": HI}).encode()))

    async def read() -> list[HttpBody]:
        return [message async for message in call]

    return asyncio.create_task(read())


class Describing(operator_pb2_grpc.OperatorServicer):
    async def DescribeOperator(self, request, context):
        return operator_pb2.OperatorDescription(address="0x01")


class TestOperator:
    async def test_an_operator_is_reached_by_the_same_port(self, tmp_path):
        """Its own service is behind the port, too, with its own access token; without the setting it is not."""
        socket = str(tmp_path / "operator")
        service = Service(
            operator_pb2.DESCRIPTOR.services_by_name["Operator"], operator_pb2_grpc.add_OperatorServicer_to_server, Describing()
        )
        asked = operator_pb2.DescribeOperatorRequest()
        async with (
            serving(service, authenticate=scripted.authenticator(), addresses=(f"unix:{socket}",), grace=0),
            running_edge(operator=socket) as with_operator,
            running_edge() as without,
            channel(with_operator.address, "admin-token") as reached,
            channel(without.address, "admin-token") as alone,
        ):
            assert (await operator_pb2_grpc.OperatorStub(reached).DescribeOperator(asked, timeout=10)).address == "0x01"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await operator_pb2_grpc.OperatorStub(alone).DescribeOperator(asked, timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


class TestBrowsers:
    async def test_pages_are_kept_out_by_default(self, edge):
        """No origin may call unless it is named."""
        async with edge.client() as client:
            reply = await client.get("/v1/models", headers={"origin": "https://a.example"})
        assert "access-control-allow-origin" not in reply.headers

    async def test_named_origins_may_call(self):
        """Preflight, replies and refusals carry the permission for a named origin, and for no other."""
        mine, other = "https://a.example", "https://b.example"
        async with running_edge(origins=(mine,)) as edge, edge.client() as client:
            asked = {"origin": mine, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
            preflight = await client.options("/v1/chat/completions", headers=asked)
            reply = await client.get("/v1/models", headers={"origin": mine})
            refusal = await client.post("/v1/chat/completions", json={}, headers={"origin": mine})
            stranger = await client.get("/v1/models", headers={"origin": other})
        assert preflight.status_code == 200
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        assert [one.headers.get("access-control-allow-origin") for one in (preflight, reply, refusal, stranger)] == [
            *(mine, mine, mine),
            None,
        ]


class TestLoopbackDevelopment:
    async def test_nobody_needs_a_token(self):
        """Where the servers let everyone act as a project, no dialect asks for a token."""
        async with running_edge(open_as="projects/demo") as edge, edge.client("") as client:
            made = await client.post("/api/job/submit", json={"from": "demo", "job": {"prompt": "hi", "model": "echo"}})
            result = await client.post("/api/job/result", json={"job_id": made.json()["result"]})
            chat_reply = await client.post("/v1/chat/completions", json={"model": "echo", "messages": HI})
        assert result.json()["result"][0]["result"] == "hi"
        assert chat_reply.json()["choices"][0]["message"]["content"] == "hi"

    async def test_any_word_is_a_token(self):
        """OpenAI's clients send a key whether one is needed or not: one that is nobody's is as good as none."""
        async with running_edge(open_as="projects/demo") as edge, edge.client("sk-any-word") as client:
            reply = await client.post("/v1/chat/completions", json={"model": "echo", "messages": HI})
        assert reply.json()["choices"][0]["message"]["content"] == "hi"


class TestTokens:
    async def test_a_wrong_one(self):
        """Elsewhere a token that is nobody's is refused."""
        async with running_edge() as edge, edge.client("sk-any-word") as client:
            reply = await client.post("/v1/chat/completions", json={"model": "echo", "messages": HI})
        assert reply.status_code == 401
