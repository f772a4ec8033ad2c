"""AI projects as they are sent. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from aos.registry.replicas import Project, Replica, State
from aos.registry.store import Logged
from aos.v1 import registry_pb2 as pb

REASONS: Final = 3
"""Most replicas that a project's reason speaks of."""


def project_proto(project: Project) -> pb.AiProject:
    """Return the project without what is gone."""
    return _proto(project, [replica_proto(one, project) for one in project.shown])


def changed_proto(project: Project, before: Project | None) -> pb.AiProject:
    """Return the project after a call, and what the call did to each replica, those too that it removed."""
    had = {one.id for one in before.replicas if one.registered} if before is not None else set[str]()
    shown = [one for one in project.replicas if one.there or one.id in had]
    return _proto(project, [replica_proto(one, project, change=_change(one, had)) for one in shown])


def _proto(project: Project, replicas: Sequence[pb.Replica]) -> pb.AiProject:
    registered = [one for one in project.replicas if one.registered]
    state = pb.AI_PROJECT_STATE_REGISTERED
    if project.ended is not None:
        state = pb.AI_PROJECT_STATE_DRAINING if project.there else pb.AI_PROJECT_STATE_GONE
    return pb.AiProject(
        name=project.name,
        replicas=replicas,
        created=stamp(project.created),
        expires=stamp(min(one.expires for one in registered)) if registered else None,
        version=project.version,
        state=state,
        reason=_reason(project.shown),
        lease_id=project.lease_id,
        owner=project.owner,
    )


def _change(one: Replica, had: set[str]) -> pb.ReplicaChange:
    if not one.registered:
        return pb.REPLICA_CHANGE_REMOVED if one.id in had else pb.REPLICA_CHANGE_UNSPECIFIED
    return pb.REPLICA_CHANGE_KEPT if one.id in had else pb.REPLICA_CHANGE_ADDED


def _reason(replicas: Sequence[Replica]) -> str:
    if any(one.state is State.HEALTHY for one in replicas):
        return ""
    if not replicas:
        return "unregistered"
    reasons = [f"{one.spec.model} at {one.spec.api}: {one.why_not}" for one in replicas[:REASONS]]
    more = len(replicas) - REASONS
    return "; ".join(reasons) + (f"; and {more} more" if more > 0 else "")


def replica_proto(one: Replica, project: Project, *, change: pb.ReplicaChange | None = None) -> pb.Replica:
    """Return a replica of a project."""
    return pb.Replica(
        id=one.id,
        model=one.spec.model,
        api=one.spec.api,
        kind=f"MODEL_KIND_{one.spec.kind.name}",
        cid=one.spec.cid,
        state=f"REPLICA_STATE_{one.state}",
        reason=one.why_not,
        next_probe=None if one.next_probe is None else stamp(one.next_probe),
        capabilities=one.capabilities,
        operator=one.operator,
        project=project.name,
        owner=project.owner,
        address=one.spec.address,
        checked=None if one.checked is None else stamp(one.checked),
        running=one.running,
        created=stamp(one.created),
        expires=stamp(one.expires),
        change=change,
    )


def audit_proto(logged: Logged) -> pb.AuditEntry:
    """Return an entry of the audit log."""
    entry = logged.entry
    return pb.AuditEntry(
        sequence=logged.sequence,
        time=stamp(logged.time),
        actor=entry.actor,
        action=entry.action,
        subject=entry.subject,
        detail=entry.detail,
    )


def stamp(time: datetime) -> Timestamp:
    """Return a time as it is sent."""
    made = Timestamp()
    made.FromDatetime(time)
    return made
