"""A network of ours as the model server of another: what comes through Envoy once goes through unchanged."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest

from aos.clock import SystemClock
from aos.testing.harness import Aos, running_aos
from aos.testing.scripted import ScriptedModel
from aos.v1.dispatcher_pb2 import JobState, ListJobsRequest
from tests.system.test_hosting import QUICK, pb, until

SECONDS = 20
ASK = {"model": "scripted", "messages": [{"role": "user", "content": "What is AI?"}]}


@asynccontextmanager
async def chained(model: ScriptedModel):
    """Give the outer network, whose `scripted` is the inner one's, and the inner one."""
    async with (
        running_aos(model, clock=SystemClock(), envoy=True, open_to_all=True) as inner,
        running_aos(
            name="own", clock=SystemClock(), envoy=True, open_to_all=True, upstreams=replace(QUICK, probe_seconds=1.0)
        ) as outer,
    ):
        spec = pb.ReplicaSpec(model="scripted", api=f"{inner.url}/v1")
        await outer.admin.registry.RegisterProject(pb.RegisterProjectRequest(project="inner", replicas=[spec]))
        await until(outer, lambda found: found.routable, "scripted")
        await checked(outer)
        yield outer, inner


async def checked(outer: Aos) -> None:
    """Return once the inner network was looked at as a model server: it answers nobody else from then on."""
    async with asyncio.timeout(SECONDS):
        while True:
            project = await outer.admin.registry.GetAiProject(pb.GetAiProjectRequest(name="inner"))
            if "errors" in project.replicas[0].capabilities:
                return
            await asyncio.sleep(0.05)


async def post(aos: Aos, **more) -> httpx.Response:
    async with httpx.AsyncClient(timeout=SECONDS) as client:
        return await client.post(f"{aos.url}/v1/chat/completions", json=ASK | more)


def events(reply: httpx.Response) -> list[dict]:
    lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


class TestChained:
    async def test_answer(self):
        """The inner network's answer and counts are the outer one's."""
        async with chained(ScriptedModel("It is ", "mathematics.")) as (outer, _):
            said = (await post(outer)).json()

        assert said["choices"][0]["message"]["content"] == "It is mathematics."
        # the scripted model's tokens are bytes
        assert said["usage"]["completion_tokens"] == len("It is mathematics.")
        assert said["usage"]["prompt_tokens"] == len("user: What is AI?\n") + 1

    async def test_stream_is_not_lumped(self):
        """A piece comes through both networks while the answer still stands behind it."""
        model = ScriptedModel("It is ", "mathematics.")
        async with chained(model) as (outer, _), httpx.AsyncClient(timeout=SECONDS) as client:
            hold, got = model.hold(after="It is "), ""
            async with client.stream("POST", f"{outer.url}/v1/chat/completions", json=ASK | {"stream": True}) as reply:
                async with asyncio.timeout(SECONDS):
                    async for line in reply.aiter_lines():
                        if not line.startswith("data: {"):
                            continue
                        got += (json.loads(line[6:])["choices"] or [{}])[0].get("delta", {}).get("content") or ""
                        if got == "It is ":
                            hold.release()

        assert got == "It is mathematics."

    async def test_calls(self):
        """A call of a tool comes through both networks as one."""
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
        tools = [{"type": "function", "function": {"name": "add", "parameters": schema}}]
        call = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
        async with chained(ScriptedModel(call)) as (outer, _):
            whole = (await post(outer, tools=tools)).json()
            streamed = events(await post(outer, tools=tools, stream=True))

        (said,) = whole["choices"][0]["message"]["tool_calls"]
        assert (said["function"]["name"], json.loads(said["function"]["arguments"])) == ("add", {"a": 1})
        assert whole["choices"][0]["finish_reason"] == "tool_calls"
        pieces = [one["choices"][0]["delta"].get("tool_calls") for one in streamed if one["choices"]]
        assert "".join(one[0]["function"].get("arguments") or "" for one in pieces if one) == '{"a": 1}'

    @pytest.mark.parametrize(("more", "status"), [({"logprobs": True}, 400), ({"temperature": 9}, 400)])
    async def test_refusals(self, more, status):
        """What a model server cannot be asked, or nobody may ask, is the caller's fault."""
        async with chained(ScriptedModel()) as (outer, _):
            reply = await post(outer, **more)

        assert (reply.status_code, reply.json()["error"]["type"]) == (status, "invalid_request_error")

    async def test_caller_leaves(self):
        """A caller that leaves the outer network stops the inner one's engine."""
        model = ScriptedModel("It is ", "mathematics." * 100)
        async with chained(model) as (outer, inner), httpx.AsyncClient(timeout=SECONDS) as client:
            hold = model.hold(after="It is ")
            async with client.stream("POST", f"{outer.url}/v1/chat/completions", json=ASK | {"stream": True}):
                await hold.reached()
            for one in (outer, inner):
                async with asyncio.timeout(SECONDS):
                    while await latest(one) != JobState.JOB_STATE_CANCELLED:
                        await asyncio.sleep(0.01)
            hold.release()


async def latest(aos: Aos) -> JobState:
    return (await aos.dispatcher.ListJobs(ListJobsRequest(page_size=1))).jobs[0].state
