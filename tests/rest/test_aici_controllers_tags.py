"""The AICI dialect's tags: `POST` and `GET /v1/controllers/tags`."""

from __future__ import annotations

import json
import time

import pytest

from tests.modules import digits, module

pytestmark = pytest.mark.asyncio(loop_scope="module")

TAG = ["tag", "module_id", "updated_at", "updated_by", "wasm_size", "compiled_size"]


async def upload(rest, mark: str) -> str:
    return (await rest.post("/v1/controllers", content=module(mark))).json()["module_id"]


async def tag(rest, module_id: str, *tags: str, prefix: str = ""):
    return await rest.post(f"{prefix}/v1/controllers/tags", json={"module_id": module_id, "tags": tags})


async def listed(rest, prefix: str = "") -> list[dict]:
    return (await rest.get(f"{prefix}/v1/controllers/tags")).json()["tags"]


class TestTags:
    async def test_only_those_set_now_come_back(self, rest):
        """With the documented members."""
        module_id = await upload(rest, "set")
        await tag(rest, module_id, "set-before")
        reply = await tag(rest, module_id, "set-one", "set-two")
        assert reply.status_code == 200
        rows = reply.json()["tags"]
        assert [list(row) for row in rows] == [TAG, TAG]
        assert [row["tag"] for row in rows] == ["set-one", "set-two"]
        assert {row["module_id"] for row in rows} == {module_id}
        assert {row["updated_by"] for row in rows} == {"demo"}
        assert abs(rows[0]["updated_at"] - time.time()) < 60
        assert rows[0]["wasm_size"] == len(module("set"))
        assert rows[0]["compiled_size"] > 0

    async def test_all_are_listed_newest_first(self, rest):
        """As they were last set; also under a prefix."""
        module_id = await upload(rest, "list")
        for name in ("list-a", "list-b", "list-a"):
            await tag(rest, module_id, name)
        rows = await listed(rest)
        assert [row["tag"] for row in rows][:2] == ["list-a", "list-b"]
        assert await listed(rest, "/some/prefix") == rows

    async def test_a_tag_moves(self, rest):
        """To another module of the one who set it."""
        old, new = await upload(rest, "old"), await upload(rest, "new")
        await tag(rest, old, "moves")
        await tag(rest, new, "moves", prefix="/p")
        assert [row["module_id"] for row in await listed(rest) if row["tag"] == "moves"] == [new]

    async def test_the_administrators_are_admins(self, aos_rest, rest, bare):
        """And no project moves them: 400, as the runtime says it."""
        module_id = await upload(rest, "admins")
        authorization = {"authorization": f"Bearer {aos_rest.admin_token}"}
        body = {"module_id": module_id, "tags": ["admins-tag"]}
        reply = await bare.post("/v1/controllers/tags", json=body, headers=authorization)
        assert reply.json()["tags"][0]["updated_by"] == "admin"
        reply = await tag(rest, module_id, "admins-tag")
        assert (reply.status_code, reply.text) == (400, "APIError: While executing set_tags:\npermission denied for tag name")

    async def test_a_project_called_admin_is_none(self, aos_rest, bare):
        """What it sets is shown as a project's."""
        made = await bare.post("/api/admin/project/register", json={"name": "", "address": "admin", "token": aos_rest.admin_token})
        headers = {"authorization": f"Bearer {made.json()['result']['token']}"}
        sent = await bare.post("/v1/controllers", content=module("false"), headers=headers)
        body = {"module_id": sent.json()["module_id"], "tags": ["falses-tag"]}
        reply = await bare.post("/v1/controllers/tags", json=body, headers=headers)
        assert reply.json()["tags"][0]["updated_by"] == "projects/admin"


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("a" * 51, "tag name too long"),
            ("a" * 21, "tag name looks too hex"),
            ("1a", "tag name not identifier"),
            ("a/b", "tag name not identifier"),
        ],
    )
    async def test_not_every_text_is_a_tag(self, rest, name, why):
        """400, in the runtime's words."""
        reply = await tag(rest, await upload(rest, "names"), name)
        assert (reply.status_code, reply.headers["content-type"]) == (400, "text/plain; charset=utf-8")
        assert reply.text == f"APIError: While executing set_tags:\n{why}"

    @pytest.mark.parametrize(
        ("module_id", "why"),
        [("x", "invalid module_id"), ("a-tag", "invalid module_id"), ("0" * 64, f"There is no controller '{'0' * 64}'.")],
    )
    async def test_the_module_must_be_there(self, rest, module_id, why):
        """By its 64 hex digits."""
        reply = await tag(rest, module_id, "a")
        assert (reply.status_code, reply.text) == (400, f"APIError: While executing set_tags:\n{why}")

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ("{", "Json deserialize error: body: is not JSON"),
            ("", "Json deserialize error: body: is empty"),
            ('{"tags": ["a"]}', "Json deserialize error: missing field `module_id`"),
            (json.dumps({"module_id": digits(b"")}), "Json deserialize error: missing field `tags`"),
            (json.dumps({"module_id": digits(b""), "tags": "a"}), "APIError: While executing set_tags:\ntags: must be a list"),
        ],
    )
    async def test_the_body_must_be_right(self, rest, body, said):
        """400, which names the member."""
        reply = await rest.post("/v1/controllers/tags", content=body)
        assert reply.status_code == 400
        assert reply.text.startswith(said)

    async def test_more_members_mean_nothing(self, rest):
        """As everywhere in this dialect."""
        body = {"module_id": await upload(rest, "more"), "tags": ["more"], "other": 1}
        assert (await rest.post("/v1/controllers/tags", json=body)).status_code == 200

    async def test_strangers(self, aos_rest, bare):
        """401 for both."""
        assert (await bare.get("/v1/controllers/tags")).status_code == 401
        assert (await tag(bare, digits(b""), "a")).status_code == 401
