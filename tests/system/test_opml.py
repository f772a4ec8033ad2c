"""The OPML dialect of `aos up`: its first operator, behind the network's one port."""

from __future__ import annotations

import httpx

from tests.operator.receiver import receiving
from tests.rest.test_opml import answered


class TestUp:
    async def test_questions_reach_the_first_operator(self, up):
        """In dev mode anyone on this machine asks, and hears the answer back; what was asked is there after a restart."""
        async with up("--dev") as network, receiving() as receiver, httpx.AsyncClient(base_url=network.ready["url"]) as anyone:
            question = {"model": network.ready["model"], "prompt": "What is AI?", "callback": receiver.url, "req_id": "one"}
            asked = await anyone.post("/api/v1/question", json=question, timeout=20)
            (called,) = await receiver.calls(1)
            before = await answered(anyone, "one")
        async with up() as network:
            headers = {"authorization": f"Bearer {network.ready['admin_token']}"}
            async with httpx.AsyncClient(base_url=network.ready["url"], headers=headers) as admin:
                after = await answered(admin, "one")
            async with httpx.AsyncClient(base_url=network.ready["url"]) as anyone:
                closed = await anyone.get("/api/v1/answer/one")

        assert asked.json()["data"]["node_id"].lower() in {one.lower() for one in network.ready["operators"]}
        assert called["answer"] == before["answer"] == after["answer"]
        assert len(called["answer"]) > 20
        assert closed.status_code == 401
