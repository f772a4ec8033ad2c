"""Which dispatchers use the database now: each says again and again that it is there, and one that is silent is given up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from aos.clock import Clock
from aos.dispatcher.node_store import NodeStore
from aos.dispatcher.presence import NodeRow
from aos.dispatcher.settings import DispatcherSettings
from aos.settings import StartError

log = logging.getLogger(__name__)


class Silence:
    """Counts how often in a row each dispatcher was looked at and had said nothing new.

    Looks are counted, not time: clocks of machines need not agree, and one that stood still takes nobody else for silent.
    """

    def __init__(self, most: int) -> None:
        """``most`` looks without a word are silence."""
        self._most = most
        self._quiet: dict[str, tuple[NodeRow, int]] = {}

    def look(self, rows: Iterable[NodeRow]) -> list[NodeRow]:
        """Return those that are silent, as of this look."""
        before, self._quiet = self._quiet, {}
        for row in rows:
            last, looks = before.get(row.node, (None, 0))
            self._quiet[row.node] = (row, looks + 1 if last == row else 0)
        return [row for row, looks in self._quiet.values() if looks >= self._most]


class Nodes:
    """This dispatcher's name among those of the database, and who else is there."""

    def __init__(self, store: NodeStore, *, holder: str, settings: DispatcherSettings, clock: Clock) -> None:
        """``holder`` is another for each start."""
        self._store, self._settings, self._clock = store, settings, clock
        self.node, self._holder = settings.node, holder
        self._silence = Silence(settings.node_missed)
        self._others: frozenset[str] = frozenset()
        self._missed = 0
        self.changed: Callable[[], None] = lambda: None
        """Called when another came or went."""
        self.lost: Callable[[], None] = lambda: None
        """Called when this one is given up by the others, for all that it knows, or by another of its name."""
        self.replaced = False
        """Whether another one has its name."""
        self._stopped = False

    @property
    def others(self) -> frozenset[str]:
        """The names of the others that are there."""
        return self._others

    @property
    def alone(self) -> bool:
        """Whether nobody else is there, as far as is known."""
        return not self._others

    @property
    def cut_off(self) -> bool:
        """Whether the database was out of reach for so long that others have taken this one for gone."""
        return self.replaced or self._missed >= self._settings.node_missed

    async def start(self) -> None:
        """Take the name. One that another process had is waited for until it is silent. Raises StartError if it is not."""
        row = await self._store.held(self.node)
        if row is not None:
            log.warning("the name %r was in use; waiting whether its dispatcher is still there", self.node)
            for _ in range(self._settings.node_missed):
                await self._clock.sleep(self._settings.node_seconds)
                now = await self._store.held(self.node)
                if now is None:
                    break
                if now != row:
                    raise _taken(self.node)
        if not await self._store.claim(self.node, self._holder, instead_of=row):
            raise _taken(self.node)
        self._take(await self._store.nodes())

    async def beat_forever(self) -> None:
        """Say that this one is there, and look who else is."""
        beating: asyncio.Task[None] | None = None
        try:
            while not self.replaced:
                if beating is None:
                    await self._clock.sleep(self._settings.node_seconds)
                    beating = asyncio.create_task(self.beat())
                # real time: what is waited for is the network, and who does not get through must know it when the others do
                await asyncio.wait([beating], timeout=self._settings.node_seconds)
                if not beating.done():
                    self._miss("it takes too long")
                    continue
                error, beating = beating.exception(), None
                if error is not None:
                    self._miss(error)
        finally:
            if beating is not None:
                beating.cancel()
                await asyncio.gather(beating, return_exceptions=True)

    def _miss(self, why: object) -> None:
        self._missed += 1
        log.warning("the database does not answer dispatcher %r: %s", self.node, why)
        if self._missed == self._settings.node_missed and not self.alone:
            log.warning("dispatcher %r is taken for gone by now; its operators and watchers are sent away", self.node)
            self.lost()

    async def beat(self) -> None:
        """Do so once. Raises ServiceUnavailable."""
        if self._stopped:
            return
        if not await self._store.beat(self.node, self._holder):
            log.error("another dispatcher took the name %r; this one stops: give each its own", self.node)
            self.replaced = True
            self.lost()
            return
        back, self._missed = self.cut_off, 0
        rows = await self._store.nodes()
        for row in self._silence.look(row for row in rows if row.node != self.node):
            if await self._store.give_up(row):
                log.warning("dispatcher %r is silent; others take over what it had", row.node)
                rows = [one for one in rows if one != row]
        if self._take(rows) or back:
            self.changed()

    async def refresh(self) -> None:
        """Look who is there, without taking anybody for silent. Raises ServiceUnavailable."""
        self._take(await self._store.nodes())

    def _take(self, rows: Sequence[NodeRow]) -> bool:
        before, self._others = self._others, frozenset(row.node for row in rows if row.node != self.node)
        return before != self._others

    async def stop(self) -> None:
        """Leave. What one has is the others' from now on. Idempotent."""
        if self._stopped:
            return
        self._stopped = True
        try:
            await self._store.release(self.node, self._holder)
        except Exception as error:
            log.warning("could not say that dispatcher %r leaves: others will find out: %s", self.node, error)


def _taken(node: str) -> StartError:
    return StartError(f"another dispatcher of this database runs under the name {node!r}; give each its own (setting node)")
