"""Who is refused before any work is done for them, and when they are told to come again."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from aos.dispatcher import pace
from aos.dispatcher.door import LOOP, STORE, Door, Refused
from aos.dispatcher.pace import LEAST_SECONDS, MOST_SECONDS, SAMPLES, Lateness, Pace
from aos.dispatcher.settings import DispatcherSettings
from aos.errors import QueueFull
from aos.rpc.status import from_rpc_error
from aos.store.sqlite import sqlite_file
from aos.testing.clock import ManualClock
from aos.v1 import dispatcher_pb2 as pb
from tests.dispatcher.conftest import BALANCE, running
from tests.dispatcher.hand import an_offer
from tests.dispatcher.test_limits import limited
from tests.refusals import refused

NOW = datetime(2026, 3, 4, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


class TestPace:
    def test_as_fast_as_places_become_free(self):
        """Where one place becomes free every four seconds, the refused are told to come four seconds apart."""
        known = Pace()
        for number in range(100):
            known.ended("q", after(4 * number))

        assert [round(known.wait("q", after(396)), 1) for _ in range(3)] == [4.0, 8.0, 12.0]

    def test_a_slow_down_is_seen(self):
        """Where nothing has ended for long, the next place is not expected as soon as the last ones came."""
        known = Pace()
        for number in range(100):
            known.ended("q", after(number / 10))

        assert known.wait("q", after(40)) > 30

    @given(st.lists(st.tuples(st.booleans(), st.floats(0, 1000)), max_size=50))
    def test_never_too_soon_or_too_late(self, moves):
        """Whatever happens when, nobody is told a time below the least or beyond the most."""
        known, now = Pace(), NOW
        for ended, seconds in moves:
            now += timedelta(seconds=seconds)
            if ended:
                known.ended("q", now)
            else:
                assert LEAST_SECONDS <= known.wait("q", now) <= MOST_SECONDS

    def test_it_remembers_so_many_projects(self, monkeypatch):
        """The one in which nothing happened longest is forgotten first: memory is bounded, whoever asks."""
        monkeypatch.setattr(pace, "REMEMBERED", 1)
        known = Pace()
        for number in range(100):
            known.ended("p", after(9 * number))
        known.ended("q", after(1000))

        assert known.wait("p", after(1000)) == LEAST_SECONDS


class TestLateness:
    def test_a_pause_is_nothing(self):
        """Being late once says nothing; being late at every look says by how much at least."""
        late = Lateness()
        for seconds in (9.0, 9.0, 0.1, 9.0, 9.0):
            late.add(seconds)
        assert late.standing == 0.1
        for _ in range(SAMPLES):
            late.add(2.0)

        assert late.standing == 2.0

    def test_nothing_is_known_at_first(self):
        """Before there were enough looks nobody is refused."""
        late = Lateness()
        for _ in range(SAMPLES - 1):
            late.add(9.0)

        assert late.standing == 0.0


class TestStore:
    async def test_too_many_writes_wait(self, tmp_path):
        """With so many transactions waiting more work is refused, until they are done; each refusal is counted."""
        counted, go, begun = list[Refused](), threading.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        async with sqlite_file(tmp_path / "some.db") as file:
            door = Door(
                waiting=file.waiting, settings=DispatcherSettings(store_queue=2), clock=ManualClock(), counted=counted.append
            )

            def long(db: object) -> None:
                loop.call_soon_threadsafe(begun.set)
                go.wait(10)

            work = [asyncio.create_task(file.transact(long))]
            await begun.wait()
            door.check()
            work += [asyncio.create_task(file.transact(lambda db: None)) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(QueueFull, match=STORE):
                door.check()
            go.set()
            await asyncio.gather(*work)
            door.check()

        assert counted == [Refused.STORE]


class TestDispatcher:
    async def test_a_late_process(self, tmp_path):
        """A dispatcher that is late with everything takes no more jobs, and says so."""
        async with running(tmp_path, late_seconds=1e-9) as aos:
            await aos.operator(attach=False)
            error = await aos.eventually(lambda: refusal(aos), lambda error: error is not None)

            assert (error.reason, error.code, error.facts["queue"]) == ("QUEUE_FULL", "RESOURCE_EXHAUSTED", LOOP)
            assert aos.metrics.get_sample_value("aos_refused_jobs_total", {"queue": "loop"}) >= 1

    async def test_refused_before_it_is_looked_at(self, tmp_path):
        """Where a queue is known to be full nobody reads the order: even one that cannot be is told of the queue only."""
        async with running(tmp_path, project_jobs=1) as aos:
            await aos.operator(attach=False)
            await aos.submit(request_id="r")
            with refused("INVALID_FIELD"):
                await aos.submit(priority=-10)
            with refused("QUEUE_FULL"):
                await aos.submit()
            with refused("QUEUE_FULL", queue="unfinished jobs of projects/p", limit="1"):
                await aos.submit(priority=-10)

            assert (await aos.submit(request_id="r")).state == pb.JOB_STATE_QUEUED
            assert aos.metrics.get_sample_value("aos_refused_jobs_total", {"queue": "project_queue"}) == 2

    async def test_a_place_that_becomes_free(self, tmp_path):
        """Is there at once, by a job's end or by new limits; what others ended is seen within a second."""
        async with running(tmp_path, project_jobs=1) as aos:
            await aos.operator(attach=False)
            first = await aos.submit()
            with refused("QUEUE_FULL"):
                await aos.submit()
            await aos.project.CancelJob(pb.CancelJobRequest(name=first.name))
            await aos.submit()
            with refused("QUEUE_FULL"):
                await aos.submit()
            await limited(aos, unfinished_jobs=2)
            await aos.submit()
            with refused("QUEUE_FULL"):
                await aos.submit()
            aos.clock.advance(seconds=1)
            with refused("INVALID_FIELD"):
                await aos.submit(priority=-10)

    async def test_when_to_come_again(self, tmp_path):
        """By the pace at which the project's jobs end: those who are refused are told to come one after the other."""
        async with running(tmp_path, project_jobs=1) as aos:
            await aos.deposit(BALANCE)
            await aos.operator(attach=False)
            for _ in range(60):
                job = await aos.submit()
                aos.clock.advance(seconds=7)
                await aos.project.CancelJob(pb.CancelJobRequest(name=job.name))
            await aos.submit()
            told = [error.retry_after for error in [await refusal(aos) for _ in range(3)] if error is not None]

            assert told == pytest.approx([7, 14, 21], abs=1)

    async def test_others_floods_keep_nobody_out(self, tmp_path):
        """With the whole queue full a project that has no job in it still gets one in, and that is all it gets."""
        async with running(tmp_path, queue_jobs=3) as aos:
            await aos.deposit(BALANCE, "q")
            await aos.operator(attach=False)
            for _ in range(3):
                await aos.submit()
            with refused("QUEUE_FULL", queue="unfinished jobs", limit="3"):
                await aos.submit()
            assert (await aos.submit(by=aos.other)).state == pb.JOB_STATE_QUEUED
            with refused("QUEUE_FULL", queue="unfinished jobs", limit="3"):
                await aos.submit(by=aos.other)


class TestDeadline:
    async def test_no_operator_gets_what_is_too_late(self, tmp_path):
        """A job whose time is over is never leased, though nobody has looked at it since; it ends as EXPIRED."""
        async with running(tmp_path, sweep_seconds=1000.0) as aos:
            hand = await aos.operator(an_offer(slots=4), attach=False)
            late = await aos.submit(timeout=Duration(seconds=30))
            fresh = await aos.submit("another", timeout=Duration(seconds=3000))
            aos.clock.advance(seconds=31)
            await hand.attach(aos.nobody)
            assert (await hand.lease()).job.hex() == fresh.name.removeprefix("jobs/")
            assert (await aos.job(late)).state == pb.JOB_STATE_QUEUED
            aos.clock.advance(seconds=1000)

            assert (await aos.ends(late)).state == pb.JOB_STATE_EXPIRED

    async def test_hundreds_at_once(self, tmp_path):
        """However many deadlines come together, one look ends them all, in their order."""
        async with running(tmp_path, sweep_seconds=100.0) as aos:
            await aos.operator(attach=False)
            made = [await aos.submit(f"job {number}", timeout=Duration(seconds=30)) for number in range(600)]
            aos.clock.advance(seconds=100)
            ended = [await aos.ends(job) for job in (made[0], made[299], made[-1])]

            assert {(job.state, stamp(job.ended)) for job in ended} == {(pb.JOB_STATE_EXPIRED, stamp(ended[0].ended))}


def stamp(at: Timestamp) -> tuple[int, int]:
    return at.seconds, at.nanos


async def refusal(aos) -> QueueFull | None:
    """Ask for a job; return the refusal, if it is one."""
    try:
        await aos.submit(request_id="again")
    except grpc.aio.AioRpcError as error:
        found = from_rpc_error(error)
        assert isinstance(found, QueueFull)
        return found
    return None
