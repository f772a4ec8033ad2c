"""Waiting jobs, and whose turn it is: each project gets its share of what operators do, by weight. Pure.

Each project has a tag: the work that it was given, in tokens over its weight. The lowest goes first (start-time fair queueing).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import Final

from aos.dispatcher.affinity import Near, Recent
from aos.dispatcher.placement import Candidate, Kind, Wanted, choose, usable
from aos.dispatcher.ranked import Key, Ranked

LOOK: Final = 64
"""Most waiting jobs of one project and kind that are looked at for one free place."""
PATIENCE: Final = 8
"""Every so many of a project's jobs the oldest goes first, whatever its priority: low means later, never not at all."""
SCALE: Final = 1_000_000
"""Tags are whole numbers, of millionths of a token at weight 1."""
REMEMBERED: Final = 1024
"""Most projects that have nothing waiting, and most models, of which it is remembered what they were given."""

COMES: Final = -1
"""The tag of a project that has come and owes the others nothing: it goes before all that were there."""

Turn = tuple[int, int, str]
"""When a project's turn comes: its tag; of those with the same, who waits longest for it; the project."""


def _rank(wanted: Wanted) -> Key:
    return -wanted.priority, wanted.number


def _age(wanted: Wanted) -> Key:
    return 0, wanted.number


@dataclass(slots=True)
class _Alike:
    """One project's waiting jobs of one kind."""

    ranked: Ranked = field(default_factory=Ranked)
    aged: Ranked = field(default_factory=Ranked)


class _Line:
    """One project's jobs that wait for one model."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.taken = 0
        self._kinds: dict[Kind, _Alike] = {}
        self._jobs: dict[int, Wanted] = {}

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def add(self, wanted: Wanted) -> None:
        self._jobs[wanted.number] = wanted
        alike = self._kinds.setdefault(wanted.kind, _Alike())
        alike.ranked.add(_rank(wanted))
        alike.aged.add(_age(wanted))

    def remove(self, wanted: Wanted) -> None:
        del self._jobs[wanted.number]
        alike = self._kinds[wanted.kind]
        alike.ranked.remove(_rank(wanted))
        alike.aged.remove(_age(wanted))
        if not alike.ranked:
            del self._kinds[wanted.kind]

    def ahead(self, wanted: Wanted) -> int:
        return sum(one.ranked.before(_rank(wanted)) for one in self._kinds.values())

    def next_ones(self, fits: Callable[[Kind], bool]) -> Iterator[Wanted]:
        """Return the jobs to be looked at for a free place, in order: those of kinds that fit, so many of each."""
        oldest = (self.taken + 1) % PATIENCE == 0
        heads = [islice(one.aged if oldest else one.ranked, LOOK) for kind, one in self._kinds.items() if fits(kind)]
        return (self._jobs[number] for _, number in (merge(*heads) if len(heads) > 1 else heads[0] if heads else ()))


class _Pool:
    """The projects whose jobs wait for one model, in the order of their turns."""

    def __init__(self) -> None:
        self.lines: dict[str, _Line] = {}
        self._turns: list[Turn] = []
        self._gone: dict[str, int] = {}
        """Tags of projects that have nothing waiting."""
        self._begun = 0
        """Where the turn began that was the last."""

    def add(self, wanted: Wanted, arrival: int) -> None:
        line = self.lines.get(wanted.project)
        if line is None:
            # who was away has no claim to what others were given meanwhile, but if it owes them nothing it has the next turn
            owes = self._gone.pop(wanted.project, 0)
            line = _Line((owes if owes > self._lowest() else COMES, arrival, wanted.project))
            self.lines[wanted.project] = line
            insort(self._turns, line.turn)
        line.add(wanted)

    def remove(self, wanted: Wanted) -> None:
        line = self.lines[wanted.project]
        line.remove(wanted)
        if not line:
            del self.lines[wanted.project]
            del self._turns[bisect_left(self._turns, line.turn)]
            self._gone[wanted.project] = line.turn[0]
            while len(self._gone) > REMEMBERED:
                del self._gone[next(iter(self._gone))]

    def take(self, wanted: Wanted, work: int, turn: int) -> None:
        """Take out a job that an operator gets, and count its work."""
        line = self.lines[wanted.project]
        self._begun = self._lowest() if line.turn[0] == COMES else line.turn[0]
        # who went before and had nothing that fits is as good as away: it does not save up what it could not use
        for tag, since, project in self._turns[self._first() : bisect_left(self._turns, line.turn)]:
            if tag < self._begun:
                self._move(self.lines[project], (self._begun, since, project))
        line.taken += 1
        self._move(line, (self._begun + work, turn, wanted.project))
        self.remove(wanted)

    def correct(self, project: str, work: int) -> None:
        """Count so much work more, or less."""
        line = self.lines.get(project)
        if line is None:
            if project in self._gone:
                self._gone[project] += work
        elif line.turn[0] != COMES:
            self._move(line, (max(0, line.turn[0] + work), *line.turn[1:]))

    def in_turn(self) -> Sequence[str]:
        return [project for *_, project in self._turns]

    def _first(self) -> int:
        return bisect_left(self._turns, (0,))

    def _lowest(self) -> int:
        first = self._first()
        return self._turns[first][0] if first < len(self._turns) else self._begun

    def _move(self, line: _Line, turn: Turn) -> None:
        del self._turns[bisect_left(self._turns, line.turn)]
        line.turn = turn
        insort(self._turns, turn)


@dataclass(frozen=True, slots=True)
class _Given:
    """Work that a project was given and that has not ended."""

    key: tuple[str, str]
    project: str
    tokens: int
    weight: int


class Queue:
    """Waiting jobs, by priority and then age within a project; projects share by weight: one's flood keeps no other waiting.

    A project that comes, or comes back, has the next turn: it waits for one free place at most, however many jobs others have.
    """

    def __init__(self, weight: Callable[[str], int] = lambda _: 1) -> None:
        """``weight`` is a project's, at least 1: with twice another's it gets twice as much done."""
        self._weight = weight
        self._pools: dict[tuple[str, str], _Pool] = {}
        self._jobs: dict[str, Wanted] = {}
        self._given: dict[str, _Given] = {}
        self._kinds: dict[Kind, dict[str, Wanted]] = {}
        """Those that do not wait whoever is there, in the order in which they came."""
        self._turn = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, job_id: str) -> Wanted | None:
        """Return the waiting job; None if it is not there."""
        return self._jobs.get(job_id)

    def jobs(self) -> list[str]:
        """Return all that wait."""
        return list(self._jobs)

    def ahead(self, job_id: str) -> int:
        """Return how many jobs of its project go before the waiting job to its model, by rank."""
        wanted = self._jobs[job_id]
        return self._pools[wanted.model, wanted.model_digest].lines[wanted.project].ahead(wanted)

    def kinds(self) -> Collection[Kind]:
        """Return the kinds of the jobs that do not wait whoever is there."""
        return self._kinds.keys()

    def of(self, kind: Kind) -> Iterable[Wanted]:
        """Return those jobs of a kind, in the order in which they came."""
        return self._kinds.get(kind, {}).values()

    def add(self, wanted: Wanted) -> None:
        """Put the job in its place. Does nothing if it is there. One that comes back was no work of its project's."""
        if wanted.job_id in self._jobs:
            return
        self.settle(wanted.job_id, 0)
        self._jobs[wanted.job_id] = wanted
        if not wanted.waits:
            self._kinds.setdefault(wanted.kind, {})[wanted.job_id] = wanted
        pool = self._pools.get((wanted.model, wanted.model_digest))
        if pool is None:
            pool = self._pools[wanted.model, wanted.model_digest] = _Pool()
            self._forget_pools()
        self._turn += 1
        pool.add(wanted, self._turn)

    def remove(self, job_id: str) -> Wanted | None:
        """Take the job out; None if it is not there."""
        wanted = self._jobs.get(job_id)
        if wanted is not None:
            self._drop(wanted)
            self._pools[wanted.model, wanted.model_digest].remove(wanted)
        return wanted

    def take(
        self, candidates: Sequence[Candidate], recent: Recent | None = None, now: datetime | None = None
    ) -> tuple[Wanted, Candidate, Near | None] | None:
        """Take out the next job that fits an operator, with that operator and who its beginning spoke for. None: nothing fits now.

        ``recent`` is who computed what lately, as of ``now``; who gets the job is noted there. Until ``settle`` the most that the
        job can use counts as its project's.
        """
        free = [one for one in candidates if one.running < one.slots and not one.open]
        known: dict[Kind, bool] = {}

        def fits(kind: Kind) -> bool:
            if kind not in known:
                known[kind] = any(usable(kind, one) for one in free)
            return known[kind]

        offered = {(one.model, one.model_digest) for one in free}
        for key in [key for key in self._pools if key in offered]:
            pool = self._pools[key]
            for project in pool.in_turn():
                # one that no operator fits does not keep the others waiting
                for wanted in pool.lines[project].next_ones(fits):
                    near = recent.near(wanted.begins, now) if recent is not None and now is not None else None
                    chosen = choose(wanted, candidates, near)
                    if chosen is not None:
                        if recent is not None and now is not None:
                            recent.note(wanted.begins, chosen.operator, now)
                        self._give(wanted, key)
                        return wanted, chosen, near
        return None

    def settle(self, job_id: str, used: int | None) -> None:
        """Say how many tokens a job that was taken used; None: all that it could. Nothing for one that was not, or was settled."""
        given = self._given.pop(job_id, None)
        if given is not None and used is not None:
            self._pools[given.key].correct(given.project, (used - given.tokens) * SCALE // given.weight)

    def _give(self, wanted: Wanted, key: tuple[str, str]) -> None:
        weight, self._turn = self._weight(wanted.project), self._turn + 1
        given = _Given(key, wanted.project, max(1, wanted.prompt_bound + wanted.completion_bound), weight)
        self._given[wanted.job_id] = given
        self._drop(wanted)
        self._pools[key].take(wanted, given.tokens * SCALE // weight, self._turn)

    def _drop(self, wanted: Wanted) -> None:
        del self._jobs[wanted.job_id]
        alike = self._kinds.get(wanted.kind, {})
        if alike.pop(wanted.job_id, None) is not None and not alike:
            del self._kinds[wanted.kind]

    def _forget_pools(self) -> None:
        if len(self._pools) > REMEMBERED:
            used = {given.key for given in self._given.values()}
            for key in [key for key, pool in self._pools.items() if not pool.lines and key not in used]:
                del self._pools[key]
