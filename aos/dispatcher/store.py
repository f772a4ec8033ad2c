"""Where jobs and projects live. Each method is one transaction, and returns only once what it wrote is
durable, unless it says otherwise.

A ``decide`` is pure. A store runs it inside its transaction, and may run it again after a conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from aos.dispatcher.admission import Load, Record
from aos.dispatcher.affinity import NOWHERE, Beginnings
from aos.dispatcher.checks import NO_RISK, CheckKey, Conclusion, Risk
from aos.dispatcher.controller_rules import KeptTag, Module, Tag, Usage
from aos.dispatcher.jobs import Job, Money, Move, State, Submission, View
from aos.dispatcher.listing import JobFilter
from aos.dispatcher.output import Output
from aos.dispatcher.projects import Project
from aos.dispatcher.quotas import OwnLimits
from aos.dispatcher.risk import Standing
from aos.errors import AosError
from aos.v1.attestation_pb2 import Attestation
from aos.v1.broker_pb2 import ReserveRequest
from aos.v1.dispatcher_pb2 import Evidence, JobEvent, JobResult, Outcome
from aos.v1.operator_pb2 import Chunk, Trace
from aos.v1.receipt_pb2 import Receipt


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
    risk: Risk = NO_RISK


@dataclass(frozen=True, slots=True)
class Row:
    """All that is known of a job. ``number`` counts jobs in the order of their creation."""

    number: int
    job: Job
    submission: Submission
    outcome: Outcome | None
    risk: Risk = NO_RISK


@dataclass(frozen=True, slots=True)
class Waiting:
    """What placement needs to know of a job that waits for an operator."""

    number: int
    job: Job
    exact: bool = False
    """Whether each operator's answer must be the same."""
    begins: Beginnings = NOWHERE
    """How it begins, where that is known."""


@dataclass(frozen=True, slots=True)
class More:
    """Output that a job's operator adds to its log."""

    job_id: str
    lease: str
    chunk: Chunk


Decide = Callable[[View], Move | None]


@dataclass(frozen=True, slots=True)
class Asking:
    """A submission that is to become a job, its money held and itself accepted, all at once or not at all."""

    record: Record
    admit: Callable[[Record | None, Load], Record]
    """Is shown what the request_id made before, if anything."""
    hold: ReserveRequest
    accept: Decide


TakenIn = Row | Job | AosError
"""A new job, accepted; or the one that the request_id made before, accepted or not; or why there is none."""


class JobStore(Protocol):
    """Jobs, their logs, and the dispatcher's own event count, which never goes back."""

    async def admit(
        self, project: str, request_id: str, decide: Callable[[Record | None, Load], Record], *, now: datetime
    ) -> Record:
        """Show ``decide`` what the request_id made before, if anything, and keep what it returns."""
        ...

    async def find(self, project: str, request_id: str) -> Record | None:
        """Return what the request_id made, accepted or not."""
        ...

    async def change(self, job_id: str, decide: Decide, *, durable: bool = True) -> Change | None:
        """Keep the move that ``decide`` makes, if any. Raises JobNotFound; what ``decide`` raises undoes all.

        Not ``durable``: it is before anything that is kept later, but a loss of power may undo it until then.
        """
        ...

    async def accept(self, job_id: str, decide: Decide) -> tuple[Change | None, Row]:
        """Do as ``change`` does, and return all that is known of the job, which is an accepted one then, with it."""
        ...

    async def lease(self, job_id: str, decide: Decide) -> Leased | None:
        """Do as ``change`` does, not durable, and return the order and the answer so far with it."""
        ...

    async def extend(self, more: Sequence[More]) -> Sequence[JobEvent | None]:
        """Keep what operators added to their jobs' logs, in order, and return the events.

        None: that lease is not the RUNNING job's, and nothing of this one is kept.
        """
        ...

    async def forget(self, job_id: str) -> None:
        """Remove a job whose hold is PENDING. Does nothing if it is not there, was accepted, or another dispatcher takes it in."""
        ...

    async def get(self, job_id: str, *, project: str | None) -> Row:
        """Return an accepted job of the project (None: of any). Raises JobNotFound."""
        ...

    async def page(self, only: JobFilter, *, before: int | None, limit: int, size: int) -> Sequence[Row]:
        """Return accepted jobs that fit, newest first, with numbers below ``before``: at most ``limit``, about ``size`` bytes."""
        ...

    async def standing(self, job_id: str, *, project: str | None) -> Job:
        """Return the moving part of an accepted job. Raises JobNotFound."""
        ...

    async def behind(self, job_id: str, *, project: str | None, after: int, limit: int) -> tuple[State, Sequence[JobEvent]]:
        """Return an accepted job's state and the events behind ``after``, in order, at most ``limit``. Raises JobNotFound."""
        ...

    async def output(self, job_id: str) -> Output:
        """Return what the log holds of the answer."""
        ...

    async def trace(self, job_id: str) -> Trace | None:
        """Return what the `state_root` of the job's receipt is of; None if it has none."""
        ...

    async def attestation(self, job_id: str) -> Attestation | None:
        """Return the evidence that came with the job's answer; None if there is none."""
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

    async def running(self, controller: bytes) -> bool:
        """Say whether a job that has not ended is for that controller."""
        ...

    async def money(self, job_id: str) -> Money | None:
        """Return what is known of the job's hold; None if there is no such job, accepted or not."""
        ...

    async def pending(self, *, limit: int) -> Sequence[Record]:
        """Return jobs whose hold is PENDING, oldest first."""
        ...

    async def purge(self, *, ended_before: datetime, project: str | None, limit: int) -> int:
        """Delete jobs of the project (None: of any) that ended before and are settled, oldest first; return how many."""
        ...

    async def purge_beyond(self, keep: int, *, own: Mapping[str, int], limit: int) -> int:
        """Delete the oldest settled jobs of a project that has too many; return how many; 0: none has.

        ``keep`` is how many are kept of each, ``own`` of those that have a limit of their own, by `projects/…`.
        """
        ...

    async def unsettled(self, *, limit: int) -> Sequence[Row]:
        """Return jobs that have ended while their money is still HELD, oldest first."""
        ...

    async def settled(self, job_ids: Sequence[str]) -> None:
        """Note of jobs that have ended that their money is no longer held. A loss of power may undo it."""
        ...


class PaidJobStore(Protocol):
    """Jobs in one database with their money, so that what happens to both is one transaction."""

    async def take(self, asked: Sequence[Asking]) -> Sequence[TakenIn]:
        """Take jobs in, one behind the other; of one that is refused nothing is kept. What this raises undoes all of them."""
        ...

    async def pay(self, ended: Sequence[tuple[Job, Receipt | None]]) -> Sequence[bool]:
        """Settle jobs that have ended, by their receipts, and note it; say which are. A loss of power may undo both, together.

        Those that are not are to be asked of the broker, which says why. What this raises undoes all of them.
        """
        ...


class CheckStore(Protocol):
    """Checks of jobs, what operators said, what is on record against them, and how closely users are looked at."""

    async def ready(self, *, limit: int, beside: Collection[CheckKey]) -> Sequence[CheckKey]:
        """Return checks of COMPLETED jobs that are not concluded and not among ``beside``, oldest job first."""
        ...

    async def width(self, key: CheckKey) -> int | None:
        """Return what part of all operators is to check the job, in ten-thousandths; None if there is no such check any more."""
        ...

    async def results(self, job_id: str) -> Sequence[JobResult]:
        """Return what operators said about the job, in the order in which it came."""
        ...

    async def keep(self, job_id: str, result: JobResult) -> None:
        """Add a result. Does nothing if the job is gone."""
        ...

    async def conclude(self, key: CheckKey, found: Conclusion, *, now: datetime) -> None:
        """End a check: the verdict, each operator's part in it, the evidence, and what follows for the user."""
        ...

    async def accuse(self, evidence: Evidence, *, now: datetime) -> None:
        """Keep evidence. Does nothing if it is there."""
        ...

    async def evidence(self, *, project: str | None, job: str, before: int | None, limit: int) -> Sequence[tuple[int, Evidence]]:
        """Return evidence with its number, newest first: of a project's jobs (None: all), of one job (empty: all)."""
        ...

    async def standing(self, project: str, user: str) -> Standing:
        """Return what is known of a user."""
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

    async def set_limits(self, project_id: str, limits: OwnLimits) -> Project:
        """Replace what was set for the project alone. Raises ProjectNotFound."""
        ...

    async def limits(self, project_id: str) -> OwnLimits:
        """Return what was set for the project alone: nothing for one that is not there."""
        ...

    async def kept_jobs(self) -> Mapping[str, int]:
        """Return how many ended jobs are kept of each `projects/…` that has a limit of its own."""
        ...

    async def weights(self) -> Mapping[str, int]:
        """Return the weight of each `projects/…` that has one of its own."""
        ...

    async def holder(self, token_hash: str) -> str | None:
        """Return the id of the project whose token has that hash."""
        ...


class ControllerStore(Protocol):
    """What is known of controllers, who brought them in, and their tags. The modules themselves are files."""

    async def get(self, digest: bytes) -> Module:
        """Return a controller. Raises ControllerNotFound."""
        ...

    async def tag(self, name: str) -> KeptTag | None:
        """Return a tag; None if there is none of that name."""
        ...

    async def usage(self, owner: str) -> Usage:
        """Return what an owner keeps."""
        ...

    async def has(self, owner: str, digest: bytes) -> bool:
        """Say whether the owner has brought the controller in."""
        ...

    async def add(self, module: Module, owner: str, decide: Callable[[Usage], None]) -> Module:
        """Keep a controller as one of the owner's, and return it as it came first.

        ``decide`` looks at what the owner keeps besides, and raises if it is too much; it is not asked about what the owner has.
        """
        ...

    async def drop(self, digest: bytes, owner: str, decide: Callable[[frozenset[str], str], bool]) -> bool:
        """Let the owner's hold of a controller go, or, as ``decide`` says, the controller, and return which.

        ``decide`` is shown who has sent it, and a tag of it if there is one. Raises ControllerNotFound, and what ``decide`` raises.
        """
        ...

    async def set_tags(
        self, names: Sequence[str], digest: bytes, owner: str, decide: Callable[[Mapping[str, Tag], Usage], Sequence[Tag]]
    ) -> Sequence[KeptTag]:
        """Keep the tags that ``decide`` makes of those there are under these names, in their order.

        Raises ControllerNotFound, and what ``decide`` raises.
        """
        ...

    async def tags(self, *, before: int | None, limit: int) -> Sequence[KeptTag]:
        """Return tags, those set last first; ``before`` is the number of the last one on the page before."""
        ...

    async def tags_of(self, digest: bytes, *, limit: int) -> Sequence[str]:
        """Return the names of a controller's tags, those set last first."""
        ...
