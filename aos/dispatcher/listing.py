"""Which jobs a list shows. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from aos.dispatcher.jobs import State
from aos.errors import InvalidField, PermissionDenied
from aos.v1.dispatcher_pb2 import ListJobsRequest


@dataclass(frozen=True, slots=True)
class JobFilter:
    """What a job must be to be listed; empty parts and None ask nothing."""

    project: str | None = None
    user: str = ""
    states: frozenset[State] = frozenset()
    model: str = ""
    created_from: datetime | None = None
    created_before: datetime | None = None


def read_filter(request: ListJobsRequest, visible: str | None) -> JobFilter:
    """Return the request's filter within what its caller may see: one project, or, as None, all.

    Raises InvalidField, or PermissionDenied for another project's jobs.
    """
    if visible is not None and request.project not in ("", visible):
        raise PermissionDenied("that project's own token, or the administrator's")
    states = set[State]()
    for state in request.states:
        try:
            states.add(State(state))
        except ValueError as error:
            raise InvalidField(
                "states", "must be states of jobs", value=state, limit=", ".join(one.name for one in State)
            ) from error
    return JobFilter(
        project=visible or request.project or None,
        user=request.user,
        states=frozenset(states),
        model=request.model,
        created_from=read_time(request.created_from, "created_from") if request.HasField("created_from") else None,
        created_before=read_time(request.created_before, "created_before") if request.HasField("created_before") else None,
    )


def read_time(stamp: Timestamp, field: str) -> datetime:
    """Return the time. Raises InvalidField for one that no calendar has."""
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidField(field, "must be a time from year 1 to 9999", value=stamp.seconds) from error
