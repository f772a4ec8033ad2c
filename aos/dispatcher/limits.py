"""Which limits hold for a project: its own where the administrator set some, else the dispatcher's settings."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from aos.clock import Clock
from aos.dispatcher.quotas import Limits, OwnLimits, limits_of
from aos.dispatcher.settings import DispatcherSettings
from aos.dispatcher.store import ProjectStore

REMEMBERED: Final = 1024
"""Most projects whose limits are known without asking the store."""
REFRESH_SECONDS: Final = 5.0
"""How soon limits hold that another dispatcher of the database set and that were not heard of."""

log = logging.getLogger(__name__)


class ProjectLimits:
    """Knows the projects' limits. One dispatcher has one."""

    def __init__(self, store: ProjectStore, settings: DispatcherSettings, changed: Callable[[str], None]) -> None:
        """``changed`` is called with each project that has other limits."""
        self._store, self._settings, self._changed = store, settings, changed
        self._known: OrderedDict[str, Limits] = OrderedDict()
        self._weights: dict[str, int] = {}
        self._changes = 0

    async def of(self, project: str) -> Limits:
        """Return what holds for ``projects/…``."""
        if known := self._known.get(project):
            self._known.move_to_end(project)
            return known
        changes = self._changes
        limits = self.with_own(await self._store.limits(project.removeprefix("projects/")))
        # an answer that a change has overtaken is good for this request, which came before it, and for no other
        if changes == self._changes:
            self._known[project] = limits
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return limits

    def with_own(self, own: OwnLimits) -> Limits:
        """Return what holds for a project with these of its own."""
        return limits_of(own, self._settings)

    def forget_all(self) -> None:
        """Ask the store again for every project's: others may have been changed, unheard."""
        self._changes += 1
        self._known.clear()

    def weight(self, project: str) -> int:
        """Return what ``projects/…`` weighs when projects share what operators do, as far as is known."""
        return self._weights.get(project, self._settings.project_weight)

    def set(self, project: str, own: OwnLimits) -> None:
        """Let these hold from now on: they are in the store as the own ones of ``projects/…``."""
        self._changes += 1
        self._known.pop(project, None)
        self._weights.pop(project, None)
        if own.weight is not None:
            self._weights[project] = own.weight
        self._changed(project)

    async def learn(self, project: str) -> None:
        """Let those hold that were set elsewhere for ``projects/…``. Raises ServiceUnavailable."""
        self.set(project, await self._store.limits(project.removeprefix("projects/")))

    async def refresh(self) -> None:
        """Learn what was set elsewhere."""
        changes, weights = self._changes, dict(await self._store.weights())
        if changes == self._changes:
            self._known.clear()
            self._weights = weights

    async def refresh_forever(self, clock: Clock) -> None:
        """Learn again and again what was set elsewhere."""
        while True:
            await clock.sleep(REFRESH_SECONDS)
            try:
                await self.refresh()
            except Exception:
                log.exception("could not read the projects' weights, will try again")
