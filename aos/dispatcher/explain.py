"""Why a job is where it is: who was looked at for it, what kept each from it, and what made the choice. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from aos.dispatcher.affinity import Near
from aos.dispatcher.health import Health
from aos.dispatcher.jobs import Job, State
from aos.dispatcher.placement import Candidate, Wanted, why_chosen, why_not, why_unfit

SHOWN: Final = 32
"""Most operators that an explanation speaks of."""
NAMED: Final = 3
"""Most operators that a sentence speaks of."""
REMEMBERED: Final = 4096
"""Most placements that are remembered."""


@dataclass(frozen=True, slots=True)
class Considered:
    """An operator that was looked at."""

    operator: str
    free: bool
    reason: str
    running: int
    slots: int
    failed_before: bool
    health: Health | None = None
    """Of the job's model; None: it does not offer it."""
    suspect: bool = False
    """Whether others went before it because it may not work."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Who was looked at for a job, and who got it, if anyone."""

    considered: tuple[Considered, ...]
    chosen: str = ""
    ahead: int = 0
    """Jobs of its project that go before it, while it waits."""
    waiting: int = 0
    """Jobs that wait, itself included, while it waits."""
    not_shown: int = 0
    """Operators that were looked at and are not among ``considered``."""
    choice: str = ""
    """What made the choice, if one was made."""


def consider(
    wanted: Wanted, candidates: Sequence[Candidate], chosen: Candidate | None = None, near: Near | None = None
) -> Placement:
    """Return what placement saw of each operator: those that offer the model first, the one that got the job before all.

    ``near`` is who computed the job's beginning lately.
    """
    offering = {one.operator: one for one in candidates if one.model == wanted.model}
    others = {one.operator: one for one in candidates if one.operator not in offering}
    ranked = sorted(offering.values(), key=lambda one: (bool(why_unfit(wanted, one)), one.running / one.slots, one.operator))
    if chosen is not None:
        ranked = [chosen, *(one for one in ranked if one.operator != chosen.operator)]
    looked_at = [*ranked, *(others[name] for name in sorted(others))]
    shown = tuple(_considered(wanted, one, chosen) for one in looked_at[:SHOWN])
    choice = why_chosen(wanted, chosen, candidates, near) if chosen else ""
    return Placement(shown, chosen.operator if chosen else "", not_shown=len(looked_at) - len(shown), choice=choice)


def _considered(wanted: Wanted, one: Candidate, chosen: Candidate | None) -> Considered:
    before = one.operator in wanted.avoid
    reason = why_not(wanted, one)
    free = not reason
    if free:
        load = f"{one.running} of {one.slots} places taken"
        if chosen is not None and one.operator == chosen.operator:
            reason = f"was chosen, with {load}" + ("; no other that fits was there" if before else "")
        else:
            reason = f"is free, with {load}" + ("; the job failed with it before" if before else "")
    health = one.health if one.model == wanted.model else None
    return Considered(one.operator, free, reason, one.running, one.slots, before, health, one.suspect)


class Placements:
    """The latest placements. What it forgets is not known any more."""

    def __init__(self) -> None:
        self._known = OrderedDict[str, Callable[[], Placement]]()

    def note(self, wanted: Wanted, chosen: Candidate, candidates: Sequence[Candidate], near: Near | None = None) -> None:
        """Remember who got the job and why. A later attempt takes an earlier one's place."""
        seen = partial(consider, wanted, candidates, chosen, near)
        if len(candidates) > SHOWN:  # what is kept is not to grow with the network
            seen = partial(_same, seen())
        # hardly anybody asks: it is put in words only then
        self._known[wanted.job_id] = seen
        self._known.move_to_end(wanted.job_id)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def get(self, job_id: str) -> Placement | None:
        """Return the job's latest placement, if it is remembered."""
        seen = self._known.get(job_id)
        return None if seen is None else seen()


def _same(placement: Placement) -> Placement:
    return placement


def _waits(placement: Placement) -> str:
    if free := sum(one.free for one in placement.considered):
        return f"It waits for its turn; {free} operators could take it."
    reasons = [f"{one.operator} {one.reason}" for one in placement.considered[:NAMED]]
    return f"It waits: {'; '.join(reasons) or 'no operator is attached'}."


def summary(job: Job, placement: Placement | None) -> str:
    """Say in a sentence why the job is where it is."""
    state = job.state.name.lower()
    if job.state is State.QUEUED:
        if placement is None:
            return "It is about to be given to an operator."
        return _waits(placement)
    if not job.operator:
        return f"It is {state} and was never given to an operator."
    if placement is None or placement.chosen != job.operator:
        return f"It is {state}; {job.operator} had it last, in attempt {job.attempts}. Why it was chosen is not remembered."
    reasons = {one.operator: one.reason for one in placement.considered}
    return f"It is {state}; in attempt {job.attempts} {job.operator} {reasons[job.operator]}."
