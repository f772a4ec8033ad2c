"""What a project may use in a time: requests a minute, tokens a day. Pure: who asks says what time it is."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from aos.errors import InvalidField, QuotaExceeded

MINUTE: Final = timedelta(minutes=1)
DAY: Final = timedelta(days=1)
REMEMBERED: Final = 10_000
"""Most projects whose requests are counted; the one that was silent longest is forgotten, and may begin anew."""
FREED_SECONDS: Final = 5.0
"""When to come again if jobs that run have promised what is left: they rarely use all of it."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of a project's day, in UTC. Prompts count, and answers."""

    used: int
    """By jobs that have ended today."""
    promised: int
    """The most that jobs which have not ended may use."""


class Requests:
    """Counts each project's requests, a minute's worth of which may come at once."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._due = OrderedDict[str, datetime]()
        """When each project will have paid off what it has asked, one interval a request."""

    def take(self, project: str, now: datetime) -> None:
        """Count one request. Raises QuotaExceeded for one too many, which is not counted."""
        interval = MINUTE / self._per_minute
        due = max(now, self._due.get(project, now)) + interval
        if due - now > MINUTE:
            wait = (due - now - MINUTE).total_seconds()
            raise QuotaExceeded(project, "requests per minute", self._per_minute, retry_after=max(1.0, wait))
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
