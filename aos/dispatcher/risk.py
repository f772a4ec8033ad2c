"""How closely a user's jobs are looked at: risk tags, the window around a tagged job, and how many operators check each. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Final

WHOLE: Final = 10_000
"""Widths are in ten-thousandths: this many draws every operator."""


class Tag(enum.IntEnum):
    """How much a user's work is mistrusted. A higher one is never lowered, only cleared."""

    NONE = 0
    SUSPICION = 1
    MALICIOUS = 2


class Position(enum.Enum):
    """Where a job stands to the one that was tagged; the value is the wire's."""

    NONE = ""
    BEFORE = "before"
    """An earlier job of the user, run again to be checked."""
    AFTER = "after"
    """The tagged job itself, or a later one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskSettings:
    """Windows in jobs of one user, widths in ten-thousandths of all operators. Raises ValueError for a value that cannot work.

    The widths are those of the older network for an operator with a range of 10 %: +-3 % and +-10 % of the whole.
    """

    before_jobs: int = 10
    """How many jobs before a tagged one are run again."""
    after_jobs: int = 10
    """How many jobs after a tagged one are looked at, at least."""
    clean_reviews: int = 10
    """After so many clean reviews in a row, of jobs from the tagged one on, the user's tag is cleared."""
    plain: int = 1_000
    """Width for a job without a tag."""
    suspicion_before: int = 1_600
    suspicion_after: int = 1_600
    malicious_before: int = 3_000
    malicious_after: int = 1_600

    def __post_init__(self) -> None:
        windows = {"before_jobs": 0, "after_jobs": 0, "clean_reviews": 1}
        for one in fields(self):
            value, least = getattr(self, one.name), windows.get(one.name, 0)
            if value < least or (one.name not in windows and value > WHOLE):
                most = "" if one.name in windows else f" and at most {WHOLE}"
                raise ValueError(f"risk setting {one.name} must be at least {least}{most}, not {value}")

    def width(self, tag: Tag, position: Position) -> int:
        """Return what part of all operators is to check such a job, in ten-thousandths."""
        match tag, position:
            case Tag.NONE, _:
                return self.plain
            case Tag.SUSPICION, Position.BEFORE:
                return self.suspicion_before
            case Tag.SUSPICION, _:
                return self.suspicion_after
            case _, Position.BEFORE:
                return self.malicious_before
            case _:
                return self.malicious_after


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a user: kept from job to job."""

    tag: Tag = Tag.NONE
    left: int = 0
    """Jobs of the window that are still to come."""
    clean: int = 0
    """Clean reviews in a row since the tag was last given or confirmed."""


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier job of the user."""

    id: str
    reviewed: Tag = Tag.NONE
    """The highest tag that it has been run under, again or for the first time."""


@dataclass(frozen=True, slots=True)
class Again:
    """An earlier job that is to be run again, in position BEFORE."""

    id: str
    width: int


@dataclass(frozen=True, slots=True)
class Placed:
    """What follows from a user's next job."""

    standing: Standing
    """The user's, from now on."""
    tag: Tag
    """The job's, in force: its own or the user's, whichever is higher. To be kept with the job."""
    position: Position
    width: int
    again: tuple[Again, ...]
    """Oldest first."""


def place(standing: Standing, own: Tag, past: Iterable[Past], settings: RiskSettings) -> Placed:
    """Say how a user's next job, submitted under the tag ``own``, is looked at, and which earlier ones now are.

    ``past`` are the user's earlier jobs, newest first, this one not among them; no more are read than the window has. One that was
    run under as high a tag before is not run again: a user's many tagged jobs would otherwise each pay for ten.
    """
    tag = max(own, standing.tag)
    if tag is Tag.NONE:
        return Placed(standing, tag, Position.NONE, settings.width(tag, Position.NONE), ())
    if own is Tag.NONE:
        then = replace(standing, left=max(0, standing.left - 1))
        return Placed(then, tag, Position.AFTER, settings.width(tag, Position.AFTER), ())
    window = [one for _, one in zip(range(settings.before_jobs), past, strict=False)]
    width = settings.width(tag, Position.BEFORE)
    again = tuple(Again(one.id, width) for one in reversed(window) if one.reviewed < tag)
    then = Standing(tag, left=settings.after_jobs, clean=0)
    return Placed(then, tag, Position.AFTER, settings.width(tag, Position.AFTER), again)


def review(standing: Standing, position: Position, *, clean: bool, settings: RiskSettings) -> Standing:
    """Return the user's standing after the operators that checked one tagged job came to a verdict. Call it once a job.

    ``clean`` is whether they confirmed the job's result. The tag goes when the window is through and enough reviews in a row were
    clean; one that is not starts both again. That earlier jobs were clean (BEFORE) says nothing of later ones, and does not count.
    """
    if standing.tag is Tag.NONE:
        return standing
    if not clean:
        return replace(standing, left=settings.after_jobs, clean=0)
    if position is not Position.AFTER:
        return standing
    counted = replace(standing, clean=standing.clean + 1)
    return Standing() if counted.clean >= settings.clean_reviews and not counted.left else counted
