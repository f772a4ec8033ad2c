"""What a project may use in a time, and how long one job may take."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st

from aos.dispatcher import quotas
from aos.dispatcher.quotas import Requests, Tokens, check_tokens
from aos.errors import InvalidField, QuotaExceeded
from aos.v1 import dispatcher_pb2 as pb
from tests.dispatcher.conftest import BALANCE, running
from tests.refusals import refused

NOW = datetime(2026, 3, 4, 22, 0, tzinfo=UTC)


def used(tokens: int, promised: int = 0) -> Tokens:
    return Tokens(tokens, promised)


class TestRequests:
    def test_a_minutes_worth_at_once(self):
        """So many come through at one instant, the next is told when to come, and comes through then."""
        requests = Requests()
        for _ in range(3):
            requests.take("p", NOW, per_minute=3)
        with pytest.raises(QuotaExceeded, match=r"requests per minute \(3\)") as refusal:
            requests.take("p", NOW, per_minute=3)

        assert refusal.value.retry_after == 20
        requests.take("p", NOW + timedelta(seconds=20), per_minute=3)

    def test_projects_do_not_share(self):
        """One that asks too much keeps no other out."""
        requests = Requests()
        requests.take("p", NOW, per_minute=1)
        requests.take("q", NOW, per_minute=1)
        with pytest.raises(QuotaExceeded):
            requests.take("p", NOW, per_minute=1)

    @given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 10))
    def test_never_more_than_twice_a_minutes_worth_in_a_minute(self, waits, limit):
        """Whatever the times, no minute sees more than what may come at once and what comes back within it."""
        requests, now, taken = Requests(), NOW, list[datetime]()
        for wait in waits:
            now += timedelta(seconds=wait)
            with suppress(QuotaExceeded):
                requests.take("p", now, per_minute=limit)
                taken.append(now)
        for start in taken:
            assert sum(start <= one < start + timedelta(minutes=1) for one in taken) <= 2 * limit

    def test_it_remembers_so_many_projects(self, monkeypatch):
        """The one that was silent longest is forgotten first: memory is bounded, whoever asks."""
        monkeypatch.setattr(quotas, "REMEMBERED", 2)
        requests = Requests()
        for project in ("p", "q", "r"):
            requests.take(project, NOW, per_minute=1)
        requests.take("p", NOW, per_minute=1)
        with pytest.raises(QuotaExceeded):
            requests.take("r", NOW, per_minute=1)


class TestTokens:
    def test_the_days_tokens(self):
        """Used ones come back at midnight, UTC; promised ones soon; both keep a job out."""
        check_tokens("p", 10, used(80, 10), per_day=100, now=NOW)
        with pytest.raises(QuotaExceeded, match="tokens per day") as gone:
            check_tokens("p", 10, used(91), per_day=100, now=NOW)
        with pytest.raises(QuotaExceeded) as promised:
            check_tokens("p", 10, used(80, 11), per_day=100, now=NOW)

        assert gone.value.retry_after == timedelta(hours=2).total_seconds()
        assert promised.value.retry_after == quotas.FREED_SECONDS

    def test_what_no_day_has(self):
        """A job that could use more than a whole day's is told so, not to come again."""
        with pytest.raises(InvalidField, match=r"max_tokens: lets the job use 101 tokens.* 100 a day"):
            check_tokens("p", 101, used(0), per_day=100, now=NOW)


class TestQuotas:
    async def test_too_many_requests(self, tmp_path):
        """The refusal names the quota and its limit, and says when to come again; retries of one request count, too."""
        async with running(tmp_path, project_requests=2) as aos:
            await aos.operator(attach=False)
            await aos.deposit(BALANCE, "q")
            await aos.submit(request_id="r")
            await aos.submit(request_id="r")
            with refused("QUOTA_EXCEEDED", code="RESOURCE_EXHAUSTED", quota="requests per minute", limit="2") as _:
                await aos.submit()
            await aos.submit(by=aos.other)
            aos.clock.advance(seconds=30)

            assert (await aos.submit()).state == pb.JOB_STATE_QUEUED

    async def test_the_refusal_says_when(self, tmp_path):
        """In google.rpc.RetryInfo, from which Envoy and the dialects make `retry-after`."""
        import grpc

        async with running(tmp_path, project_requests=1) as aos:
            await aos.operator(attach=False)
            await aos.submit()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await aos.submit()
            status = rpc_status.from_call(caught.value)
            retry = error_details_pb2.RetryInfo()

            assert status is not None
            assert any(detail.Unpack(retry) for detail in status.details if detail.Is(retry.DESCRIPTOR))
            assert retry.retry_delay.seconds == 60

    async def test_tokens_of_a_day(self, tmp_path):
        """What jobs may use counts until they end, then what they used; the next day begins anew."""
        job_tokens = 356 + 12  # the template's bound and the prompt's bytes, and max_tokens
        async with running(tmp_path, project_tokens=job_tokens + 99) as aos:
            operator = await aos.operator()
            first = await aos.submit()
            with refused("QUOTA_EXCEEDED", quota="tokens per day", limit=str(job_tokens + 99)):
                await aos.submit()
            lease = await operator.lease()
            operator.start(lease)
            operator.say(lease, "Yes", [1])
            operator.finish(lease, "Yes", [1])
            await aos.until(first, "COMPLETED")
            second = await aos.submit()
            await aos.project.CancelJob(pb.CancelJobRequest(name=second.name))
            third = await aos.submit(max_tokens=150)
            assert third.state == pb.JOB_STATE_QUEUED
            with refused("INVALID_FIELD", field="order.sampling.max_tokens"):
                await aos.submit(max_tokens=500)


class TestDeadline:
    async def test_a_jobs_own(self, aos):
        """A job expires when its own time is over, and says how long that was."""
        await aos.operator(attach=False)
        job = await aos.submit(timeout=Duration(seconds=30))
        patient = await aos.submit(timeout=Duration(seconds=1200))
        assert job.deadline.seconds - job.created.seconds == 30

        done = await aos.eventually(lambda: aos.job(job), lambda job: job.HasField("ended"), step=7)
        assert (done.state, done.outcome.error.metadata["limit"]) == (pb.JOB_STATE_EXPIRED, "30")
        aos.clock.advance(seconds=700)
        assert (await aos.job(patient)).state == pb.JOB_STATE_QUEUED

    @pytest.mark.parametrize(
        "time", [Duration(), Duration(seconds=-1), Duration(seconds=86_401), Duration(seconds=1, nanos=-1_000_000_000)]
    )
    async def test_a_time_that_cannot_be(self, aos, time):
        """None, less than none, or more than the settings let a job take."""
        await aos.operator(attach=False)
        with refused("INVALID_FIELD", field="timeout", limit="86400"):
            await aos.submit(timeout=time)

    async def test_it_is_part_of_the_request(self, aos):
        """A request_id cannot come back with another timeout."""
        await aos.operator(attach=False)
        first = await aos.submit(request_id="r", timeout=Duration(seconds=30))
        assert (await aos.submit(request_id="r", timeout=Duration(seconds=30))).name == first.name
        with refused("REQUEST_ID_REUSED"):
            await aos.submit(request_id="r", timeout=Duration(seconds=31))
