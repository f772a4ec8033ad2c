"""Dispatcher over gRPC: read the request, let the parts decide, reply."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from itertools import accumulate
from typing import Any, Final

from aos.clock import Clock
from aos.dispatcher import jobs, projects, replies
from aos.dispatcher.files import Files
from aos.dispatcher.jobs import At
from aos.dispatcher.limits import ProjectLimits
from aos.dispatcher.listing import read_filter, read_time
from aos.dispatcher.log import EventLog
from aos.dispatcher.projects import Randomness
from aos.dispatcher.quotas import read_limits
from aos.dispatcher.relay import Relay
from aos.dispatcher.retention import Retention
from aos.dispatcher.settings import DispatcherSettings
from aos.dispatcher.store import CheckStore, ProjectStore
from aos.dispatcher.submissions import Submissions
from aos.dispatcher.tokens import ProjectAuthenticator
from aos.errors import InvalidField, PermissionDenied
from aos.paging import page_length, page_start, page_start_number, page_token
from aos.rpc.auth import Kind, caller, hash_token, own_project
from aos.rpc.channel import traceparent
from aos.v1 import dispatcher_pb2 as pb
from aos.v1 import dispatcher_pb2_grpc
from aos.v1.types_pb2 import VectorClock
from aos.verification.clock import compare

PAGE_BYTES: Final = 2 << 20
"""About how much a page of jobs or of evidence holds at most; jobs carry their prompts and answers, evidence its documents."""


class DispatcherServicer(dispatcher_pb2_grpc.DispatcherServicer):
    """The Dispatcher service. Made by aos.dispatcher.node."""

    def __init__(
        self,
        *,
        log: EventLog,
        projects: ProjectStore,
        tokens: ProjectAuthenticator,
        limits: ProjectLimits,
        submissions: Submissions,
        relay: Relay,
        files: Files,
        retention: Retention,
        checks: CheckStore,
        settings: DispatcherSettings,
        clock: Clock,
        randomness: Randomness,
    ) -> None:
        self._log, self._jobs, self._projects, self._tokens = log, log.store, projects, tokens
        self._submissions, self._relay, self._retention = submissions, relay, retention
        self._checks, self._limits, self._files = checks, limits, files
        self._settings, self._clock, self._randomness = settings, clock, randomness

    async def CreateProject(self, request: pb.CreateProjectRequest, context: Any) -> pb.CreatedProject:
        """Make a project and its token."""
        token = projects.new_token(self._randomness)
        now, name = self._clock.now(), request.display_name
        project = projects.new_project(request.project_id, token, randomness=self._randomness, now=now, display_name=name)
        await self._projects.create(project)
        return pb.CreatedProject(project=self._shown(project), token=token)

    async def GetProject(self, request: pb.GetProjectRequest, context: Any) -> pb.Project:
        """Show one project."""
        name = own_project() if request.name == f"projects/{projects.OWN}" else request.name
        project_id = projects.read_name(name)
        if caller().kind is Kind.PROJECT and caller().project != name:
            raise PermissionDenied("the project's own token, or the administrator's")
        return self._shown(await self._projects.get(project_id))

    async def ListProjects(self, request: pb.ListProjectsRequest, context: Any) -> pb.ListProjectsResponse:
        """Show a page of projects."""
        length, after = page_length(request.page_size), page_start("ListProjects", request.page_token)
        # one more than is shown says whether there is a next page
        found = await self._projects.page(after=after, limit=length + 1)
        shown = found[:length]
        following = page_token("ListProjects", shown[-1].id) if len(found) > length else ""
        return pb.ListProjectsResponse(projects=[self._shown(one) for one in shown], next_page_token=following)

    async def RotateProjectToken(self, request: pb.RotateProjectTokenRequest, context: Any) -> pb.CreatedProject:
        """Replace a project's token."""
        token = projects.new_token(self._randomness)
        project = await self._projects.rotate(projects.read_name(request.name), hash_token(token))
        self._tokens.forget(project.name)
        return pb.CreatedProject(project=self._shown(project), token=token)

    async def SetProjectLimits(self, request: pb.SetProjectLimitsRequest, context: Any) -> pb.Project:
        """Set what a project may use."""
        project_id, own = projects.read_name(request.name), read_limits(request.limits)
        project = await self._projects.set_limits(project_id, own)
        self._limits.set(project.name, project.limits)
        return self._shown(project)

    def _shown(self, project: projects.Project) -> pb.Project:
        return replies.project_proto(project, self._limits.with_own(project.limits))

    async def CreateJob(self, request: pb.CreateJobRequest, context: Any) -> pb.Job:
        """Accept a job."""
        return replies.job_proto(await self._submissions.submit(request, own_project(), traceparent=traceparent(context)))

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.Job:
        """Show one job."""
        return replies.job_proto(await self._jobs.get(replies.job_id(request.name), project=_visible()))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        """Show a page of jobs."""
        length, before = page_length(request.page_size), page_start_number("ListJobs", request.page_token)
        only = read_filter(request, _visible())
        shown = await self._jobs.page(only, before=before or None, limit=length, size=PAGE_BYTES)
        more = bool(shown) and await self._jobs.page(only, before=shown[-1].number, limit=1, size=1)
        following = page_token("ListJobs", str(shown[-1].number)) if more else ""
        return pb.ListJobsResponse(jobs=[replies.job_proto(row) for row in shown], next_page_token=following)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> pb.Job:
        """End a job."""
        job_id, project = replies.job_id(request.name), _visible()
        await self._jobs.standing(job_id, project=project)
        at = At(self._clock.now(), self._settings.node)
        await self._log.change(job_id, lambda view: jobs.cancel(view, at))
        return replies.job_proto(await self._jobs.get(job_id, project=project))

    async def ExplainJob(self, request: pb.ExplainJobRequest, context: Any) -> pb.JobExplanation:
        """Say why a job is where it is."""
        job = await self._jobs.standing(replies.job_id(request.name), project=_visible())
        return replies.explanation(job, self._relay.placement(job.id), node=self._settings.node)

    async def ListHealth(self, request: pb.ListHealthRequest, context: Any) -> pb.ListHealthResponse:
        """Show how well operators' models work."""
        length, after = page_length(request.page_size), page_start("ListHealth", request.page_token)
        known = [one for one in self._relay.health() if request.model in ("", one[0].model)]
        left = [one for one in known if one[0].name > after]
        shown = left[:length]
        following = page_token("ListHealth", shown[-1][0].name) if len(left) > length else ""
        health = [replies.health_proto(*one) for one in shown]
        return pb.ListHealthResponse(health=health, next_page_token=following, dispatcher=self._settings.node)

    async def PurgeJobs(self, request: pb.PurgeJobsRequest, context: Any) -> pb.PurgeJobsResponse:
        """Delete ended jobs."""
        if not request.HasField("ended_before"):
            raise InvalidField("ended_before", "is missing")
        before, project = read_time(request.ended_before, "ended_before"), request.project or None
        if project is not None:
            projects.read_name(project)
        purged, more = await self._retention.purge(ended_before=before, project=project, most=request.max_jobs)
        return pb.PurgeJobsResponse(purged=purged, more=more)

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncGenerator[pb.JobEvent]:
        """Stream a job's events."""
        if request.after_sequence < 0:
            raise InvalidField("after_sequence", "must not be below 0", value=request.after_sequence, limit=0)
        job_id = replies.job_id(request.name)
        async with aclosing(self._log.watch(job_id, request.after_sequence, project=_visible())) as events:
            async for event in events:
                yield event

    async def GetReceipt(self, request: pb.GetReceiptRequest, context: Any) -> pb.ReceiptBundle:
        """Show a receipt and what it speaks of."""
        row = await self._jobs.get(replies.job_id(request.name), project=_visible())
        job_id = row.job.id
        output, trace = await self._jobs.output(job_id), await self._jobs.trace(job_id)
        said = replies.bundle(row, output, trace, await self._jobs.attestation(job_id))
        if said.order.HasField("picture"):
            said.order.CopyFrom(await self._files.filled(said.order, row.job.project))
        return said

    async def ListResults(self, request: pb.ListResultsRequest, context: Any) -> pb.ListResultsResponse:
        """Show what each operator said about a job."""
        job = await self._jobs.standing(replies.job_id(request.name), project=_visible())
        return pb.ListResultsResponse(results=await self._checks.results(job.id))

    async def ListEvidence(self, request: pb.ListEvidenceRequest, context: Any) -> pb.ListEvidenceResponse:
        """Show a page of what is on record against operators."""
        length, before = page_length(request.page_size), page_start_number("ListEvidence", request.page_token)
        job = f"jobs/{replies.job_id(request.job)}" if request.job else ""
        found = await self._checks.evidence(project=_visible(), job=job, before=before or None, limit=length + 1)
        size = accumulate(one.ByteSize() for _, one in found[:length])
        shown = found[: max(1, sum(so_far <= PAGE_BYTES for so_far in size))]
        following = page_token("ListEvidence", str(shown[-1][0])) if len(found) > len(shown) else ""
        return pb.ListEvidenceResponse(evidence=[one for _, one in shown], next_page_token=following)

    async def CompareJobs(self, request: pb.CompareJobsRequest, context: Any) -> pb.CompareJobsResponse:
        """Say which of two jobs came first."""
        project = _visible()
        one = await self._jobs.standing(replies.job_id(request.name), project=project)
        other = await self._jobs.standing(replies.job_id(request.other), project=project)
        order = f"CLOCK_ORDER_{compare(one.clock, other.clock).name}"
        return pb.CompareJobsResponse(order=order, clock=VectorClock(counts=one.clock), other_clock=VectorClock(counts=other.clock))

    async def GetUser(self, request: pb.GetUserRequest, context: Any) -> pb.User:
        """Show how closely a user's jobs are looked at."""
        name = request.project or own_project()
        projects.read_name(name)
        if caller().kind is Kind.PROJECT and caller().project != name:
            raise PermissionDenied("the project's own token, or the administrator's")
        return replies.user_proto(name, request.user, await self._checks.standing(name, request.user), self._settings.risk)

    async def Attach(
        self, request_iterator: AsyncIterator[pb.OperatorMessage], context: Any
    ) -> AsyncGenerator[pb.DispatcherMessage]:
        """Serve an operator's stream."""
        async with aclosing(self._relay.attach(request_iterator)) as messages:
            async for message in messages:
                yield message


def _visible() -> str | None:
    """Return the project whose jobs the caller may see; None: all."""
    who = caller()
    return who.project if who.kind is Kind.PROJECT else None
