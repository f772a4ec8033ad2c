"""Keeps looking at one model server: whether it is there, and now and then whether it answers a short prompt."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aos.clock import Clock
from aos.errors import AosError, QueueFull
from aos.operator.upstream_health import Health, Probe, Probed, failed, looked, opened, served, tried, untold
from aos.operator.upstream_server import Fault, Server, TookTooLong
from aos.operator.upstream_settings import UpstreamSettings

log = logging.getLogger(__name__)

UNFORESEEN: Final = "looking at it failed in a way that nobody foresaw"


class Prober:
    """Knows how a server is. ``run`` looks at it; whoever calls it says what came of that."""

    def __init__(
        self,
        upstream: Server,
        *,
        settings: UpstreamSettings,
        clock: Clock,
        random: Callable[[], float],
        changed: Callable[[], None],
        probed: Probed = untold,
    ) -> None:
        """``random`` gives numbers in [0, 1); ``changed`` is called, on the loop, whenever its state or reason changes.

        ``probed`` is told of each look.
        """
        self._probed = probed
        self._upstream, self._settings, self._clock = upstream, settings, clock
        self._random, self._changed = random, changed
        self._now = asyncio.Event()
        self.health: Health = opened(clock.now())
        self.answers = 0
        """How many whole answers it has given."""

    async def run(self) -> None:
        """Look at the server whenever it is time, or an answer failed, until cancelled."""
        while True:
            self._now.clear()
            await self._look()
            await self._sleep((self.health.next_probe - self._clock.now()).total_seconds())

    def served(self) -> None:
        """Note that it gave a whole answer."""
        self.answers += 1
        self._be(served(self.health))

    def failed(self, fault: Fault) -> None:
        """Note that an answer failed by its fault. It is looked at now, not later."""
        self._be(failed(self.health, fault.problem, self._settings, gone=fault.gone))
        if self.health.usable:
            self._now.set()

    async def _look(self) -> None:
        problem, busy = "", False
        try:
            await self._upstream.look()
        except Fault as fault:
            problem, busy = fault.problem, isinstance(fault, TookTooLong)
        except Exception:  # a bug: this server is not used, the operator stays
            log.exception("looking at the model server of %s failed", self._upstream.model)
            problem = UNFORESEEN
        self._probed(self._upstream.model, Probe.LOOK, not problem)
        before = self.health
        after = looked(before, problem, self._clock.now(), self._settings, busy=busy, chance=self._random())
        if problem or not after.wants_canary(self._clock.now()):
            self._be(after)
            return
        if after.usable:  # it goes on being used meanwhile
            self._be(after)
        problem = await self._try()
        self._probed(self._upstream.model, Probe.CANARY, not problem)
        again = self.health if after.usable else after
        self._be(tried(again, problem, self._clock.now(), self._settings))

    async def _try(self) -> str:
        try:
            await self._upstream.try_out()
        except QueueFull:  # so busy that it is certainly there
            return ""
        except AosError as error:
            return error.problem if isinstance(error, Fault) else error.message
        except Exception:
            log.exception("trying out the model server of %s failed", self._upstream.model)
            return UNFORESEEN
        return ""

    def _be(self, health: Health) -> None:
        before, self.health = self.health, health
        if (before.state, before.reason) != (health.state, health.reason):
            said = f"{health.state.value}: {health.reason}" if health.reason else health.state.value
            log.info("the model server of %s is %s", self._upstream.model, said)
            self._changed()

    async def _sleep(self, seconds: float) -> None:
        """Wait until it is time, or an answer failed."""
        waits = [asyncio.ensure_future(self._clock.sleep(seconds)), asyncio.ensure_future(self._now.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
