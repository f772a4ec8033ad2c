"""This network's own model interface, by the checker that it gives to others; and the command."""

from __future__ import annotations

import json

import httpx
import pytest

from aos.conformance.asking import Place, check
from tests.cli.conftest import run_aos
from tests.conformance.server import Answer, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestOurselves:
    async def test_the_network_conforms(self, aos_rest):
        """Through Envoy, line by line, without a note."""
        async with httpx.AsyncClient(trust_env=False) as client:
            place = Place(aos_rest.url, {"authorization": f"Bearer {aos_rest.token}"})
            report = await check(client, place, model="scripted")
        assert {one.verdict for one in report.findings} <= {"pass", "note"}, report
        assert {one.line for one in report.findings if one.verdict == "note"} <= {"chat.stream.parts"}
        assert set(report.capabilities) == {"models", "chat", "usage", "stream", "stream-usage", "errors"}


class TestCommand:
    async def test_a_server_that_conforms_gives_0(self):
        """With a line a finding, and what it can do."""
        async with serving() as server:
            result = await run_aos("registry", "check", f"{server.url}/v1/chat/completions")
        assert result.code == 0, result.out
        assert "pass  chat.stream.done" in result.out
        assert f"{server.url} conforms; m can: models, chat" in result.out

    async def test_one_that_does_not_gives_1(self):
        """In JSON, too."""
        async with serving(
            lambda server: setattr(server, "stream", Answer(b"data: {}\n\n", content_type="text/event-stream"))
        ) as server:
            result = await run_aos("registry", "check", server.url, "--json")
        told = json.loads(result.out)
        assert (result.code, told["conforms"]) == (1, False)
        assert {one["line"] for one in told["findings"] if one["verdict"] == "fail"} >= {"chat.stream.done"}

    async def test_what_is_no_url_is_refused(self):
        """Before anything is asked."""
        result = await run_aos("registry", "check", "ftp://x")
        assert result.code == 1
        assert "URL: must begin with http" in result.err

    async def test_projects_are_registered_and_unregistered(self, aos_rest, tmp_path):
        """Signed with the key that is named; listed with their state, and in the administrator's log."""
        from aos.verification.keys import OperatorKey

        key = tmp_path / "key"
        address = OperatorKey.load(key).address.lower()
        options = ("--data", str(tmp_path), "--connect", aos_rest.address, "--token", aos_rest.token, "registry")
        made = await run_aos(*options, "register", "typed", "a=http://127.0.0.1:1/v1", "b=http://localhost:2", "--key", str(key))
        assert made.code == 0, made.err
        assert made.out.count("added") == 2
        listed = json.loads((await run_aos(*options, "projects", "--json")).out)
        mine = next(one for one in listed["projects"] if one["name"] == "typed")
        assert (mine["owner"], [one["model"] for one in mine["replicas"]]) == (address, ["a", "b"])
        assert "typed" in (await run_aos(*options, "projects")).out
        gone = await run_aos(*options, "unregister", "typed", "--key", str(key))
        assert gone.out.count("removed") == 2, gone.err
        again = await run_aos(*options, "unregister", "typed", "--key", str(key))
        assert (again.code, "There is no project 'typed'" in again.err) == (1, True)
        assert "key" in (await run_aos(*options, "register", "typed", "a=http://127.0.0.1:1")).err

    async def test_the_log_needs_the_administrator(self, aos_rest, tmp_path):
        """Whose token the data folder of `aos up` has."""
        from aos.credentials import Credentials

        Credentials(grpc=aos_rest.address, admin_token=aos_rest.admin_token).save(tmp_path)
        assert (await run_aos("--data", str(tmp_path), "registry", "audit")).code == 0
        Credentials(grpc=aos_rest.address, admin_token=aos_rest.token).save(tmp_path)
        assert (await run_aos("--data", str(tmp_path), "registry", "audit")).code == 1
