"""Which waiting job goes to which operator, and why not to the others. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from aos.order import cost
from aos.v1.types_pb2 import Price

LOOK: Final = 64
"""Most waiting jobs of one project that are looked at for one free place."""
PATIENCE: Final = 8
"""Every so many of a project's jobs the oldest goes first, whatever its priority: low means later, never not at all."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A waiting job, as far as placement looks at it."""

    number: int
    """Older ones have lower numbers; no two have the same."""
    job_id: str
    project: str
    model: str
    model_digest: str
    prompt_bound: int
    completion_bound: int
    amount: int
    priority: int = 0
    """Higher goes first among the project's own."""
    embeds: bool = False
    """Whether it asks for vectors."""
    tee: bool = False
    """Whether it asks for an attested key."""
    avoid: frozenset[str] = frozenset()
    """Operators that failed it. They get it again only if no other is there."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An attached operator and one of its offers."""

    operator: str
    model: str
    model_digest: str
    price: Price
    slots: int
    running: int
    """Leases of this offer now."""
    leaving: bool = False
    """It said that it is going away."""
    embeddings: bool = False
    """Whether it turns texts into vectors."""
    tee: bool = False
    """Whether its key is attested."""


def why_unfit(wanted: Wanted, candidate: Candidate) -> str:
    """Say why the operator cannot ever run the job as it stands; empty if it can."""
    if candidate.model != wanted.model:
        return f"offers {candidate.model!r}"
    if candidate.model_digest != wanted.model_digest:
        return f"has other weights of {wanted.model!r}"
    if wanted.embeds and not candidate.embeddings:
        return "does not turn texts into vectors"
    if wanted.tee and not candidate.tee:
        return "has no attested key"
    if candidate.leaving:
        return "is going away"
    most = cost(candidate.price, prompt_tokens=wanted.prompt_bound, completion_tokens=wanted.completion_bound)
    return f"may cost {most} neurons, and {wanted.amount} are held" if most > wanted.amount else ""


def why_not(wanted: Wanted, candidate: Candidate) -> str:
    """Say why the operator cannot run the job now; empty if it can."""
    unfit = why_unfit(wanted, candidate)
    if unfit:
        return unfit
    return f"has all {candidate.slots} places taken" if candidate.running >= candidate.slots else ""


def choose(wanted: Wanted, candidates: Iterable[Candidate]) -> Candidate | None:
    """Return the least loaded operator that can run the job; among equals the lowest address. None: it has to wait.

    An operator that failed the job before gets it only if no other fits, however busy the others are.
    """
    fit = [one for one in candidates if not why_unfit(wanted, one)]
    fresh = [one for one in fit if one.operator not in wanted.avoid] or fit
    free = [one for one in fresh if one.running < one.slots]
    return min(free, key=lambda one: (Fraction(one.running, one.slots), one.operator), default=None)


def explain(wanted: Wanted, candidates: Sequence[Candidate]) -> str:
    """Say in words why the job waits."""
    reasons = [f"{one.operator} {why_not(wanted, one) or 'is free'}" for one in candidates]
    return f"It waited: {'; '.join(reasons) if reasons else 'no operator was attached'}."


def _rank(wanted: Wanted) -> tuple[int, int]:
    return -wanted.priority, wanted.number


@dataclass(slots=True)
class _Line:
    """One project's jobs that wait for one model."""

    ranked: list[Wanted] = field(default_factory=list[Wanted])
    taken: int = 0

    def next_ones(self) -> list[Wanted]:
        """Return the jobs to be looked at for a free place, in order."""
        if (self.taken + 1) % PATIENCE:
            return self.ranked[:LOOK]
        return sorted(self.ranked, key=lambda one: one.number)[:LOOK]


class Queue:
    """Waiting jobs, by priority and then age within a project; projects take turns, so that one's flood keeps no other waiting."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], OrderedDict[str, _Line]] = {}
        self._jobs: dict[str, Wanted] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, job_id: str) -> Wanted | None:
        """Return the waiting job; None if it is not there."""
        return self._jobs.get(job_id)

    def ahead(self, job_id: str) -> int:
        """Return how many jobs of its project go before the waiting job to its model, by rank."""
        wanted = self._jobs[job_id]
        ranked = self._models[wanted.model, wanted.model_digest][wanted.project].ranked
        return bisect_left(ranked, _rank(wanted), key=_rank)

    def add(self, wanted: Wanted) -> None:
        """Put the job in its place. Does nothing if it is there."""
        if wanted.job_id in self._jobs:
            return
        self._jobs[wanted.job_id] = wanted
        projects = self._models.setdefault((wanted.model, wanted.model_digest), OrderedDict())
        insort(projects.setdefault(wanted.project, _Line()).ranked, wanted, key=_rank)

    def remove(self, job_id: str) -> Wanted | None:
        """Take the job out; None if it is not there."""
        wanted = self._jobs.pop(job_id, None)
        if wanted is None:
            return None
        key = (wanted.model, wanted.model_digest)
        projects = self._models[key]
        waiting = projects[wanted.project].ranked
        del waiting[bisect_left(waiting, _rank(wanted), key=_rank)]
        if not waiting:
            del projects[wanted.project]
            if not projects:
                del self._models[key]
        return wanted

    def take(self, candidates: Sequence[Candidate]) -> tuple[Wanted, Candidate] | None:
        """Take out the next job that an operator can run, with that operator. None: nothing fits now."""
        offered = {(one.model, one.model_digest) for one in candidates if one.running < one.slots}
        for key in [key for key in self._models if key in offered]:
            projects = self._models[key]
            for project, line in projects.items():
                # one that no operator fits does not keep the others waiting
                for wanted in line.next_ones():
                    chosen = choose(wanted, candidates)
                    if chosen is not None:
                        line.taken += 1
                        self.remove(wanted.job_id)
                        if project in projects:
                            projects.move_to_end(project)
                        return wanted, chosen
        return None
