"""Which engines are in memory: who is let in, what is loaded next, and what goes to make room. Pure: no clock, no thread, no model.

An engine is some parts of memory, each with a name and a size; parts of the same name are one, however many engines have them, so
weights that several share count once. Requests that wait for an engine take turns by engine, in the order in which the first of
each came; when its engine is there, all that wait for it are let in. If there is no room for the engine whose turn it is, the idle
ones go that were not used for longest; if those are not enough, busy ones let nobody else in and go once they are idle. So no
engine is unloaded in use, the budget always holds, and a request waits for no more than one turn of each other engine.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto


@dataclass(frozen=True, slots=True)
class Load:
    """The engine is to be loaded; tell ``loaded`` or ``failed`` how it went."""

    key: Hashable


@dataclass(frozen=True, slots=True)
class Unload:
    """The engine is to be closed; tell ``unloaded`` when its memory is free."""

    key: Hashable


@dataclass(frozen=True, slots=True)
class Grant:
    """The request may use its engine, until it leaves."""

    key: Hashable
    waiter: int


Step = Load | Unload | Grant


class _State(Enum):
    LOADING = auto()
    READY = auto()
    UNLOADING = auto()


@dataclass(slots=True)
class _Resident:
    parts: Mapping[str, int]
    state: _State = _State.LOADING
    users: set[int] = field(default_factory=set[int])
    granted: int = 0
    """When it last let somebody in."""
    used: int = 0
    """When somebody last came or left."""


@dataclass(frozen=True, slots=True)
class _Wish:
    key: Hashable
    parts: Mapping[str, int]


class Residency:
    """The engines of one operator, as far as memory goes."""

    def __init__(self, budget: int) -> None:
        """``budget``: bytes that all engines together may take."""
        self.budget = budget
        self._residents: dict[Hashable, _Resident] = {}
        self._waiting: dict[int, _Wish] = {}
        self._tick = 0

    @property
    def used(self) -> int:
        """Bytes that are taken now, those of engines on their way in or out counted in."""
        return _total(one.parts for one in self._residents.values())

    def waiting(self, key: Hashable) -> int:
        """Return how many requests wait for the engine."""
        return sum(wish.key == key for wish in self._waiting.values())

    def ready(self, key: Hashable) -> bool:
        """Say whether the engine is there."""
        resident = self._residents.get(key)
        return resident is not None and resident.state is _State.READY

    def fits(self, parts: Mapping[str, int]) -> bool:
        """Say whether an engine of these parts could be in memory at all, if nothing else were."""
        return _total([parts]) <= self.budget

    def want(self, waiter: int, key: Hashable, parts: Mapping[str, int]) -> None:
        """Let a request wait for an engine that fits; ``waiter`` is a number that no other request has."""
        self._waiting[waiter] = _Wish(key, parts)

    def leave(self, waiter: int, key: Hashable) -> None:
        """Take out a request that is done with the engine, or waits for it no longer."""
        self._waiting.pop(waiter, None)
        resident = self._residents.get(key)
        if resident is not None and waiter in resident.users:
            resident.users.remove(waiter)
            resident.used = self._now()

    def loaded(self, key: Hashable) -> None:
        """Note that the engine is there."""
        self._residents[key].state = _State.READY

    def failed(self, key: Hashable) -> list[int]:
        """Note that the engine could not be loaded; return who waited for it, and waits no longer."""
        del self._residents[key]
        losers = [waiter for waiter, wish in self._waiting.items() if wish.key == key]
        for waiter in losers:
            del self._waiting[waiter]
        return losers

    def unloaded(self, key: Hashable) -> None:
        """Note that the engine's memory is free."""
        del self._residents[key]

    def plan(self) -> list[Step]:
        """Return what is to be done now, and count it as begun. Ask again after everything that is told here."""
        steps: list[Step] = []
        closed: set[Hashable] = set()  # to newcomers, because others have waited longer for its memory
        looking = all(one.state is not _State.LOADING for one in self._residents.values())
        for key, parts in {wish.key: wish.parts for wish in self._waiting.values()}.items():
            resident = self._residents.get(key)
            if resident is None and looking:
                looking = False  # the next one's turn comes when this one is in
                steps += self._make_room(key, parts, closed)
            elif resident is not None and resident.state is _State.READY and key not in closed:
                steps += self._let_in(key, resident)
        return steps

    def _make_room(self, key: Hashable, parts: Mapping[str, int], closed: set[Hashable]) -> list[Step]:
        if _total([parts, *(one.parts for one in self._residents.values())]) <= self.budget:
            self._residents[key] = _Resident(parts, used=self._now())
            return [Load(key)]
        staying = {name: one for name, one in self._residents.items() if one.state is not _State.UNLOADING}
        # idle ones first; busy ones by when they last let somebody in, which does not change once they are closed
        order = sorted(staying, key=lambda name: (bool(staying[name].users), *_age(staying[name])))
        steps: list[Step] = []
        for name in order:
            if _total([parts, *(one.parts for one in staying.values())]) <= self.budget:
                break
            leaving = staying[name]
            if not any(leaving.parts.values()):
                continue
            del staying[name]
            if leaving.users:
                closed.add(name)
            else:
                leaving.state = _State.UNLOADING
                steps.append(Unload(name))
        return steps

    def _let_in(self, key: Hashable, resident: _Resident) -> list[Step]:
        entering = [waiter for waiter, wish in self._waiting.items() if wish.key == key]
        for waiter in entering:
            del self._waiting[waiter]
        resident.users.update(entering)
        resident.granted = resident.used = self._now()
        return [Grant(key, waiter) for waiter in entering]

    def _now(self) -> int:
        self._tick += 1
        return self._tick


def _age(resident: _Resident) -> tuple[int, int]:
    return (resident.granted, 0) if resident.users else (resident.used, resident.granted)


def _total(engines: Iterable[Mapping[str, int]]) -> int:
    """Return the bytes of the parts together; where engines differ about one they share, the most counts."""
    sizes: dict[str, int] = {}
    for parts in engines:
        for name, size in parts.items():
            sizes[name] = max(size, sizes.get(name, 0))
    return sum(sizes.values())
