"""Which limits hold for a project: its own where the administrator set some, else the dispatcher's settings."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from aos.dispatcher.quotas import Limits, OwnLimits, limits_of
from aos.dispatcher.settings import DispatcherSettings
from aos.dispatcher.store import ProjectStore

REMEMBERED: Final = 1024
"""Most projects whose limits are known without asking the store."""


class ProjectLimits:
    """Knows the projects' limits. One dispatcher has one."""

    def __init__(self, store: ProjectStore, settings: DispatcherSettings) -> None:
        self._store, self._settings = store, settings
        self._known: OrderedDict[str, Limits] = OrderedDict()
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

    def forget(self, project: str) -> None:
        """Ask the store again: the limits of ``projects/…`` were changed."""
        self._changes += 1
        self._known.pop(project, None)
