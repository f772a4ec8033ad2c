"""Why a job is where it is, and which jobs a list shows."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from aos.dispatcher import explain
from aos.dispatcher.explain import Placements, consider
from aos.v1 import dispatcher_pb2 as pb
from tests.dispatcher.hand import an_offer
from tests.dispatcher.test_placement import candidate, wanted
from tests.refusals import refused


async def why(aos, job, by=None) -> pb.JobExplanation:
    return await (by or aos.project).ExplainJob(pb.ExplainJobRequest(name=job.name))


class TestConsider:
    def test_each_operator_has_its_reason(self):
        """The chosen one first, then the free, the full, those that never could, and those that offer something else."""
        chosen = candidate("0xe", running=0, slots=4)
        others = [
            candidate("0xa", model="n"),
            candidate("0xb", running=2),
            candidate("0xc", running=1),
            candidate("0xd", model_digest="bb"),
        ]
        seen = consider(wanted(), [*others, chosen], chosen)

        assert [(one.operator, one.free, one.reason) for one in seen.considered] == [
            ("0xe", True, "was chosen, with 0 of 4 places taken"),
            ("0xc", True, "is free, with 1 of 2 places taken"),
            ("0xb", False, "has all 2 places taken"),
            ("0xd", False, "has other weights of 'm'"),
            ("0xa", False, "offers 'n'"),
        ]

    def test_an_operator_is_looked_at_once(self):
        """One with several offers is shown with the one of the job's model."""
        seen = consider(wanted(), [candidate("0xa", model="n"), candidate("0xa"), candidate("0xa", model="o")])

        assert [one.reason for one in seen.considered] == ["is free, with 0 of 2 places taken"]

    def test_so_many_are_shown(self):
        """The rest is a number."""
        seen = consider(wanted(), [candidate(f"0x{number:03}") for number in range(40)])

        assert (len(seen.considered), seen.not_shown) == (explain.SHOWN, 40 - explain.SHOWN)

    def test_so_many_are_remembered(self, monkeypatch):
        """The latest placements; the oldest is forgotten first."""
        monkeypatch.setattr(explain, "REMEMBERED", 2)
        placements, one = Placements(), candidate()
        for number in range(3):
            placements.note(wanted(number), one, [one])

        assert [placements.get(f"j{number}") is not None for number in range(3)] == [False, True, True]


class TestExplainJob:
    async def test_a_waiting_job(self, aos):
        """Who was looked at, why not, and how many go before it."""
        operator = await aos.operator(an_offer(slots=1))
        other = await aos.operator(an_offer("n"))
        await aos.submit()
        await operator.lease()
        for _ in range(2):
            await aos.submit()
        last, first = await aos.submit(), await aos.submit(priority=5)
        told, before = await why(aos, last), await why(aos, first)

        assert (told.state, told.ahead, told.waiting, told.chosen, before.ahead) == (pb.JOB_STATE_QUEUED, 3, 4, "", 0)
        assert [(one.operator, one.free, one.reason) for one in told.operators] == [
            (operator.address, False, "has all 1 places taken"),
            (other.address, False, "offers 'n'"),
        ]
        assert told.summary == f"It waits: {operator.address} has all 1 places taken; {other.address} offers 'n'."

    async def test_nobody_is_there(self, aos):
        """A job that no operator could even be asked for says so."""
        await aos.operator(attach=False)
        told = await why(aos, await aos.submit())

        assert (told.summary, list(told.operators)) == ("It waits: no operator is attached.", [])

    async def test_a_placed_job(self, aos):
        """The choice as it was made, even after the operator it was made for has gone."""
        busy, idle = await aos.operator(an_offer(slots=1)), await aos.operator(an_offer(slots=1))
        first, second = sorted([busy, idle], key=lambda one: one.address)
        await aos.submit()
        await first.lease()
        job = await aos.submit()
        await second.lease()
        told = await why(aos, job)

        assert told.chosen == second.address
        assert [(one.operator, one.reason) for one in told.operators] == [
            (second.address, "was chosen, with 0 of 1 places taken"),
            (first.address, "has all 1 places taken"),
        ]
        assert told.summary == f"It is assigned; in attempt 1 {second.address} was chosen, with 0 of 1 places taken."

    async def test_one_that_failed_it_comes_last(self, aos):
        """The second choice says who had failed before."""
        operators = [await aos.operator(), await aos.operator()]
        first, second = sorted(operators, key=lambda one: one.address)
        job = await aos.submit()
        lease = await first.lease()
        first.fail(lease, "ENGINE_FAILED", retryable=True)
        await second.lease()
        told = await why(aos, job)

        assert told.chosen == second.address
        assert [(one.failed_before, one.free) for one in told.operators] == [(False, True), (True, True)]
        assert "attempt 2" in told.summary

    async def test_after_a_restart(self, aos):
        """Why one was chosen is not remembered, and the explanation says so rather than inventing it."""
        operator = await aos.operator()
        job = await aos.submit()
        lease = await operator.lease()
        operator.fail(lease, "INVALID_FIELD", retryable=False)
        await aos.until(job, "FAILED")
        await aos.crash()
        told = await why(aos, job)

        assert told.summary.endswith("Why it was chosen is not remembered.")
        assert (told.chosen, list(told.operators)) == ("", [])

    async def test_another_projects_job(self, aos):
        """Is not there."""
        await aos.operator(attach=False)
        job = await aos.submit()
        with refused("JOB_NOT_FOUND"):
            await why(aos, job, by=aos.other)


class TestListJobs:
    async def test_by_user_state_model_and_time(self, aos):
        """A list holds the jobs that fit all that is set, newest first."""
        await aos.operator(an_offer(), an_offer("n"), attach=False)
        ann = await aos.submit(user="ann")
        aos.clock.advance(seconds=10)
        bob, other = await aos.submit(user="bob"), await aos.submit(user="ann", model="n")
        await aos.project.CancelJob(pb.CancelJobRequest(name=bob.name))

        async def listed(**only) -> list[str]:
            return [job.name for job in (await aos.project.ListJobs(pb.ListJobsRequest(**only))).jobs]

        assert await listed() == [other.name, bob.name, ann.name]
        assert await listed(user="ann") == [other.name, ann.name]
        assert await listed(user="ann", model="m") == [ann.name]
        assert await listed(states=[pb.JOB_STATE_CANCELLED]) == [bob.name]
        assert await listed(states=[pb.JOB_STATE_CANCELLED, pb.JOB_STATE_QUEUED], model="n") == [other.name]
        assert await listed(states=[pb.JOB_STATE_QUEUED], user="bob") == []
        assert await listed(created_from=other.created) == [other.name, bob.name]
        assert await listed(created_before=other.created) == [ann.name]
        assert await listed(created_from=ann.created, created_before=ann.created) == []

    async def test_pages_keep_the_filter(self, aos):
        """Pages of one hold each job that fits, once."""
        await aos.operator(attach=False)
        wanted_ = [(await aos.submit(user=user)).name for user in ("ann", "bob") * 3][::2]
        seen, token = [], ""
        for _ in wanted_:
            page = await aos.project.ListJobs(pb.ListJobsRequest(user="ann", page_size=1, page_token=token))
            seen, token = seen + [job.name for job in page.jobs], page.next_page_token

        assert (seen, token) == (wanted_[::-1], "")

    async def test_of_which_project(self, aos):
        """The administrator may look at one project's jobs; a project at its own only."""
        await aos.operator(attach=False)
        await aos.deposit(1_000_000, "q")
        mine, theirs = await aos.submit(), await aos.submit(by=aos.other)

        for by, project, names in ((aos.admin, "projects/q", [theirs.name]), (aos.project, "projects/p", [mine.name])):
            assert [job.name for job in (await by.ListJobs(pb.ListJobsRequest(project=project))).jobs] == names
        with refused("PERMISSION_DENIED"):
            await aos.project.ListJobs(pb.ListJobsRequest(project="projects/q"))

    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            (pb.ListJobsRequest(states=[0]), "states"),
            (pb.ListJobsRequest(states=[99]), "states"),
            (pb.ListJobsRequest(created_from=Timestamp(seconds=1 << 62)), "created_from"),
        ],
    )
    async def test_a_wrong_filter_is_named(self, aos, request_, field):
        """And lists nothing."""
        with refused("INVALID_FIELD", field=field):
            await aos.project.ListJobs(request_)
