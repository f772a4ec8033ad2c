"""The jobs dialect's lists: `/api/job/verify`, pages of results; and which kinds of jobs and deadlines it takes."""

from __future__ import annotations

import pytest

from aos.v1.dispatcher_pb2 import CancelJobRequest, GetJobRequest, RiskTag
from tests.rest.test_jobs import ROW, submission, submitted

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def results(bare, aos, **asked):
    reply = await bare.post("/api/job/verify", json={"verify": aos.token} | asked)
    assert reply.status_code == 200, reply.text
    return reply.json()


class TestVerify:
    async def test_a_users_results_come_newest_first(self, aos_rest, bare):
        """Those of its own jobs, and of nobody else's, each with every key of a result."""
        mine = [await submitted(aos_rest, bare, user="ann", tag="") for _ in range(3)]
        await submitted(aos_rest, bare, user="bob")
        found = await results(bare, aos_rest, user="ann")
        assert list(found) == ["code", "result", "next_page_token"]
        assert [row["job_id"] for row in found["result"]] == mine[::-1]
        assert all(list(row) == ROW for row in found["result"])

    async def test_they_come_in_pages(self, aos_rest, bare):
        """Each page goes on behind the one before; the last has no token for a next one."""
        mine = [await submitted(aos_rest, bare, user="cat") for _ in range(5)]
        seen, token, pages = [], "", 0
        while pages < 9:
            page = await results(bare, aos_rest, user="cat", page_size=2, page_token=token)
            seen += [row["job_id"] for row in page["result"]]
            token, pages = page["next_page_token"], pages + 1
            if not token:
                break
        assert (seen, pages) == (mine[::-1], 3)

    async def test_a_job_without_an_answer_has_its_reason(self, aos_rest, bare):
        """A failure is a result too, and says why there is no text."""
        aos_rest.model.say("Held back.", to="hold for dan")
        hold = aos_rest.model.hold(after="Held")
        asked = submission(aos_rest, user="dan", job={"prompt": "hold for dan", "model": "scripted"})
        job = (await bare.post("/api/job/submit", json=asked)).json()["result"]
        await hold.reached()
        assert (await results(bare, aos_rest, user="dan"))["result"] == []
        await aos_rest.dispatcher.CancelJob(CancelJobRequest(name=f"jobs/{job}"))
        hold.release()
        (row,) = (await results(bare, aos_rest, user="dan"))["result"]
        assert (row["result"], row["signature"]) == ("", "")
        assert "was cancelled" in row["reason"]

    @pytest.mark.parametrize(
        ("asked", "field"),
        [({"user": ""}, "user"), ({}, "user"), ({"user": "x", "page_size": 1001}, "page_size"),
         ({"user": "x", "page_token": "abc"}, "page_token"), ({"user": "x", "job_id": "1"}, "job_id")],
    )  # fmt: skip
    async def test_a_wrong_question_is_named(self, aos_rest, bare, asked, field):
        """400, and the message begins with the field."""
        reply = await bare.post("/api/job/verify", json={"verify": aos_rest.token} | asked)
        assert (reply.status_code, reply.json()["code"]) == (400, 400)
        assert reply.json()["message"].startswith(f"{field}: ")

    async def test_it_needs_the_projects_token(self, bare):
        """Without one there is nothing to see."""
        assert (await bare.post("/api/job/verify", json={"user": "ann"})).status_code == 401


class TestResultPages:
    async def test_results_can_be_paged(self, aos_rest, bare):
        """A page of one has the one row; a token of another list is refused."""
        job = await submitted(aos_rest, bare, user="eve")
        asked = {"job_id": job, "verify": aos_rest.token}
        page = (await bare.post("/api/job/result", json=asked | {"page_size": 1})).json()
        assert len(page["result"]) == 1
        assert page["next_page_token"] == ""
        refused = await bare.post("/api/job/result", json=asked | {"page_token": "zzzz"})
        assert refused.json()["message"].startswith("page_token: ")


class TestKinds:
    @pytest.mark.parametrize("kind", ["tee", "zkml"])
    async def test_a_kind_that_nobody_offers_is_refused_with_what_there_is(self, aos_rest, bare, kind):
        """The caller learns at once, not from a job that never ends."""
        job = {"tag": kind, "prompt": "hi", "model": "scripted"}
        reply = await bare.post("/api/job/submit", json=submission(aos_rest, job=job))
        assert (reply.status_code, reply.json()["result"]) == (400, None)
        message = reply.json()["message"]
        assert message == f"job.tag: no operator takes '{kind}' jobs for 'scripted' now; there are: opml"


class TestDeadline:
    async def test_a_job_may_have_a_time_of_its_own(self, aos_rest, bare):
        """`timeout` seconds after its acceptance it expires; its risk tag is the native job's, too."""
        asked = submission(aos_rest, timeout=90.5, tag="suspicion", user="fay")
        job = (await bare.post("/api/job/submit", json=asked)).json()["result"]
        native = await aos_rest.dispatcher.GetJob(GetJobRequest(name=f"jobs/{job}"))
        assert (native.deadline.ToDatetime() - native.created.ToDatetime()).total_seconds() == 90.5
        assert native.tag == RiskTag.RISK_TAG_SUSPICION
