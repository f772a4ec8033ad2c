"""Waiting jobs that nobody can run any more end, rather than wait for their deadline."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from aos.clock import Clock
from aos.dispatcher import jobs
from aos.dispatcher.jobs import At
from aos.dispatcher.log import EventLog
from aos.dispatcher.placement import Candidate, Kind, explain, usable
from aos.dispatcher.queue import Queue
from aos.dispatcher.settings import DispatcherSettings
from aos.errors import ModelUnavailable

BATCH: Final = 256
"""Most jobs of one kind that are ended together."""

log = logging.getLogger(__name__)


class Alone:
    """Since when nobody can run what waits, by kind."""

    def __init__(self) -> None:
        self._since: dict[Kind, datetime] = {}

    def look(self, kinds: Collection[Kind], candidates: Sequence[Candidate], now: datetime) -> dict[Kind, datetime]:
        """Return those of the kinds that nobody can run, and since when that is so."""
        left = [kind for kind in kinds if not any(usable(kind, one) for one in candidates)]
        self._since = {kind: self._since.get(kind, now) for kind in left}
        return dict(self._since)

    def forget(self) -> None:
        """Begin anew: what can be run is not known."""
        self._since = {}


class Unroutable:
    """Ends waiting jobs whose model has had no usable operator for long, unless their callers said how long they may take."""

    def __init__(
        self, log: EventLog, queue: Queue, *, why: Callable[[str], str | None], settings: DispatcherSettings, clock: Clock
    ) -> None:
        """``why`` is the registry's reason why nobody runs a model, empty if it has none; None while the registry is not heard."""
        self._log, self._queue, self._why, self._settings, self._clock = log, queue, why, settings, clock
        self._alone = Alone()

    async def end(self, candidates: Sequence[Candidate], elsewhere: Sequence[Candidate] = ()) -> None:
        """End those whose time is over; ``candidates`` are the operators that are attached here, others are ``elsewhere``.

        Several dispatchers may come to this at once: the first one ends the job, the others find it ended.
        """
        now, most = self._clock.now(), timedelta(seconds=self._settings.unroutable_seconds)
        if not most:
            return
        for kind, since in self._alone.look(self._queue.kinds(), [*candidates, *elsewhere], now).items():
            reason = self._why(kind.model)
            if reason is None:  # who is attached says little then, and what it would be counted from even less
                self._alone.forget()
                return
            if now - since < most:
                continue
            for wanted in list(islice(self._queue.of(kind), BATCH)):
                if now - wanted.created < most:
                    continue
                error = ModelUnavailable(wanted.model, reason or explain(wanted, candidates))
                log.info("jobs/%s ends: %s", wanted.job_id, error)
                at = At(now, self._settings.node)
                await self._log.change(wanted.job_id, lambda view, at=at, error=error: jobs.abandon(view, at, error=error))
