"""The Registry's calls about AI projects: read the request, check proof and addresses, let the core decide, reply."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Address
from typing import Any, Final

from aos.addresses import Address, Target
from aos.clock import Clock
from aos.errors import BadSignature, InvalidField, PermissionDenied, ProjectNotFound, QueueFull
from aos.fetch import Unreachable, resolve
from aos.paging import page_length, page_start, page_start_number, page_token
from aos.registry.changes import Changes
from aos.registry.leases import Proof
from aos.registry.pages import Pages
from aos.registry.project_protos import audit_proto, changed_proto, project_proto, replica_proto, stamp
from aos.registry.projects import Report, Seen, Wanted, hosts, refuse_crowds, register, report, told, unregister
from aos.registry.replicas import Entry, Project, Replica, State, passed, settle
from aos.registry.settings import RegistrySettings
from aos.registry.specs import check_operator, check_project, check_reports, check_specs, check_urls
from aos.registry.store import Change, Held, ProjectStore, Reported
from aos.rpc.auth import Kind, caller
from aos.v1 import registry_pb2 as pb
from aos.v1 import registry_pb2_grpc
from aos.verification.projects import Request, check_request, digest_request

PAGE_REPLICAS: Final = 1024
"""Most replicas on a page of projects, as long as there is more than one project on it, so that it fits into a message."""
THIS_MACHINE: Final = "localhost"
ADMINISTRATOR: Final = "administrator"
"""Who acts without a proof, by the administrator's token."""


class ProjectMethods(registry_pb2_grpc.RegistryServicer):
    """The part of the Registry service that is about AI projects."""

    def __init__(
        self,
        store: ProjectStore,
        *,
        settings: RegistrySettings,
        clock: Clock,
        changes: Changes,
        randomness: Callable[[int], bytes],
    ) -> None:
        self._projects, self._limits, self._time, self._changes = store, settings, clock, changes
        self._terms, self._randomness = settings.terms, randomness
        self._pages: Pages[pb.ListAiProjectsResponse] = Pages()

    async def RegisterProject(self, request: pb.RegisterProjectRequest, context: Any) -> pb.AiProject:
        """Make a project's list this one."""
        # the limits first: a list that is far too long costs nothing
        targets = check_urls(request.replicas)
        name = check_project(request.project)
        asked = check_operator(request.operator) if request.operator else ""
        owner, proof = await self._signed(request, admin=True)
        specs = check_specs(request.replicas, targets, await _resolved(targets), list(self._limits.api_networks))
        wanted = Wanted(name, owner, asked or owner, specs)
        now, lease_id, actor = self._time.now(), self._randomness(16).hex(), _administrator()

        def decide(held: Held) -> Change:
            before, entries = self._settled(held.project, now)
            self._refuse_unsigned(before, proof)
            after = register(before, wanted, now=now, terms=self._terms, lease_id=lease_id)
            if proof is not None and held.seen.has(proof):
                if after != before:
                    raise BadSignature(owner, "it was used before; sign a later one")
                return Change(after, held.seen, entries)
            if held.project is None and held.projects >= self._limits.projects:
                raise QueueFull("AI projects", self._limits.projects)
            refuse_crowds(held.hosted, after, wanted.operator)
            detail = f", for {wanted.operator or 'whoever hosts it'}"
            entries = [*entries, *told(before, after, owner or actor, "register-project", detail=detail)]
            return Change(after, _used(held.seen, owner, proof), entries)

        before, after = await self._projects.change(name, f"projects/{owner}", wanted.operator, decide, now=now)
        self._tell_if(before, after)
        return changed_proto(after, before)

    async def UnregisterProject(self, request: pb.UnregisterProjectRequest, context: Any) -> pb.AiProject:
        """End a project."""
        name = check_project(request.project)
        owner, proof = await self._signed(request, admin=True)
        now, actor = self._time.now(), _administrator()

        def decide(held: Held) -> Change:
            before, entries = self._settled(held.project, now)
            self._refuse_unsigned(before, proof)
            after = unregister(before, name, owner, now=now, force=request.force)
            detail = ", by force" if request.force else ""
            entries = [*entries, *told(before, after, owner or actor, "unregister-project", detail=detail)]
            return Change(after, _used(held.seen, owner, proof), entries)

        before, after = await self._projects.change(name, f"projects/{owner}", owner, decide, now=now)
        self._tell_if(before, after)
        return changed_proto(after, before)

    async def GetAiProject(self, request: pb.GetAiProjectRequest, context: Any) -> pb.AiProject:
        """Show one project."""
        name = check_project(request.name, "name")
        found = await self._projects.get(name)
        now, _ = self._settled(found, self._time.now())
        if now is None or not now.there:
            raise ProjectNotFound(name)
        return project_proto(now)

    async def ListAiProjects(self, request: pb.ListAiProjectsRequest, context: Any) -> pb.ListAiProjectsResponse:
        """Show a page of projects."""
        length, after = page_length(request.page_size), page_start("ListAiProjects", request.page_token)
        key = request.model, length, after
        return await self._pages.get(key, self._changes.written, self._time.now(), partial(self._page, *key))

    async def _page(self, model: str, length: int, after: str) -> tuple[pb.ListAiProjectsResponse, datetime | None]:
        """Return a page of projects, and until when it is one."""
        until = await self._projects.next_due()
        found = await self._projects.page(after=after, limit=length, replicas=PAGE_REPLICAS, model=model)
        following = ""
        if found and await self._projects.page(after=found[-1].name, limit=1, replicas=1, model=model):
            following = page_token("ListAiProjects", found[-1].name)
        now = self._time.now()
        there = [one for kept in found if (one := self._settled(kept, now)[0]) is not None and one.there]
        return pb.ListAiProjectsResponse(projects=[project_proto(one) for one in there], next_page_token=following), until

    async def WatchProjects(self, request: pb.WatchProjectsRequest, context: Any) -> AsyncGenerator[pb.ProjectSet]:
        """Send what an operator is to host, as often as it changes."""
        operator = check_operator(request.operator)
        asks, _ = await self._signed(request)
        if asks and asks != operator:
            raise PermissionDenied(f"the key of {operator}")
        with self._changes.watched(self._limits.watchers):
            async with aclosing(self._hosted(operator, unaddressed=request.unaddressed)) as sets:
                async for one in sets:
                    yield one

    async def _hosted(self, operator: str, *, unaddressed: bool) -> AsyncGenerator[pb.ProjectSet]:
        sent: list[tuple[object, ...]] | None = None
        while True:
            version = self._changes.version
            found = await self._projects.hosted(operator, unaddressed=unaddressed)
            now = self._time.now()
            mine = [
                (project, one)
                for kept in found
                if (project := self._settled(kept, now)[0]) is not None
                for one in project.shown
                if one.operator == operator or (unaddressed and hosts(one, operator))
            ]
            # how it is, the operator has said itself
            what = [(one.id, one.spec, one.state is State.DRAINING) for _, one in mine]
            if sent != what:
                yield pb.ProjectSet(version=version, replicas=[replica_proto(one, project) for project, one in mine])
                sent = list(what)
            if not await self._changes.since(version):
                return

    async def ReportReplicas(self, request: pb.ReportReplicasRequest, context: Any) -> pb.ReportReplicasResponse:
        """Keep what an operator says about its replicas."""
        check_reports(request.reports)
        if not request.HasField("proof"):
            raise BadSignature("", "there is none; reports are signed by the operator")
        operator, proof = await self._checked(request)
        reports = {one.id: _report(one) for one in request.reports}
        now = self._time.now()

        def decide(held: Sequence[Project], seen: Seen) -> Reported:
            if seen.has(proof):  # again, or by a listener: it renews nothing
                return Reported(held, seen)
            projects: list[Project] = []
            entries: list[Entry] = []
            for kept in held:
                before, aged = self._settled(kept, now)
                if before is not None:
                    after, news = report(before, reports, operator, now=now, terms=self._terms)
                    projects.append(after)
                    entries += [*aged, *news]
            return Reported(projects, seen.use(operator, proof), entries, news=_look_otherwise(held, projects))

        before, after = await self._projects.report(list(reports), f"reports/{operator}", decide, now=now)
        self._changes.note()
        if _look_otherwise(before, after):
            self._changes.tell()
        mine = {one.id for project in after for one in project.shown if one.operator == operator}
        response = pb.ReportReplicasResponse(gone=[one for one in reports if one not in mine])
        response.expires.CopyFrom(stamp(now + self._terms.lease))
        return response

    async def ListAudit(self, request: pb.ListAuditRequest, context: Any) -> pb.ListAuditResponse:
        """Show a page of the audit log."""
        length, after = page_length(request.page_size), page_start_number("ListAudit", request.page_token)
        found = await self._projects.audit(after=after, limit=length + 1)
        shown = found[:length]
        following = page_token("ListAudit", str(shown[-1].sequence)) if len(found) > length else ""
        return pb.ListAuditResponse(entries=[audit_proto(one) for one in shown], next_page_token=following)

    def _settled(self, project: Project | None, now: datetime) -> tuple[Project | None, list[Entry]]:
        if project is None:
            return None, []
        after = settle(project, now=now, terms=self._terms)
        return after, passed(project, after)

    def _refuse_unsigned(self, before: Project | None, proof: Proof | None) -> None:
        """Raise BadSignature for what nobody signed: outside loopback development mode, but for projects that nobody ever did."""
        if proof is None and not self._limits.unsigned and (before is None or not before.there or before.owner):
            raise BadSignature("", "there is none; without one the administrator changes projects that were registered without one")

    async def _signed(self, request: Request, *, admin: bool = False) -> tuple[str, Proof | None]:
        """Return the address of the key that signed, and what its proof says; nobody's in loopback development mode.

        ``admin`` is whether the administrator may do without: see ``_refuse_unsigned``.
        """
        if request.HasField("proof"):
            return await self._checked(request)
        if not self._limits.unsigned and not (admin and _administrator()):
            raise BadSignature("", "there is none; outside loopback development mode all about AI projects is signed")
        return "", None

    async def _checked(self, request: Request) -> tuple[str, Proof]:
        now = int(self._time.now().timestamp())
        # in a thread: recovering a key takes milliseconds
        signer = await asyncio.to_thread(check_request, request, now=now)
        says = hashlib.sha256(type(request).__name__.encode() + digest_request(request)).hexdigest()
        return signer, Proof(request.proof.issued_at, says)

    def _tell_if(self, before: Project | None, after: Project) -> None:
        self._changes.note()
        if before != after:
            self._changes.tell()


def _administrator() -> str:
    """Return who the audit log says it was if the administrator called; empty: somebody else did."""
    return ADMINISTRATOR if caller().kind in {Kind.ADMIN, Kind.SERVICE} else ""


def _used(seen: Seen, signer: str, proof: Proof | None) -> Seen:
    return seen if proof is None else seen.use(signer, proof)


def _report(said: pb.ReplicaReport) -> Report:
    name = pb.ReplicaState.Name(said.state).removeprefix("REPLICA_STATE_")
    return Report(
        state=State(name),
        reason=said.reason,
        capabilities=tuple(dict.fromkeys(said.capabilities)),
        next_probe=_time(said, "next_probe"),
        checked=_time(said, "checked"),
        running=said.running,
    )


def _time(said: pb.ReplicaReport, field: str) -> datetime | None:
    if not said.HasField(field):  # pyright: ignore[reportArgumentType]  # one of two literals
        return None
    try:
        return getattr(said, field).ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidField(f"reports.{field}", "is no time", value=getattr(said, field).seconds) from error


def _look_otherwise(before: Sequence[Project], after: Sequence[Project]) -> bool:
    were = {one.name: one for one in before}
    return any(_looks(were[one.name]) != _looks(one) for one in after)


def _looks(project: Project) -> list[tuple[object, ...]]:
    """Return what others see of a project; when it was last reported is none of it."""
    return [_look(one) for one in project.shown]


def _look(one: Replica) -> tuple[object, ...]:
    return one.id, one.state, one.reason, one.capabilities, one.operator


async def _resolved(targets: Sequence[Target]) -> dict[str, Sequence[Address]]:
    """Return the addresses of every host; none for one that cannot be resolved in time."""
    hosts = {target.host: target.port for target in targets}

    async def look(host: str, port: int) -> Sequence[Address]:
        if host == THIS_MACHINE or host.endswith(f".{THIS_MACHINE}"):  # by RFC 6761, whatever a resolver says
            return [IPv4Address("127.0.0.1")]
        with suppress(Unreachable):
            return await resolve(host, port)
        return []

    found = await asyncio.gather(*(look(host, port) for host, port in hosts.items()))
    return dict(zip(hosts, found, strict=True))
