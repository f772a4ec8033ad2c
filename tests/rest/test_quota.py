"""Quotas over REST: 429 in each dialect's shape, with the limit's name and when to come again."""

from __future__ import annotations

import httpx

from aos.clock import SystemClock
from aos.dispatcher.settings import DispatcherSettings
from aos.testing.harness import running_aos
from tests.rest.test_jobs import submission


class TestQuota:
    async def test_429_names_the_limit_and_says_when(self):
        """The jobs dialect, the model interface and the native API say the same in their own words."""
        settings = DispatcherSettings(project_requests=1)
        async with running_aos(envoy=True, clock=SystemClock(), dispatcher=settings) as aos:
            headers = {"authorization": f"Bearer {aos.token}"}
            async with httpx.AsyncClient(base_url=aos.url, headers=headers, timeout=20) as client:
                first = await client.post("/api/job/submit", json=submission(aos))
                jobs = await client.post("/api/job/submit", json=submission(aos))
                chat = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
                models = await client.post("/v1/chat/completions", json=chat)
                native = await client.post("/v1/jobs", json={"order": {"model": "scripted", "prompt": "hi"}})

        assert first.status_code == 200
        for refused in (jobs, models, native):
            assert refused.status_code == 429, refused.text
            assert "requests per minute (1)" in refused.text
        assert (jobs.json()["code"], jobs.json()["result"]) == (429, None)
        assert 50 <= int(jobs.headers["retry-after"]) <= 60
        assert 50 <= int(models.headers["retry-after"]) <= 60
