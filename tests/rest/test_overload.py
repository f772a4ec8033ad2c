"""A full queue in each dialect's words, with when to come again; jobs whose callers went away; limits over REST."""

from __future__ import annotations

import asyncio
import math

import httpx
import pytest

from aos.clock import SystemClock
from aos.dispatcher.pace import MOST_SECONDS
from aos.dispatcher.settings import DispatcherSettings
from aos.testing.harness import running_aos
from aos.v1.dispatcher_pb2 import GetJobRequest, Job, JobState, ListJobsRequest
from tests.rest.test_jobs import submission

CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
ASKED = [
    ("/v1/jobs", {"order": {"model": "scripted", "prompt": "hi"}}),
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", CHAT | {"stream": True}),
    ("/v1/completions", {"model": "scripted", "prompt": "hi"}),
    ("/v1/run", {"controller": "none", "controller_arg": "hi", "model": "scripted"}),
]


class TestFull:
    async def test_429_in_each_dialect(self):
        """All say that the queue is full, as 429, and after how many whole seconds to come again."""
        settings = DispatcherSettings(project_jobs=1)
        async with running_aos(envoy=True, clock=SystemClock(), dispatcher=settings) as aos:
            headers, hold = {"authorization": f"Bearer {aos.token}"}, aos.model.hold()
            async with httpx.AsyncClient(base_url=aos.url, headers=headers, timeout=20) as client:
                first = await client.post("/v1/jobs", json={"order": {"model": "scripted", "prompt": "first"}})
                assert first.status_code == 200
                replies = [await client.post(path, json=body) for path, body in ASKED]
                replies.append(await client.post("/api/job/submit", json=submission(aos)))
            hold.release()

        for reply in replies:
            assert reply.status_code == 429, reply.text
            assert "unfinished jobs of projects/demo" in reply.text
        seconds = [reply.headers.get("retry-after") for reply in replies[1:]]
        assert all(each is not None and 1 <= int(each) <= math.ceil(MOST_SECONDS) for each in seconds), seconds
        assert replies[0].json()["details"][-1] == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retry_delay": "1s"}
        assert replies[-1].json()["code"] == 429


class TestWhoLeaves:
    @pytest.mark.asyncio(loop_scope="module")
    @pytest.mark.parametrize(
        ("path", "body", "stream"),
        [
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "{said}"}]}, True),
            ("/v1/completions", {"prompt": "{said}"}, True),
            ("/v1/completions", {"prompt": "{said}"}, False),
            ("/v1/run", {"controller": "none", "controller_arg": "{said}", "max_tokens": 100}, None),
        ],
    )
    async def test_its_job_ends(self, aos_rest, path, body, stream):
        """Whichever way it asked: a caller who hangs up leaves no job that computes, and none that waits."""
        said = f"{path} {stream}"
        aos_rest.model.say("Once upon a time.", to=said)
        hold = aos_rest.model.hold(after="Once")
        asked = {"model": "scripted"} | ({} if stream is None else {"stream": stream})
        asked |= {key: _said(value, said) for key, value in body.items()}
        headers = {"authorization": f"Bearer {aos_rest.token}"}
        async with httpx.AsyncClient(base_url=aos_rest.url, headers=headers, timeout=20) as leaving:
            waiting = asyncio.create_task(leaving.post(path, json=asked))
            latest = ListJobsRequest(page_size=1)
            async with asyncio.timeout(20):
                while said not in str((jobs := (await aos_rest.dispatcher.ListJobs(latest)).jobs)[:1]):
                    pass
            await hold.reached()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        async with asyncio.timeout(20):
            *_, last = [event async for event in aos_rest.client.watch(jobs[0])]
        hold.release()
        assert last.outcome.state == JobState.JOB_STATE_CANCELLED

    @pytest.mark.asyncio(loop_scope="module")
    async def test_before_its_turn(self, aos_rest):
        """A job that still waits for a place ends, too, and no operator ever gets it."""
        hold = aos_rest.model.hold()
        headers = {"authorization": f"Bearer {aos_rest.token}"}
        async with httpx.AsyncClient(base_url=aos_rest.url, headers=headers, timeout=20) as leaving:
            having = [asyncio.create_task(leaving.post("/v1/chat/completions", json=CHAT)) for _ in range(aos_rest.model.slots)]
            await _standing(aos_rest, aos_rest.model.slots, JobState.JOB_STATE_ASSIGNED, JobState.JOB_STATE_RUNNING)
            waiting = [asyncio.create_task(leaving.post("/v1/chat/completions", json=CHAT)) for _ in range(4)]
            found = await _standing(aos_rest, 4, JobState.JOB_STATE_QUEUED)
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            async with asyncio.timeout(20):
                for job in found:
                    *_, last = [event async for event in aos_rest.client.watch(job)]
                    assert last.outcome.state == JobState.JOB_STATE_CANCELLED
            for one in having:
                one.cancel()
            await asyncio.gather(*having, return_exceptions=True)
        hold.release()
        ended = [await aos_rest.dispatcher.GetJob(GetJobRequest(name=job.name)) for job in found]
        assert [job.attempts for job in ended] == [0] * 4


class TestLimits:
    @pytest.mark.asyncio(loop_scope="module")
    async def test_seen_and_set(self, aos_rest, rest, bare):
        """The administrator sets a project's weight and limits; the project sees them, and cannot set them."""
        path, limits = "/v1/projects/-", {"weight": 300, "unfinished_jobs": 900}
        admin = {"authorization": f"Bearer {aos_rest.admin_token}"}
        mine = (await rest.get(path)).json()
        named = f"/v1/{mine['name']}:setLimits"
        assert (await rest.post(named, json={"limits": limits})).status_code == 403
        done = await bare.post(named, json={"limits": limits}, headers=admin)

        assert done.status_code == 200, done.text
        assert done.json()["own_limits"] == limits
        assert (await rest.get(path)).json()["limits"]["weight"] == 300
        wrong = await bare.post(named, json={"limits": {"weight": 10_001}}, headers=admin)
        assert (wrong.status_code, "limits.weight: must be from 1 to 10000" in wrong.text) == (400, True)
        assert (await bare.post(named, json={"limits": {}}, headers=admin)).json()["limits"]["weight"] == 100


async def _standing(aos, count: int, *states: JobState) -> list[Job]:
    """Return the jobs in these states once there are so many."""
    asked = ListJobsRequest(page_size=100, states=states)
    async with asyncio.timeout(20):
        while len(found := list((await aos.dispatcher.ListJobs(asked)).jobs)) != count:
            pass
    return found


def _said(value: object, said: str) -> object:
    match value:
        case str():
            return value.replace("{said}", said)
        case list():
            return [_said(one, said) for one in value]
        case dict():
            return {key: _said(one, said) for key, one in value.items()}
        case _:
            return value
