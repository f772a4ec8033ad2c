"""What a project may use: requests a minute, tokens a day, and so many jobs. Pure: who asks says what time it is."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from aos.dispatcher.settings import DispatcherSettings
from aos.errors import InvalidField, QuotaExceeded
from aos.v1 import dispatcher_pb2 as pb

MINUTE: Final = timedelta(minutes=1)
DAY: Final = timedelta(days=1)
REMEMBERED: Final = 10_000
"""Most projects whose requests are counted; the one that was silent longest is forgotten, and may begin anew."""
FREED_SECONDS: Final = 5.0
"""When to come again if jobs that run have promised what is left: they rarely use all of it."""
MOST: Final = {
    "requests_per_minute": 1_000_000,
    "tokens_per_day": (1 << 53) - 1,
    "unfinished_jobs": 1_000_000,
    "kept_jobs": 1_000_000_000,
    "weight": 10_000,
}
"""The largest that each limit of a project can be set to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnLimits:
    """What was set for one project alone. None: the dispatcher's settings hold."""

    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    unfinished_jobs: int | None = None
    kept_jobs: int | None = None
    weight: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What holds for one project."""

    requests_per_minute: int
    """Retries included; so many may come at once."""
    tokens_per_day: int
    unfinished_jobs: int
    kept_jobs: int
    weight: int
    """With twice another's it gets twice as much done while both have jobs that wait."""


def read_limits(message: pb.ProjectLimits) -> OwnLimits:
    """Return the limits that an administrator sets. Raises InvalidField for one that cannot be."""
    given = {field.name: value for field, value in message.ListFields()}
    for name, value in given.items():
        if not 1 <= value <= MOST[name]:
            raise InvalidField(f"limits.{name}", f"must be from 1 to {MOST[name]}", value=value, limit=MOST[name])
    return OwnLimits(**given)


def limits_of(own: OwnLimits, settings: DispatcherSettings) -> Limits:
    """Return what holds: a project's own, the settings where it has none."""
    return Limits(
        requests_per_minute=own.requests_per_minute or settings.project_requests,
        tokens_per_day=own.tokens_per_day or settings.project_tokens,
        unfinished_jobs=own.unfinished_jobs or settings.project_jobs,
        kept_jobs=own.kept_jobs or settings.kept_jobs,
        weight=own.weight or settings.project_weight,
    )


def sent_limits(limits: OwnLimits | Limits) -> pb.ProjectLimits:
    """Return the limits as messages carry them."""
    return pb.ProjectLimits(**asdict(limits))


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of a project's day, in UTC. Prompts count, and answers."""

    used: int
    """By jobs that have ended today."""
    promised: int
    """The most that jobs which have not ended may use."""


class Requests:
    """Counts each project's requests, a minute's worth of which may come at once."""

    def __init__(self) -> None:
        self._due = OrderedDict[str, datetime]()
        """When each project will have paid off what it has asked, one interval a request."""

    def take(self, project: str, now: datetime, *, per_minute: int) -> None:
        """Count one request. Raises QuotaExceeded for one too many, which is not counted."""
        interval = MINUTE / per_minute
        due = max(now, self._due.get(project, now)) + interval
        if due - now > MINUTE:
            wait = (due - now - MINUTE).total_seconds()
            raise QuotaExceeded(project, "requests per minute", per_minute, retry_after=max(1.0, wait))
        self._due[project] = due
        self._due.move_to_end(project)
        while len(self._due) > REMEMBERED:
            self._due.popitem(last=False)


def day(now: datetime) -> int:
    """Return the number of the day in UTC."""
    return now.astimezone(UTC).toordinal()


def check_tokens(project: str, wanted: int, tokens: Tokens, *, per_day: int, now: datetime) -> None:
    """Raise QuotaExceeded if the job could take the project above its tokens of the day, InvalidField if no day has so many."""
    if wanted > per_day:
        problem = f"lets the job use {wanted} tokens, prompt included; {project!r} has {per_day} a day"
        raise InvalidField("order.sampling.max_tokens", problem, value=wanted, limit=per_day)
    if tokens.used + wanted > per_day:
        midnight = datetime.combine(now.astimezone(UTC).date(), datetime.min.time(), UTC) + DAY
        raise QuotaExceeded(project, "tokens per day", per_day, retry_after=max(1.0, (midnight - now).total_seconds()))
    if tokens.used + wanted + tokens.promised > per_day:
        raise QuotaExceeded(project, "tokens per day", per_day, retry_after=FREED_SECONDS)
