"""What the administrator sets for one project: seen, kept, and in force at once, for that project alone."""

from __future__ import annotations

import pytest

from aos.dispatcher.quotas import MOST
from aos.v1 import dispatcher_pb2 as pb
from tests.dispatcher.conftest import BALANCE, running
from tests.dispatcher.test_retention import cancelled, names
from tests.refusals import refused

DEFAULTS = pb.ProjectLimits(
    requests_per_minute=60_000, tokens_per_day=1_000_000_000, unfinished_jobs=1000, kept_jobs=100_000, weight=100
)


async def limited(aos, project: str = "p", **limits) -> pb.Project:
    request = pb.SetProjectLimitsRequest(name=f"projects/{project}", limits=pb.ProjectLimits(**limits))
    return await aos.admin.SetProjectLimits(request)


async def shown(aos) -> pb.Project:
    return await aos.project.GetProject(pb.GetProjectRequest(name="projects/-"))


class TestSetting:
    async def test_without_any_the_settings_hold(self, aos):
        """A project shows what it may use, though nothing was set for it."""
        project = await shown(aos)

        assert (project.limits, project.own_limits) == (DEFAULTS, pb.ProjectLimits())

    async def test_what_is_set_is_shown_and_kept(self, aos):
        """The project sees its own, and what holds, after a restart too; the others keep the settings."""
        made = await limited(aos, requests_per_minute=7, kept_jobs=9)
        await aos.stop()
        await aos.start()
        project = await shown(aos)

        assert project == made
        assert project.own_limits == pb.ProjectLimits(requests_per_minute=7, kept_jobs=9)
        assert (project.limits.requests_per_minute, project.limits.unfinished_jobs, project.limits.kept_jobs) == (7, 1000, 9)
        listed = (await aos.admin.ListProjects(pb.ListProjectsRequest())).projects
        assert [one.limits for one in listed] == [project.limits, DEFAULTS]

    async def test_setting_replaces_all(self, aos):
        """What is not named again falls back to the settings."""
        await limited(aos, requests_per_minute=7)

        assert (await limited(aos, unfinished_jobs=3)).own_limits == pb.ProjectLimits(unfinished_jobs=3)
        assert (await limited(aos)).limits == DEFAULTS

    @pytest.mark.parametrize("name", MOST)
    async def test_what_cannot_be(self, aos, name):
        """None, and more than there is, are refused by the field's name, with its limit."""
        for value in (0, MOST[name] + 1):
            with refused("INVALID_FIELD", field=f"limits.{name}", limit=str(MOST[name])):
                await limited(aos, **{name: value})
        assert (await limited(aos, **{name: MOST[name]})).own_limits == pb.ProjectLimits(**{name: MOST[name]})

    async def test_who_may(self, aos):
        """Only the administrator, and only for a project that is there."""
        with refused("PERMISSION_DENIED"):
            await aos.project.SetProjectLimits(pb.SetProjectLimitsRequest(name="projects/p"))
        with refused("PROJECT_NOT_FOUND"):
            await limited(aos, "nobody", kept_jobs=1)


class TestInForce:
    async def test_requests_a_minute(self, aos):
        """From the next request on, up or down, for the one project alone."""
        await aos.operator(attach=False)
        await aos.deposit(BALANCE, "q")
        await aos.submit()
        await limited(aos, requests_per_minute=1)
        with refused("QUOTA_EXCEEDED", quota="requests per minute", limit="1"):
            for _ in range(2):
                await aos.submit()
        for _ in range(3):
            await aos.submit(by=aos.other)
        await limited(aos)

        assert (await aos.submit()).state == pb.JOB_STATE_QUEUED

    async def test_unfinished_jobs(self, aos):
        """Running and waiting ones count; one that ends makes room."""
        await aos.operator(attach=False)
        await limited(aos, unfinished_jobs=2)
        first, _ = await aos.submit(), await aos.submit()
        with refused("QUEUE_FULL", code="RESOURCE_EXHAUSTED", queue="unfinished jobs of projects/p", limit="2"):
            await aos.submit()
        await aos.project.CancelJob(pb.CancelJobRequest(name=first.name))

        assert (await aos.submit()).state == pb.JOB_STATE_QUEUED

    async def test_tokens_a_day(self, aos):
        """A day's tokens are its own; a job that no day of it has is told so."""
        await aos.operator(attach=False)
        await limited(aos, tokens_per_day=500)
        await aos.submit()
        with refused("QUOTA_EXCEEDED", quota="tokens per day", limit="500"):
            await aos.submit()
        with refused("INVALID_FIELD", field="order.sampling.max_tokens", limit="500"):
            await aos.submit(max_tokens=600)

    async def test_kept_jobs(self, tmp_path):
        """Of a project with a limit of its own so many ended jobs are kept, more or fewer than of the others."""
        async with running(tmp_path, kept_jobs=3, purge_seconds=10.0) as aos:
            await aos.operator(attach=False)
            await aos.deposit(BALANCE, "q")
            await limited(aos, kept_jobs=1)
            await limited(aos, "q", kept_jobs=5)
            few, many = await cancelled(aos, 4), await cancelled(aos, 4, by=aos.other)
            left = await aos.eventually(lambda: names(aos), lambda left: len(left) == 5, step=20)

            assert set(left) == {few[-1].name, *(job.name for job in many)}


class TestPriorities:
    async def test_higher_goes_first(self, aos):
        """Of jobs that wait, the one with the highest priority runs first; among equals the oldest."""
        operator = await aos.operator(attach=False)
        made = [await aos.submit(f"job {number}", priority=priority) for number, priority in enumerate((0, -9, 9, 9))]
        await operator.attach(aos.nobody)

        assert [(await operator.lease()).job.hex() for _ in range(2)] == [made[at].name.removeprefix("jobs/") for at in (2, 3)]

    @pytest.mark.parametrize("priority", [-10, 10])
    async def test_what_cannot_be(self, aos, priority):
        """Priorities go from -9 to 9."""
        await aos.operator(attach=False)
        with refused("INVALID_FIELD", field="priority"):
            await aos.submit(priority=priority)
