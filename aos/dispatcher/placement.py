"""Which waiting job goes to which operator, and why not to the others. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

from aos.dispatcher.affinity import NOWHERE, Beginnings, Near
from aos.dispatcher.health import Health, State, step
from aos.order import cost
from aos.v1.types_pb2 import Price

BUSY: Final = Fraction(1, 2)
"""With so many of its places taken, an operator that knows a job's beginning gets it no more while another is idle."""


BEGINNING: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What an operator has to have for a job."""

    model: str
    model_digest: str
    embeds: bool
    """Whether it asks for vectors."""
    tee: bool
    """Whether it asks for an attested key."""
    controlled: bool
    """Whether a controller steers its answer."""
    provider: str
    """The only operator that may have it, in lower case; empty: any."""
    exact: bool
    """Whether each operator's answer must be the same."""


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
    controlled: bool = False
    """Whether a controller steers its answer."""
    provider: str = ""
    """The only operator that may have it, in lower case; empty: any."""
    exact: bool = False
    """Whether each operator's answer must be the same."""
    begins: Beginnings = NOWHERE
    """What it may share with jobs before it."""
    avoid: frozenset[str] = frozenset()
    """Operators that failed it. They get it again only if no other is there."""
    created: datetime = BEGINNING
    waits: bool = False
    """Whether its caller said how long it may take: it waits so long, whoever is there."""

    @property
    def kind(self) -> Kind:
        """What an operator has to have for it."""
        return Kind(
            model=self.model,
            model_digest=self.model_digest,
            embeds=self.embeds,
            tee=self.tee,
            controlled=self.controlled,
            provider=self.provider,
            exact=self.exact,
        )


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
    unlisted: str = ""
    """Why the registry would not send jobs there; empty if it would."""
    embeddings: bool = False
    """Whether it turns texts into vectors."""
    tee: bool = False
    """Whether its key is attested."""
    controllers: bool = False
    """Whether it runs controllers."""
    exact: bool = False
    """Whether its answers can be the same as others'."""
    health: Health | None = None
    """None: nothing is known."""
    late: bool = False
    """Whether its heartbeat is overdue."""

    @property
    def open(self) -> bool:
        """Whether it gets no jobs because it does not work."""
        return self.health is not None and self.health.state is State.OPEN

    @property
    def suspect(self) -> bool:
        """Whether others go before it because it may not work."""
        return self.late or (self.health is not None and self.health.state is State.SUSPECT)

    @property
    def load(self) -> Fraction:
        """What part of its places is taken."""
        return Fraction(self.running, self.slots)


def why_unfit(wanted: Wanted, candidate: Candidate) -> str:
    """Say why the operator cannot ever run the job as it stands; empty if it can."""
    if lacks := _lacks(wanted, candidate):
        return lacks
    if candidate.leaving:
        return "is going away"
    if candidate.unlisted:
        return candidate.unlisted
    if candidate.open and candidate.health is not None:
        return f"does not work: {candidate.health.reason}"
    most = cost(candidate.price, prompt_tokens=wanted.prompt_bound, completion_tokens=wanted.completion_bound)
    return f"may cost {most} neurons, and {wanted.amount} are held" if most > wanted.amount else ""


def usable(kind: Kind, candidate: Candidate) -> bool:
    """Say whether the operator may be given such jobs, now or once it has room."""
    return not (_lacks(kind, candidate) or candidate.leaving or candidate.unlisted or candidate.open)


def _lacks(wanted: Wanted | Kind, candidate: Candidate) -> str:
    if wanted.provider and wanted.provider != candidate.operator.lower():
        return "is not the provider that is to be paid"
    if candidate.model != wanted.model:
        return f"offers {candidate.model!r}"
    if candidate.model_digest != wanted.model_digest:
        return f"has other weights of {wanted.model!r}"
    lacking = (
        (wanted.embeds and not candidate.embeddings, "does not turn texts into vectors"),
        (wanted.controlled and not candidate.controllers, "does not run controllers"),
        (wanted.tee and not candidate.tee, "has no attested key"),
        (wanted.exact and not candidate.exact, "cannot be exact"),
    )
    return next((why for lacks, why in lacking if lacks), "")


def why_not(wanted: Wanted, candidate: Candidate) -> str:
    """Say why the operator cannot run the job now; empty if it can."""
    unfit = why_unfit(wanted, candidate)
    if unfit:
        return unfit
    return f"has all {candidate.slots} places taken" if candidate.running >= candidate.slots else ""


def choose(wanted: Wanted, candidates: Iterable[Candidate], near: Near | None = None) -> Candidate | None:
    """Return the operator that gets the job; None: it has to wait. ``near`` is who computed its beginning lately.

    Of those that have room: that one, unless it is busy while another is idle; else the least loaded, then the fastest to its first
    text, then the cheapest, then the lowest address. Those that may not work come last. An operator that failed the job before, or
    is silent, gets it only if no other fits, however busy the others are.
    """
    free = _free(wanted, candidates)
    if len(free) == 1:
        return free[0]
    drawn = _drawn(free, near)
    return drawn or min(free, key=lambda one: _preference(wanted, one), default=None)


def _free(wanted: Wanted, candidates: Iterable[Candidate]) -> list[Candidate]:
    fit = [one for one in candidates if not why_unfit(wanted, one)]
    heard = [one for one in fit if not one.late]
    fresh = [one for one in heard if one.operator not in wanted.avoid]
    # a silent one that did not fail it is no better than one that did and can be heard
    return [one for one in fresh or heard or fit if one.running < one.slots]


def _drawn(free: Sequence[Candidate], near: Near | None) -> Candidate | None:
    """Return the free one that the job is drawn to, if it is good enough."""
    one = next((one for one in free if near is not None and one.operator == near.operator), None)
    if one is None or near is None or (one.suspect and not all(other.suspect for other in free)):
        return None
    idle = any(not other.running and not other.suspect for other in free)
    return one if near.together or not (idle and one.load >= BUSY) else None


def _preference(wanted: Wanted, one: Candidate) -> tuple[bool, Fraction, int, int, str]:
    due = cost(one.price, prompt_tokens=wanted.prompt_bound, completion_tokens=wanted.completion_bound)
    return one.suspect, one.load, step(one.health.pace if one.health else None), due, one.operator


CHOICES: Final = (
    "the others may not work",
    "it was the least loaded",
    "of those that were as little loaded it was the fastest to its first text",
    "of those that were as good it was the cheapest",
    "of those that were equal it had the lowest address",
)
"""What decides, in the order in which it is looked at."""


def why_chosen(wanted: Wanted, chosen: Candidate, candidates: Iterable[Candidate], near: Near | None = None) -> str:
    """Say what made the choice."""
    free = _free(wanted, candidates)
    if all(one is chosen for one in free):
        return "It was the only one that could take it."
    if _drawn(free, near) == chosen and near is not None:
        return "It has just got the same input." if near.together else "It computed the same beginning before."
    mine = _preference(wanted, chosen)
    best = min(_preference(wanted, one) for one in free if one is not chosen)
    decided = next((index for index, (one, other) in enumerate(zip(mine, best, strict=True)) if one != other), len(CHOICES) - 1)
    busy = "" if near is None or all(one.operator != near.operator for one in free) else f"; {near.operator} knows it, but is busy"
    return f"{CHOICES[decided][0].upper()}{CHOICES[decided][1:]}{busy}."


def explain(wanted: Wanted, candidates: Sequence[Candidate]) -> str:
    """Say in words why the job waits."""
    reasons = [f"{one.operator} {why_not(wanted, one) or 'is free'}" for one in candidates]
    return f"It waited: {'; '.join(reasons) if reasons else 'no operator was attached'}."
