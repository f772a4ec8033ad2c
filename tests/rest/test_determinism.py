"""Asking over REST for answers that are the same whatever the load."""

from __future__ import annotations

import httpx
import pytest
import pytest_asyncio

from aos.testing.harness import running_aos
from aos.testing.scripted import ScriptedModel
from aos.v1.dispatcher_pb2 import ListJobsRequest
from aos.v1.types_pb2 import Determinism

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODIES = {
    "/v1/chat/completions": {"model": "scripted", "messages": [{"role": "user", "content": "Hello"}]},
    "/v1/completions": {"model": "scripted", "prompt": "Hello"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model():
    return ScriptedModel("Exactly.")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network(model):
    async with running_aos(model, envoy=True) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def rest(network):
    async with httpx.AsyncClient(base_url=network.url, headers={"authorization": f"Bearer {network.token}"}, timeout=30) as opened:
        yield opened


async def newest(network) -> Determinism:
    """What the job that was made last asks for."""
    listed = await network.dispatcher.ListJobs(ListJobsRequest(page_size=1))
    return listed.jobs[0].order.determinism


class TestDeterminism:
    @pytest.mark.parametrize("path", BODIES)
    @pytest.mark.parametrize("asked", ["exact", "best_effort"])
    async def test_it_reaches_the_order(self, network, rest, path, asked):
        """What a chat or a completion asks for is in the order that the operator signs for."""
        reply = await rest.post(path, json=BODIES[path] | {"determinism": asked})

        assert reply.status_code == 200
        assert await newest(network) == Determinism.Value(f"DETERMINISM_{asked.upper()}")

    async def test_a_job(self, network, rest):
        """A job's params may ask for it, and the job shows it."""
        job = {"prompt": "Hello", "model": "scripted", "params": {"determinism": "exact"}}
        submitted = await rest.post("/api/job/submit", json={"from": "demo", "job": job})
        detail = await rest.post("/api/job/detail", json={"job_id": submitted.json()["result"]})

        assert await newest(network) == Determinism.DETERMINISM_EXACT
        assert detail.json()["result"]["job"] == job

    async def test_something_else(self, rest):
        """Any other word is refused by name."""
        reply = await rest.post("/v1/completions", json=BODIES["/v1/completions"] | {"determinism": "mostly"})

        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == "determinism"

    async def test_a_model_that_cannot(self):
        """Where no operator can be exact, that is said before anything is computed."""
        rough = ScriptedModel("Roughly.")
        rough.exact = False
        async with running_aos(rough, envoy=True) as network, httpx.AsyncClient(base_url=network.url, timeout=30) as rest:
            body = BODIES["/v1/completions"] | {"determinism": "exact"}
            reply = await rest.post("/v1/completions", json=body, headers={"authorization": f"Bearer {network.token}"})

        assert reply.status_code == 400
        assert "same bits" in reply.json()["error"]["message"]
        assert not rough.prompts
