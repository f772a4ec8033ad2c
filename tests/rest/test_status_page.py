"""The status page's files, its feed, and the check of a receipt, as any caller has them."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import AsyncExitStack, suppress

import grpc
import httpx
import pytest

from aos.rpc.channel import channel
from aos.serve import running_services
from aos.testing.clock import ManualClock
from aos.testing.harness import ADMIN_TOKEN
from aos.v1.types_pb2 import Order
from gateway.pages import FEEDS
from gateway.status_feed import LIFE_SECONDS
from gateway.v1.pages_pb2 import WatchStatusRequest
from gateway.v1.pages_pb2_grpc import PagesStub

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def told(client: httpx.AsyncClient, *names: str) -> dict[str, dict]:
    """Read the feed until each of these events has come; return the first of each."""
    found: dict[str, dict] = {}
    async with client.stream("GET", "/status/feed") as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"] == "text/event-stream"
        name = ""
        async for line in reply.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                found.setdefault(name, json.loads(line.removeprefix("data: ")))
                if found.keys() >= set(names):
                    return found
    raise AssertionError(found)


class TestFiles:
    async def test_all_parts_are_served_safely(self, bare):
        """Every part that the page names comes without a token, as what it is, under a policy that runs nothing else."""
        page = await bare.get("/")
        assert page.content == (await bare.get("/status")).content
        seen, found = {"/": page}, set(re.findall(r'(?:href|src)="(/[^"]+)"', page.text))
        while left := found - seen.keys():
            for path in left:
                seen[path] = await bare.get(path)
                found |= {f"/status/page/{name}" for name in re.findall(r'from "\./([^"]+)"', seen[path].text)}
        kinds = {"/": "text/html", ".css": "text/css", ".js": "text/javascript"}
        for path, reply in seen.items():
            assert reply.status_code == 200
            assert reply.headers["content-type"] == f"{kinds[path if path == '/' else path[path.rindex('.') :]]}; charset=utf-8"
            assert reply.headers["x-content-type-options"] == "nosniff"
            policy = reply.headers["content-security-policy"]
            assert "default-src 'none'; script-src 'self'" in policy
            assert "unsafe" not in policy
        assert len(seen) > 10
        assert not re.search(r"\s(?:style|on\w+)=|<style|<script(?! type=\"module\" src=)", page.text)

    @pytest.mark.parametrize("name", ["nothing.js", "__init__.py", "%2e%2e%2fpages.py", ".", "index.html%00"])
    async def test_nothing_else_is(self, bare, name):
        """What is no part of the page is not found, wherever a name might lead."""
        assert (await bare.get(f"/status/page/{name}")).status_code in {400, 404}

    async def test_the_page_asks_for_a_token(self, bare):
        """Where callers need a token, the page knows before it is refused."""
        assert 'data-token="asked"' in (await bare.get("/")).text


class TestFeed:
    async def test_a_projects(self, aos_rest, rest):
        """All that a project may see comes at once: who it is, the network, its money and its jobs."""
        await aos_rest.client.answer(Order(model="scripted", prompt="Feed me."))
        found = await told(rest, "hello", "network", "ledger", "jobs", "trouble")
        assert {key: found["hello"][key] for key in ("project", "administrator", "signed_in")} == {
            "project": "projects/demo",
            "administrator": False,
            "signed_in": True,
        }
        assert [one["operator"] for one in found["network"]["operators"]] == [aos_rest.operators[0].lower()]
        assert found["ledger"]["account"] == "accounts/demo"
        assert found["jobs"]["jobs"][0]["input"] == "Feed me."
        assert found["trouble"] == {}

    @pytest.mark.parametrize("token", ["", "wrong"])
    async def test_nobodys(self, bare, token):
        """Without a token that is known there is no feed, and no check."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        assert (await bare.get("/status/feed", headers=headers)).status_code == 401
        assert (await bare.post("/status/check", headers=headers, json={})).status_code == 401

    async def test_there_are_so_many(self):
        """One feed more than are allowed is refused at once; when a page goes, another is fed."""
        async with (
            asyncio.timeout(60),
            running_services(":memory:", admin_token=ADMIN_TOKEN, clock=ManualClock(), grace=0) as services,
            channel(services.address, ADMIN_TOKEN) as opened,
        ):
            stub = PagesStub(opened)
            calls = [stub.WatchStatus(WatchStatusRequest()) for _ in range(FEEDS)]
            for call in calls:
                assert b"event: hello" in (await call.read()).data
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await stub.WatchStatus(WatchStatusRequest()).read()
            assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            calls.pop().cancel()
            fed = b""
            while not fed:  # until the server has seen that one is gone
                with suppress(grpc.aio.AioRpcError):
                    fed = (await stub.WatchStatus(WatchStatusRequest()).read()).data
            assert b"event: hello" in fed

    async def test_it_ends_with_the_network(self):
        """A feed that nothing wakes ends by itself, without an error, when the services stop; they need not cut it off."""
        async with asyncio.timeout(20), AsyncExitStack() as stack:
            async with running_services(":memory:", admin_token=ADMIN_TOKEN, clock=ManualClock(), grace=30) as services:
                stub = PagesStub(await stack.enter_async_context(channel(services.address, ADMIN_TOKEN)))
                call = stub.WatchStatus(WatchStatusRequest())
                await call.read()
            assert [part async for part in call]
            assert await call.code() is grpc.StatusCode.OK

    async def test_it_ends_by_itself(self):
        """A feed has a longest life, so that a token that is revoked meanwhile is asked for again."""
        clock = ManualClock()
        async with (
            asyncio.timeout(60),
            running_services(":memory:", admin_token=ADMIN_TOKEN, clock=clock, grace=0) as services,
            channel(services.address, ADMIN_TOKEN) as opened,
        ):
            call = PagesStub(opened).WatchStatus(WatchStatusRequest())
            for part in ("hello", "network"):
                assert f"event: {part}".encode() in (await call.read()).data
            ended = asyncio.ensure_future(call.code())
            while not ended.done():  # it may not lie down before the time has passed
                clock.advance(seconds=LIFE_SECONDS)
                await asyncio.wait({ended}, timeout=0.05)
            assert ended.result() is grpc.StatusCode.OK


class TestCheck:
    async def test_a_receipt_and_a_changed_one(self, aos_rest, rest):
        """The findings are those of `aos verify`, with whether all of them are good."""
        job = await aos_rest.client.submit(Order(model="scripted", prompt="Check me."))
        await aos_rest.client.outcome(job)
        bundle = (await rest.get(f"/v1/{job.name}/receipt")).json()
        whole = (await rest.post("/status/check", json=bundle)).json()
        changed = (await rest.post("/status/check", json=bundle | {"output": "Other."})).json()
        assert whole["holds"]
        assert not changed["holds"]
        assert [one["what"] for one in changed["findings"] if not one["good"]] == [
            "the answer's text is the one that was signed for"
        ]

    @pytest.mark.parametrize(
        ("body", "field"), [("[]", "body"), ("{", "body"), ('{"x": 1}', "body"), ("{}", "receipt"), ('{"receipt": 7}', "body")]
    )
    async def test_what_is_none(self, rest, body, field):
        """What is no receipt is refused, naming what is wrong, on one line."""
        reply = await rest.post("/status/check", content=body)
        assert reply.status_code == 400
        message = reply.json()["message"]
        assert message.startswith(f"{field}: ")
        assert "\n" not in message
