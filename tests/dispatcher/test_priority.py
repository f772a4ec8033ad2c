"""Priorities among a project's own jobs, from the request to the lease."""

from __future__ import annotations

import pytest

from aos.dispatcher.queue import PATIENCE, Queue
from aos.v1 import dispatcher_pb2 as pb
from tests.dispatcher.conftest import a_request
from tests.dispatcher.hand import an_offer
from tests.dispatcher.test_placement import candidate, drained, wanted
from tests.refusals import refused


class TestQueue:
    def test_higher_goes_first(self):
        """Among a project's jobs the highest priority goes first, and of equals the oldest."""
        queue = Queue()
        for number, priority in enumerate([0, -1, 5, 0, 5]):
            queue.add(wanted(number, priority=priority))

        assert drained(queue) == ["j2", "j4", "j0", "j3", "j1"]

    def test_never_before_another_project(self):
        """Projects take turns, whatever priorities one of them gives its own."""
        queue = Queue()
        for number in range(3):
            queue.add(wanted(number, project="a", priority=9))
        queue.add(wanted(3, project="b", priority=-9))

        assert drained(queue) == ["j0", "j3", "j1", "j2"]

    def test_the_lowest_has_its_turn(self):
        """However many come behind with the highest priority, the lowest is taken within a known number of turns."""
        queue, taken = Queue(), []
        queue.add(wanted(0, priority=-9))
        queue.add(wanted(1, priority=9))
        for number in range(2, PATIENCE + 2):
            queue.add(wanted(number, priority=9))
            found = queue.take([candidate()])
            assert found is not None
            taken.append(found[0].job_id)

        assert taken.index("j0") == PATIENCE - 1


class TestJobs:
    async def test_leased_by_priority(self, aos):
        """The job with the higher priority is leased first, and its lease says so."""
        operator = await aos.operator(an_offer(slots=1), attach=False)
        low, high = await aos.submit("low", priority=-3), await aos.submit("high", priority=4)
        await operator.attach(aos.nobody)
        first = await operator.lease()
        operator.start(first)
        operator.say(first, "Yes.", [1])
        operator.finish(first, "Yes.", [1])
        second = await operator.lease()

        assert [(one.order.prompt, one.priority) for one in (first, second)] == [("high", 4), ("low", -3)]
        assert [(low.priority, high.priority), (await aos.job(high)).priority] == [(-3, 4), 4]

    async def test_outlives_the_dispatcher(self, aos):
        """A job that waits has its priority still when the dispatcher starts again."""
        operator = await aos.operator(an_offer(slots=1), attach=False)
        await aos.submit("low")
        await aos.submit("high", priority=1)
        await aos.crash()
        await operator.attach(aos.nobody)

        assert (await operator.lease()).order.prompt == "high"

    @pytest.mark.parametrize("priority", [10, -10, 2**31 - 1])
    async def test_out_of_range(self, aos, priority):
        """A priority that there is not is refused by name, with its limit."""
        with refused("INVALID_FIELD", field="priority", value=str(priority), limit="9"):
            await aos.submit(priority=priority)

    async def test_a_retry_has_the_same(self, aos):
        """Another priority is another request."""
        await aos.operator(attach=False)
        first = await aos.project.CreateJob(a_request(request_id="r", priority=2))
        again = await aos.project.CreateJob(a_request(request_id="r", priority=2))

        assert again.name == first.name
        with refused("REQUEST_ID_REUSED"):
            await aos.project.CreateJob(a_request(request_id="r", priority=3))
        assert first.state == pb.JOB_STATE_QUEUED
