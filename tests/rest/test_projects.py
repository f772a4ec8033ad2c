"""The jobs dialect's projects: `/api/admin/project/register` and `/list`."""

from __future__ import annotations

import pytest

from tests.rest.test_jobs import TIME

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROJECT = ["id", "name", "address", "status", "token", "created_at", "limits"]
ACCOUNT = "0x" + "Ab" * 20


async def registered(aos, bare, address: str, name: str = "A name"):
    body = {"name": name, "address": address, "token": aos.admin_token}
    return await bare.post("/api/admin/project/register", json=body)


class TestRegister:
    async def test_a_project_and_its_token(self, aos_rest, bare):
        """The reply has every documented key; the token is good for what projects do."""
        reply = await registered(aos_rest, bare, "shop")
        row = reply.json()["result"]
        assert list(row) == PROJECT
        assert (row["id"], row["address"], row["name"], row["status"]) == ("shop", "shop", "A name", "")
        assert TIME.fullmatch(row["created_at"])
        assert row["limits"] == {
            "requests_per_minute": 60_000,
            "tokens_per_day": 1_000_000_000,
            "unfinished_jobs": 1000,
            "kept_jobs": 100_000,
            "weight": 100,
        }
        asked = await bare.post("/api/job/verify", json={"user": "nobody", "verify": row["token"]})
        assert asked.json() == {"code": 200, "result": [], "next_page_token": ""}

    async def test_an_accounts_address_can_name_a_project(self, aos_rest, bare):
        """`from` may spell it as it likes; the project is no operator's account."""
        row = (await registered(aos_rest, bare, ACCOUNT)).json()["result"]
        assert row["id"] == row["address"] == ACCOUNT.lower()
        job = {"prompt": "hi", "model": "scripted"}
        reply = await bare.post("/api/job/submit", json={"from": ACCOUNT, "verify": row["token"], "job": job})
        assert reply.status_code == 402, reply.text  # it is known, and has no money
        other = await bare.post("/api/job/submit", json={"from": "0x" + "11" * 20, "verify": row["token"], "job": job})
        assert other.status_code == 401

    async def test_one_address_is_one_project(self, aos_rest, bare):
        """409 for a second, and its token is not shown."""
        await registered(aos_rest, bare, "twice")
        again = await registered(aos_rest, bare, "twice")
        assert (again.status_code, again.json()["result"]) == (409, None)

    @pytest.mark.parametrize(
        ("address", "name", "field"),
        [("", "n", "address"), ("a b", "n", "address"), ("ok", "x" * 129, "name"), ("ok", "a\nb", "name")],
    )
    async def test_a_wrong_field_is_named(self, aos_rest, bare, address, name, field):
        """In the dialect's own words."""
        reply = await registered(aos_rest, bare, address, name)
        assert reply.status_code == 400
        assert reply.json()["message"].startswith(f"{field}: ")

    async def test_only_the_administrator_may(self, aos_rest, bare):
        """A project's token is not enough, and none is nothing."""
        for token, status in ((aos_rest.token, 403), ("", 401), ("wrong", 401)):
            body = {"name": "n", "address": "mine", "token": token}
            assert (await bare.post("/api/admin/project/register", json=body)).status_code == status


class TestList:
    async def test_no_token_is_ever_listed(self, aos_rest, bare):
        """Every project with all its keys, its token empty."""
        secret = (await registered(aos_rest, bare, "listed")).json()["result"]["token"]
        reply = await bare.post("/api/admin/project/list", json={"token": aos_rest.admin_token})
        rows = {row["id"]: row for row in reply.json()["result"]}
        assert rows["listed"]["name"] == "A name"
        assert list(rows["demo"]) == PROJECT
        assert {row["token"] for row in rows.values()} == {""}
        assert secret not in reply.text

    async def test_it_comes_in_pages(self, aos_rest, bare):
        """Pages of one hold all projects, each once."""
        await registered(aos_rest, bare, "paged")
        whole = await bare.post("/api/admin/project/list", json={"token": aos_rest.admin_token})
        seen, token = [], ""
        for _ in whole.json()["result"]:
            asked = {"token": aos_rest.admin_token, "page_size": 1, "page_token": token}
            page = (await bare.post("/api/admin/project/list", json=asked)).json()
            seen, token = seen + page["result"], page["next_page_token"]
        assert (seen, token) == (whole.json()["result"], "")

    async def test_only_the_administrator_may(self, aos_rest, bare):
        """Who else asks learns nothing."""
        for token, status in ((aos_rest.token, 403), ("", 401)):
            assert (await bare.post("/api/admin/project/list", json={"token": token})).status_code == status
