"""One service as a process: what it refuses to start with, when it is ready, and how it leaves."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from aos.rpc.auth import FixedTokens
from aos.rpc.channel import channel
from aos.rpc.readiness import Readiness
from aos.rpc.server import serving
from aos.serve import nobody
from aos.v1 import dispatcher_pb2, dispatcher_pb2_grpc
from tests.cli.conftest import run_aos
from tests.system.serving import ADMIN, SECONDS, SECRETS, network

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
NEEDED = {
    "AOS_DISPATCHER_REGISTRY": "r:1",
    "AOS_DISPATCHER_BROKER": "b:1",
    "AOS_DISPATCHER_BLOBS": "blobs",
    "AOS_DISPATCHER_MODULES": "modules",
}


async def status(opened: grpc.aio.Channel, service: str = "") -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    return (await health_pb2_grpc.HealthStub(opened).Check(request, wait_for_ready=True, timeout=SECONDS)).status


async def until(opened: grpc.aio.Channel, wanted: int) -> None:
    async with asyncio.timeout(SECONDS):
        while await status(opened) != wanted:
            await asyncio.sleep(0.05)


class TestStart:
    async def test_a_setting_that_cannot_be_stops_it(self, tmp_path):
        """The refusal is one line with the file, the key, the value and the limit; nothing is started."""
        file = tmp_path / "aos.toml"
        file.write_text('[dispatcher]\nlisten = ["here"]\ndatabase = "x.db"\n')
        found = await run_aos("serve", "dispatcher", "--settings", str(file), environment=SECRETS | NEEDED)
        assert (found.code, found.out) == (2, "")
        assert f"{file}: [dispatcher] listen: listen: must be host:port, with a port up to 65535" in found.err
        assert "not 'here'" in found.err

    async def test_a_file_that_is_none(self, tmp_path):
        """A file that is not there, and one that is no TOML, are named."""
        (tmp_path / "broken.toml").write_text("[dispatcher\n")
        missing = await run_aos("serve", "broker", "--settings", str(tmp_path / "none.toml"))
        broken = await run_aos("serve", "broker", environment={"AOS_SETTINGS": str(tmp_path / "broken.toml")})
        assert (missing.code, broken.code) == (2, 2)
        assert "none.toml: cannot be read: No such file" in missing.err
        assert "broken.toml: is no TOML" in broken.err

    async def test_secrets_are_no_flags(self):
        """A token on the command line is not taken, whatever else is right."""
        found = await run_aos("serve", "broker", "--admin-token", ADMIN, environment=SECRETS)
        assert found.code == 2
        assert "No such option" in found.err

    async def test_a_file_is_one_process_s(self, tmp_path):
        """A second dispatcher on an SQLite file is told that it needs another database."""
        async with network(tmp_path, "dispatcher") as running:
            second = await run_aos(
                *("serve", "dispatcher", "--settings", str(tmp_path / "aos.toml"), "--listen", "127.0.0.1:0"), environment=SECRETS
            )
            assert running.running["dispatcher"].process.returncode is None
        assert second.code == 1
        assert "dispatcher.db open; several need a postgresql:// URL" in second.err


class TestMigrate:
    async def test_tables_are_made_once(self, tmp_path):
        """The first run makes the tables of all services, the second finds them."""
        database = tmp_path / "aos.db"
        found = [await run_aos("migrate", "--database", str(database)) for _ in range(2)]
        assert [(one.code, one.out) for one in found] == [(0, "up to date\n")] * 2
        assert database.stat().st_size > 0

    async def test_a_password_is_not_taken_from_the_command_line(self):
        """A URL with a password is for the environment; the refusal does not repeat it."""
        found = await run_aos("migrate", "--database", "postgresql://me:hunter2@db/aos")
        assert found.code == 2
        assert "AOS_DATABASE" in found.err
        assert "hunter2" not in found.err

    async def test_what_is_no_database_is_named(self, tmp_path):
        """A file of something else is left as it is."""
        (tmp_path / "notes.txt").write_text("not a database, but long enough to be read as one" * 100)
        found = await run_aos("migrate", "--database", str(tmp_path / "notes.txt"))
        assert found.code == 1
        assert "notes.txt" in found.err


class TestHealth:
    async def test_a_shell_may_ask(self):
        """`aos health` says how a server is, without a token, and exits with 1 if it is not ready or not there."""
        tokens = FixedTokens(admin="", service="", otherwise=nobody)
        async with serving(authenticate=tokens, grace=0, readiness=Readiness({"a well": away})) as (port,):
            found = [await run_aos("health", f"127.0.0.1:{port}", *options) for options in ((), ("--service", "live"))]
        gone = await run_aos("health", "unix:/nowhere")
        assert [(one.code, one.out) for one in found] == [(1, "NOT_SERVING\n"), (0, "SERVING\n")]
        assert gone.code == 1


async def away() -> None:
    raise ConnectionError


class TestReady:
    async def test_only_with_all_that_it_needs(self, tmp_path):
        """A dispatcher is alive at once, and ready when registry and broker are; it says so when one of them goes."""
        async with network(tmp_path, "dispatcher", "registry") as running:
            async with channel(running.running["dispatcher"].listen[0]) as opened:
                assert (await status(opened, "live"), await status(opened)) == (SERVING, NOT_SERVING)
                await running.start("broker")
                await until(opened, SERVING)
                await running.stop("broker")
                await until(opened, NOT_SERVING)
                assert await status(opened, "live") == SERVING
            log = running.running["dispatcher"].log()
        assert "not ready: broker: UNAVAILABLE" in log


class TestLeaving:
    async def test_it_says_so_answers_on_and_ends_its_streams(self, tmp_path):
        """At SIGTERM it is ready no more and still takes calls for a time; then streams end by themselves, and it with 0."""
        async with network(tmp_path, "dispatcher", "registry", "broker", dispatcher="grace = 0.5") as running:
            one = running.running["dispatcher"]
            async with channel(one.listen[0], ADMIN) as opened:
                await until(opened, SERVING)
                stub = dispatcher_pb2_grpc.DispatcherStub(opened)
                watching = health_pb2_grpc.HealthStub(opened).Watch(health_pb2.HealthCheckRequest())
                assert (await watching.read()).status == SERVING
                one.process.terminate()
                assert (await asyncio.wait_for(watching.read(), SECONDS)).status == NOT_SERVING
                await stub.ListProjects(dispatcher_pb2.ListProjectsRequest())
            assert await asyncio.wait_for(one.process.wait(), SECONDS) == 0
            ends = await running.stop("registry", "broker")
        assert set(ends.values()) == {0}
