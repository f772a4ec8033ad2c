"""`aos up`, scraped as Prometheus would."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

from aos.credentials import Credentials


class TestMetrics:
    async def test_all_operators_are_told_at_one_path(self, up, tmp_path):
        """The administrator's token opens the metrics of every process."""
        async with up("--operators", "2") as running:
            token = Credentials.load(tmp_path / "data").admin_token
            async with httpx.AsyncClient(base_url=running.ready["url"], timeout=20) as client:
                refused = await client.get("/metrics")
                reply = await client.get("/metrics", headers={"authorization": f"Bearer {token}"})
        families = {family.name: family.samples for family in text_string_to_metric_families(reply.text)}
        assert refused.status_code == 401
        assert families["aos_operators_silent"][0].value == 0
        assert families["aos_operators_attached"][0].value == 2
        assert len({sample.labels["operator"] for sample in families["vllm:num_requests_running"]}) == 2
