"""`GET /metrics`, as Prometheus scrapes it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from aos.clock import SystemClock
from aos.testing.harness import running_aos
from aos.testing.scripted import ScriptedModel
from aos.v1.dispatcher_pb2 import CancelJobRequest, CreateJobRequest
from aos.v1.types_pb2 import Order

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md"
HI = [{"role": "user", "content": "What is AI?"}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network():
    """Two operators behind one port."""
    async with running_aos(ScriptedModel("Yes."), ScriptedModel("Yes."), envoy=True, clock=SystemClock()) as running:
        yield running


async def scrape(network, token: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(base_url=network.url, headers=headers, timeout=20) as client:
        return await client.get("/metrics")


def read(text: str) -> dict[tuple[str, str], float]:
    """Sum of each sample, by its name and the label that tells its kind apart."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, sample.labels.get("state", sample.labels.get("finished_reason", ""))
            found[key] = found.get(key, 0) + sample.value
    return found


class TestMetrics:
    async def test_what_happened_is_counted(self, network):
        """A job shows in the dispatcher's counts and in those of the operator that ran it."""
        before = read((await scrape(network, network.admin_token)).text)
        asked = {"model": "scripted", "messages": HI}
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {network.token}"}, timeout=20) as client:
            body = (await client.post(f"{network.url}/v1/chat/completions", json=asked)).json()
        reply = await scrape(network, network.admin_token)
        now = read(reply.text)
        grown = {key: now[key] - before[key] for key in now}

        assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert (grown["aos_jobs_total", "queued"], grown["aos_jobs_total", "completed"]) == (1, 1)
        assert grown["vllm:request_success_total", "stop"] == 1
        assert grown["vllm:generation_tokens_total", ""] == body["usage"]["completion_tokens"]
        assert grown["vllm:prompt_tokens_total", ""] == body["usage"]["prompt_tokens"]
        assert grown["vllm:time_to_first_token_seconds_count", ""] == 1
        assert (now["aos_operators_attached", ""], now["aos_operators_silent", ""]) == (2, 0)
        assert (now["aos_queue_jobs", ""], now["vllm:num_requests_running", ""]) == (0, 0)

    async def test_who_waits_and_who_gave_up(self, network):
        """Jobs beyond the operators' slots wait in the queue; cancelled ones are counted, and their answers as aborts."""
        before = read((await scrape(network, network.admin_token)).text)
        holds = [model.hold() for model in network.models]
        places = sum(model.slots for model in network.models)
        order = Order(model="scripted", prompt="Say it.")
        made = [await network.dispatcher.CreateJob(CreateJobRequest(order=order)) for _ in range(places + 1)]
        await self._until(network, {("aos_queue_jobs", ""): 1, ("vllm:num_requests_running", ""): places})
        for job in reversed(made):  # the one that waits first, or it would take a freed place
            await network.dispatcher.CancelJob(CancelJobRequest(name=job.name))
        for hold in holds:
            hold.release()
        key = "aos_jobs_total", "cancelled"
        aborted = "vllm:request_success_total", "abort"
        idle = {("aos_queue_jobs", ""): 0, ("vllm:num_requests_running", ""): 0, ("vllm:kv_cache_usage_perc", ""): 0}
        await self._until(network, idle | {key: before[key] + places + 1, aborted: before[aborted] + places})

    @staticmethod
    async def _until(network, wanted: dict[tuple[str, str], float]) -> None:
        """Return once all of these stand in the metrics."""
        async with asyncio.timeout(20):
            while not wanted.items() <= read((await scrape(network, network.admin_token)).text).items():
                pass

    async def test_each_operator_has_its_series(self, network):
        """They differ in the operator's address; the model's name is vLLM's label."""
        families = {one.name: one for one in text_string_to_metric_families((await scrape(network, network.admin_token)).text)}
        running = [sample.labels for sample in families["vllm:num_requests_running"].samples]
        assert {labels["operator"] for labels in running} == set(network.operators)
        assert {labels["model_name"] for labels in running} == {"scripted"}

    async def test_it_needs_the_administrators_token(self, network):
        """Nobody's token and a project's are refused, and nothing is told."""
        nobody, stranger, project = [await scrape(network, token) for token in ("", "wrong", network.token)]
        assert [one.status_code for one in (nobody, stranger, project)] == [401, 401, 403]
        assert all("vllm:" not in one.text for one in (nobody, stranger, project))


class TestReferencePage:
    async def test_every_metric_is_explained(self, network):
        """The page has each metric's name and type, and no other."""
        page = PAGE.read_text()
        shown = set(re.findall(r"^\| `([\w:]+)` \| (\w+) \|", page, re.MULTILINE))
        families = text_string_to_metric_families((await scrape(network, network.admin_token)).text)
        told = {(f"{one.name}_total" if one.type == "counter" else one.name, one.type) for one in families}
        # a failure's series begins with the first one
        assert {one for one in told if not one[0].endswith("_created")} == shown
