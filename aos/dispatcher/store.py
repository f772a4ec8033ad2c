"""Where jobs and projects live. Each method is one transaction, and returns only once what it wrote is durable.

A ``decide`` is pure. A store runs it inside its transaction, and may run it again after a conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from aos.dispatcher.admission import Load, Record
from aos.dispatcher.jobs import Job, Money, Move, Output, Submission, View
from aos.dispatcher.projects import Project
from aos.v1.dispatcher_pb2 import JobEvent, Outcome


@dataclass(frozen=True, slots=True)
class Change:
    """A move that was kept, its events numbered."""

    job: Job
    events: tuple[JobEvent, ...]


@dataclass(frozen=True, slots=True)
class Leased:
    """A change that leases a job, with what the operator needs."""

    change: Change
    submission: Submission
    output: Output


@dataclass(frozen=True, slots=True)
class Row:
    """All that is known of a job. ``number`` counts jobs in the order of their creation."""

    number: int
    job: Job
    submission: Submission
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What placement needs to know of a job that waits for an operator."""

    number: int
    job: Job


Decide = Callable[[View], Move | None]


class JobStore(Protocol):
    """Jobs, their logs, and the dispatcher's own event count, which never goes back."""

    async def admit(self, project: str, request_id: str, decide: Callable[[Record | None, Load], Record]) -> Record:
        """Show ``decide`` what the request_id made before, if anything, and keep what it returns."""
        ...

    async def find(self, project: str, request_id: str) -> Record | None:
        """Return what the request_id made, accepted or not."""
        ...

    async def change(self, job_id: str, decide: Decide) -> Change | None:
        """Keep the move that ``decide`` makes, if any. Raises JobNotFound; what ``decide`` raises undoes all."""
        ...

    async def lease(self, job_id: str, decide: Decide) -> Leased | None:
        """Do as ``change`` does, and return the order and the answer so far with it."""
        ...

    async def forget(self, job_id: str) -> None:
        """Remove a job whose hold is PENDING. Does nothing if it is not there or was accepted."""
        ...

    async def get(self, job_id: str, *, project: str | None) -> Row:
        """Return an accepted job of the project (None: of any). Raises JobNotFound."""
        ...

    async def page(self, *, project: str | None, before: int | None, limit: int, size: int) -> Sequence[Row]:
        """Return accepted jobs, newest first, with numbers below ``before``: at most ``limit``, and about ``size`` bytes."""
        ...

    async def standing(self, job_id: str, *, project: str | None) -> Job:
        """Return the moving part of an accepted job. Raises JobNotFound."""
        ...

    async def events(self, job_id: str, *, after: int, limit: int) -> Sequence[JobEvent]:
        """Return the events behind ``after``, in order, at most ``limit``."""
        ...

    async def output(self, job_id: str) -> Output:
        """Return what the log holds of the answer."""
        ...

    async def waiting(self) -> Sequence[Waiting]:
        """Return the accepted jobs that wait for an operator, oldest first."""
        ...

    async def leased(self) -> Sequence[Job]:
        """Return the jobs that are ASSIGNED or RUNNING."""
        ...

    async def due(self, now: datetime, *, limit: int) -> Sequence[Job]:
        """Return accepted jobs that have not ended and whose deadline has come."""
        ...

    async def money(self, job_id: str) -> Money | None:
        """Return what is known of the job's hold; None if there is no such job, accepted or not."""
        ...

    async def pending(self, *, limit: int) -> Sequence[Record]:
        """Return jobs whose hold is PENDING, oldest first."""
        ...

    async def unsettled(self, *, limit: int) -> Sequence[Row]:
        """Return jobs that have ended while their money is still HELD, oldest first."""
        ...


class ProjectStore(Protocol):
    """Projects and the hashes of their tokens."""

    async def create(self, project: Project) -> None:
        """Keep a new project. Raises ProjectExists."""
        ...

    async def get(self, project_id: str) -> Project:
        """Return a project. Raises ProjectNotFound."""
        ...

    async def page(self, *, after: str, limit: int) -> Sequence[Project]:
        """Return projects by id, those behind ``after``."""
        ...

    async def rotate(self, project_id: str, token_hash: str) -> Project:
        """Replace the token's hash. Raises ProjectNotFound."""
        ...

    async def holder(self, token_hash: str) -> str | None:
        """Return the id of the project whose token has that hash."""
        ...
