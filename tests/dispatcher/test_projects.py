"""Projects and their tokens."""

from __future__ import annotations

import pytest

from aos.v1 import dispatcher_pb2 as pb
from tests.refusals import refused


class TestCreateProject:
    async def test_token_opens_the_project(self, aos):
        """The token that comes with a new project is its own."""
        made = await aos.admin.CreateProject(pb.CreateProjectRequest(project_id="new"))
        caller = await aos.caller(made.token)

        assert await caller.GetProject(pb.GetProjectRequest(name="projects/-")) == made.project
        assert made.project.name == "projects/new"

    async def test_random_id(self, aos):
        """Without an id a project gets one of its own."""
        made = [await aos.admin.CreateProject(pb.CreateProjectRequest()) for _ in range(2)]

        assert len({one.project.name for one in made}) == 2

    async def test_taken(self, aos):
        """An id that is taken is refused, and the project there keeps its token."""
        with refused("PROJECT_EXISTS", code="ALREADY_EXISTS", project="projects/p"):
            await aos.admin.CreateProject(pb.CreateProjectRequest(project_id="p"))

        assert (await aos.project.GetProject(pb.GetProjectRequest(name="projects/-"))).name == "projects/p"

    @pytest.mark.parametrize("project_id", ["-", "a/b", "ö", "a" * 65, "0x" + "ab" * 20])
    async def test_bad_id(self, aos, project_id):
        """An id that would not be one name, or would be an operator's account, is refused."""
        with refused("INVALID_FIELD", field="project_id"):
            await aos.admin.CreateProject(pb.CreateProjectRequest(project_id=project_id))

    async def test_token_is_not_kept(self, aos):
        """Nothing in the database holds a token that was given out."""
        made = await aos.admin.CreateProject(pb.CreateProjectRequest(project_id="new"))
        await aos.stop()

        kept = b"".join(path.read_bytes() for path in aos.path.parent.glob(f"{aos.path.name}*"))

        assert b"projects" in kept
        assert made.token.encode() not in kept
        await aos.start()


class TestRotateProjectToken:
    async def test_old_token_ends_at_once(self, aos):
        """After a rotation the new token works and the old one does not, though it was used a moment before."""
        made = await aos.admin.CreateProject(pb.CreateProjectRequest(project_id="new"))
        old = await aos.caller(made.token)
        await old.ListJobs(pb.ListJobsRequest())

        again = await aos.admin.RotateProjectToken(pb.RotateProjectTokenRequest(name="projects/new"))

        with refused("UNAUTHENTICATED", code="UNAUTHENTICATED"):
            await old.ListJobs(pb.ListJobsRequest())
        await (await aos.caller(again.token)).ListJobs(pb.ListJobsRequest())

    async def test_unknown(self, aos):
        """A project that is not there has no token to replace."""
        with refused("PROJECT_NOT_FOUND", code="NOT_FOUND", project="projects/none"):
            await aos.admin.RotateProjectToken(pb.RotateProjectTokenRequest(name="projects/none"))


class TestWhoMay:
    async def test_projects_cannot_manage_projects(self, aos):
        """Making, listing and rotating are the administrator's."""
        for call in (
            aos.project.CreateProject(pb.CreateProjectRequest()),
            aos.project.ListProjects(pb.ListProjectsRequest()),
            aos.project.RotateProjectToken(pb.RotateProjectTokenRequest(name="projects/p")),
        ):
            with refused("PERMISSION_DENIED"):
                await call

    async def test_project_sees_itself_only(self, aos):
        """A project is shown itself, and refused any other whether it is there or not."""
        assert (await aos.project.GetProject(pb.GetProjectRequest(name="projects/p"))).name == "projects/p"
        for name in ("projects/q", "projects/none"):
            with refused("PERMISSION_DENIED"):
                await aos.project.GetProject(pb.GetProjectRequest(name=name))

    async def test_administrator_sees_any(self, aos):
        """The administrator is shown any project; one that is not there is not found."""
        assert (await aos.admin.GetProject(pb.GetProjectRequest(name="projects/q"))).name == "projects/q"
        with refused("PROJECT_NOT_FOUND"):
            await aos.admin.GetProject(pb.GetProjectRequest(name="projects/none"))


class TestListProjects:
    async def test_pages_by_id(self, aos):
        """Pages go by id, each project once."""
        for name in ("b", "a", "c"):
            await aos.admin.CreateProject(pb.CreateProjectRequest(project_id=name))
        first = await aos.admin.ListProjects(pb.ListProjectsRequest(page_size=3))
        second = await aos.admin.ListProjects(pb.ListProjectsRequest(page_size=3, page_token=first.next_page_token))

        names = [project.name for page in (first, second) for project in page.projects]
        assert names == [f"projects/{name}" for name in ("a", "b", "c", "p", "q")]
        assert not second.next_page_token
