"""Whether an operator's model works, from how its leases and canaries end: a circuit breaker, and known answers. Pure."""

from __future__ import annotations

import enum
import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from aos.v1.dispatcher_pb2 import HealthState

OPEN_AFTER: Final = 3
"""After so many failures in a row, of different jobs, it gets no more."""
SPREAD: Final = 0.25
"""By how much of its interval a probe may come earlier, so that not all come at once."""
WEIGHT: Final = 0.25
"""What the latest time to the first text counts in the average of those before."""
SHORT_PROMPT: Final = 64
"""Tokens that a shorter prompt counts as: there the way to the operator is measured rather than the model."""
REMEMBERED: Final = 4096
"""Most operators' models whose health is remembered; those that nothing was heard of for longest are forgotten."""
KNOWN: Final = 256
"""Most models, by weights and profile, whose answers are known."""
VARIANTS: Final = 16
"""Most different answers of one that are remembered."""
VOICES: Final = 256
"""Most operators that are remembered for one answer."""
REASON_CHARS: Final = 300
"""Most characters of a reason."""
SHOWN_PROFILE: Final = 120
"""Most characters of a profile in a reason: it is the operator's own word."""


class State(enum.IntEnum):
    """As on the wire."""

    HEALTHY = HealthState.HEALTH_STATE_HEALTHY
    """What came last was good, or nothing has come yet."""
    SUSPECT = HealthState.HEALTH_STATE_SUSPECT
    """What came last was not: it comes after all others."""
    OPEN = HealthState.HEALTH_STATE_OPEN
    """It gets no jobs until a probe says that it works."""


class Opening(enum.StrEnum):
    """Why one became OPEN."""

    FAILURES = "failures"
    """Of so many jobs or canaries in a row."""
    ANSWER = "answer"
    """To a canary, which was not the known one."""


@dataclass(frozen=True, slots=True)
class Key:
    """One operator's model: other weights are another one."""

    operator: str
    model: str
    digest: str

    @property
    def name(self) -> str:
        """Its place in a list."""
        return f"{self.operator} {self.model} {self.digest}"

    @property
    def spread(self) -> float:
        """What of an interval its probes wait: from 1 - SPREAD to 1, another for each."""
        said = hashlib.sha256(self.name.encode()).digest()
        return 1 - SPREAD * int.from_bytes(said[:4]) / (1 << 32)


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often one is looked at, in seconds. 0: never."""

    failing: float
    """While it is not HEALTHY: within this time after it works again it gets jobs. With 0, failures make nothing OPEN."""
    idle: float
    """While it is HEALTHY, after so long without a job."""


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one operator's model."""

    since: datetime
    """When it came into its state."""
    state: State = State.HEALTHY
    failures: frozenset[str] = frozenset()
    """The jobs that it failed since something was good: one that fails everywhere opens nobody."""
    reason: str = ""
    """Why it is not HEALTHY."""
    next_probe: datetime | None = None
    """None: none is planned."""
    pace: float | None = None
    """Seconds to the first text, per token of the prompt, averaged; None: not measured."""


def begin(key: Key, *, now: datetime, every: Intervals) -> Health:
    """Return the health of one of which nothing is known: it is believed to work."""
    return _planned(Health(now), key, now, every)


def worked(health: Health, key: Key, *, now: datetime, every: Intervals, probed: bool) -> Health:
    """It did what was asked. One that is OPEN stays so unless it was ``probed``, but is probed at once."""
    if health.state is State.OPEN and not probed:
        return replace(health, next_probe=now)
    since = health.since if health.state is State.HEALTHY else now
    return _planned(replace(health, state=State.HEALTHY, since=since, failures=frozenset(), reason=""), key, now, every)


def failed(health: Health, key: Key, *, job: str, why: str, now: datetime, every: Intervals) -> Health:
    """It failed the job, or canary, by its own fault. The same job counts once."""
    failures = health.failures | {job} if len(health.failures) < OPEN_AFTER else health.failures
    opens = health.state is State.OPEN or (len(failures) >= OPEN_AFTER and every.failing > 0)
    state = State.OPEN if opens else State.SUSPECT
    since = health.since if health.state is state else now
    known = replace(health, state=state, since=since, failures=failures, reason=why[:REASON_CHARS])
    return _planned(known, key, now, every)


def wrong(health: Health, key: Key, *, why: str, now: datetime, every: Intervals) -> Health:
    """It answered a canary, and not as it should: it gets no jobs until it does."""
    since = health.since if health.state is State.OPEN else now
    return _planned(replace(health, state=State.OPEN, since=since, reason=why[:REASON_CHARS]), key, now, every)


def back(health: Health, *, now: datetime) -> Health:
    """It attached anew: one that is OPEN is probed at once."""
    return replace(health, next_probe=now) if health.state is State.OPEN and health.next_probe is not None else health


def timed(health: Health, *, seconds: float, prompt_tokens: int) -> Health:
    """Its first text came after so long."""
    pace = max(0.0, seconds) / max(prompt_tokens, SHORT_PROMPT)
    return replace(health, pace=pace if health.pace is None else health.pace + WEIGHT * (pace - health.pace))


def _planned(health: Health, key: Key, now: datetime, every: Intervals) -> Health:
    seconds = every.idle if health.state is State.HEALTHY else every.failing or every.idle
    return replace(health, next_probe=now + timedelta(seconds=seconds * key.spread) if seconds else None)


def step(pace: float | None) -> int:
    """Return the pace in steps of a factor of two: what differs by less is noise. One that is not measured is as fast as any."""
    return -1000 if not pace else math.floor(math.log2(pace))


class Board:
    """The health of all operators' models that were heard of lately."""

    def __init__(self, every: Intervals, opened: Callable[[Opening], None] = lambda _: None) -> None:
        """``opened`` is called whenever one becomes OPEN."""
        self._every, self._opened = every, opened
        self._known = OrderedDict[Key, Health]()

    def __iter__(self) -> Iterator[tuple[Key, Health]]:
        return iter(list(self._known.items()))

    def get(self, key: Key) -> Health | None:
        """Return what is known of it."""
        return self._known.get(key)

    def attached(self, key: Key, now: datetime) -> None:
        """Note that it is there."""
        known = self._known.get(key)
        self._put(key, back(known, now=now) if known else begin(key, now=now, every=self._every))

    def worked(self, key: Key, now: datetime, *, probed: bool = False) -> None:
        """Note that it did what was asked."""
        self._put(key, worked(self._of(key, now), key, now=now, every=self._every, probed=probed))

    def failed(self, key: Key, now: datetime, *, job: str, why: str) -> None:
        """Note that it failed."""
        before = self._of(key, now)
        self._fail(key, before, failed(before, key, job=job, why=why, now=now, every=self._every), Opening.FAILURES)

    def wrong(self, key: Key, now: datetime, *, why: str) -> None:
        """Note that its answer is not the known one."""
        before = self._of(key, now)
        self._fail(key, before, wrong(before, key, why=why, now=now, every=self._every), Opening.ANSWER)

    def timed(self, key: Key, now: datetime, *, seconds: float, prompt_tokens: int) -> None:
        """Note how long its first text took."""
        self._put(key, timed(self._of(key, now), seconds=seconds, prompt_tokens=prompt_tokens))

    def later(self, key: Key, now: datetime) -> None:
        """Plan its next probe: this one said nothing, or is under way."""
        self._put(key, _planned(self._of(key, now), key, now, self._every))

    def _of(self, key: Key, now: datetime) -> Health:
        return self._known.get(key) or begin(key, now=now, every=self._every)

    def _fail(self, key: Key, before: Health, after: Health, cause: Opening) -> None:
        self._put(key, after)
        if after.state is State.OPEN and before.state is not State.OPEN:
            self._opened(cause)

    def _put(self, key: Key, health: Health) -> None:
        self._known[key] = health
        self._known.move_to_end(key)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


class Answers:
    """What operators have answered to the canary, exactly, by weights and profile. The known answer is that of most operators."""

    def __init__(self) -> None:
        self._known = OrderedDict[tuple[str, str], OrderedDict[bytes, set[str]]]()

    def judge(self, digest: str, profile: str, operator: str, answer: bytes) -> str:
        """Note the operator's answer, and say why it is not the known one; empty if it is, or none is known better.

        Each operator counts once for each answer that it ever gave, so who changes its answer does not outvote what it said before.
        """
        said = self._known.setdefault((digest, profile), OrderedDict())
        self._known.move_to_end((digest, profile))
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)
        voices = said.setdefault(answer, set())
        if len(voices) < VOICES:
            voices.add(operator)
        if len(said) > VARIANTS:  # the one that fewest have given, but not this one
            del said[min((one for one in said if one != answer), key=lambda one: len(said[one]))]
        most = max(len(one) for one in said.values())
        if len(voices) == most:
            return ""
        shown = profile if len(profile) <= SHOWN_PROFILE else f"{profile[:SHOWN_PROFILE]}…"
        return f"it answered the canary otherwise than {most} operators with the same weights and profile ({shown})"
