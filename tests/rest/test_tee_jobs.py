"""The jobs dialect with operators of two kinds: one whose key is attested, one without."""

from __future__ import annotations

import httpx
import pytest
import pytest_asyncio

from aos.clock import SystemClock
from aos.testing.harness import running_aos
from aos.testing.scripted import ScriptedModel
from tests.rest.test_jobs import submission

pytestmark = pytest.mark.asyncio(loop_scope="module")

JOB = {"tag": "tee", "prompt": "What is AI?", "model": "scripted"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mixed():
    async with running_aos(ScriptedModel(), ScriptedModel(), envoy=True, attested=1, clock=SystemClock()) as network:
        yield network


@pytest_asyncio.fixture(loop_scope="module")
async def client(mixed):
    async with httpx.AsyncClient(base_url=mixed.url, headers={"authorization": f"Bearer {mixed.token}"}, timeout=20) as one:
        yield one


class TestTeeJobs:
    async def test_one_is_run_by_an_attested_key(self, mixed, client):
        """Submitted as any other; the result is that operator's, and the native job shows what was verified."""
        job = (await client.post("/api/job/submit", json=submission(mixed, job=JOB))).json()["result"]
        await mixed.client.outcome(f"jobs/{job}")
        (row,) = (await client.post("/api/job/result", json={"job_id": job})).json()["result"]
        assert (row["operator"], row["result"]) == (mixed.operators[0].lower(), "Scripted.")
        assert (await client.post("/api/job/detail", json={"job_id": job})).json()["result"]["job"] == JOB
        native = (await client.get(f"/v1/jobs/{job}")).json()
        attested = native["outcome"]["attested"]
        assert native["job_type"] == "tee"
        assert (attested["provider"], attested["key"]) == ("TEE_PROVIDER_SIMULATED", mixed.operators[0])
        bundle = (await client.get(f"/v1/jobs/{job}/receipt")).json()
        assert bundle["attested"] == attested
        assert bundle["attestation"]["document"]

    async def test_one_that_came_by_the_native_door_is_shown_as_it_was(self, mixed, client):
        """`job.tag` of a job that was made over gRPC or `POST /v1/jobs` is its kind."""
        order = {"model": "scripted", "prompt": "hi"}
        made = (await client.post("/v1/jobs", json={"order": order, "job_type": "tee"})).json()
        job = made["name"].removeprefix("jobs/")
        assert (await client.post("/api/job/detail", json={"job_id": job})).json()["result"]["job"]["tag"] == "tee"

    async def test_a_kind_that_nobody_takes_is_refused_with_both_that_there_are(self, mixed, client):
        """`zkml` jobs are taken by none."""
        reply = await client.post("/api/job/submit", json=submission(mixed, job=JOB | {"tag": "zkml"}))
        assert reply.status_code == 400
        assert reply.json()["message"] == "job.tag: no operator takes 'zkml' jobs for 'scripted' now; there are: opml, tee"

    async def test_operators_show_their_kind(self, mixed, client):
        """`tee` for an attested key, `opml` for the other."""
        kinds = [
            (await client.post("/api/operator/info", json={"operator": one})).json()["result"]["operator_type"]
            for one in mixed.operators
        ]
        assert kinds == ["tee", "opml"]
