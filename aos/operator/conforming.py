"""Checks a model server against the model interface, beside its work: what it can do, and whether it lacks what is essential."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import httpx

from aos.clock import Clock
from aos.conformance.asking import IMAGE, IMAGE_EDIT, TEXT, Place, check, root
from aos.conformance.findings import Finding, Report, Verdict
from aos.operator.upstream_group import Member
from aos.operator.upstream_pictures import PictureServer
from aos.operator.upstream_settings import UpstreamSettings

ESSENTIAL: Final = {TEXT: "chat.stream", IMAGE: "images", IMAGE_EDIT: "image-edits.form"}
"""The line of a report, by the interface's type, without which no caller gets anything of a server: what answers are asked by."""
SIDE: Final = 512
"""Sides of the picture that is asked for: there are servers that make no smaller ones."""
CHECKS: Final = 4
"""Most checks of one operator at once."""
TRIES: Final = 2
"""A line counts as failed when it fails so often in a row: a busy server refuses now and then."""

log = logging.getLogger(__name__)


class Conforming:
    """Keeps what a member's check found. ``run`` checks it once it is healthy, and again whenever it was down.

    One that lacks something essential is checked again every ``check_seconds``; any other at most every ``canary_seconds``.
    """

    def __init__(
        self,
        member: Member,
        client: httpx.AsyncClient,
        *,
        settings: UpstreamSettings,
        clock: Clock,
        turn: asyncio.Semaphore,
        changed: Callable[[], None],
    ) -> None:
        """``turn`` lets at most so many check at once; ``changed`` is called, on the loop, when something else was found."""
        self._member, self._client, self._settings, self._clock = member, client, settings, clock
        self._turn, self._changed = turn, changed
        self._news = asyncio.Event()

    def stir(self) -> None:
        """Note that the server's health has changed."""
        self._news.set()

    async def run(self) -> None:
        """Check the server whenever it is time, until cancelled. One whose address is nobody's but its own cannot be checked."""
        place = place_of(self._member)
        if place is None:
            return
        while True:
            await self._until(self._usable)
            begun = self._clock.now()
            try:
                await self._check(place)
            except Exception:  # a bug: the server is used as it was
                log.exception("checking the model server of %s failed", self._member.upstream.model)
            lacking, settings = self._member.lacking, self._settings
            await self._until(lambda: not self._usable(), settings.check_seconds if lacking else None)
            # a server that comes and goes is not asked for a picture each time
            left = settings.canary_seconds - (self._clock.now() - begun).total_seconds()
            if not lacking and left > 0:
                await self._clock.sleep(left)

    def _usable(self) -> bool:
        return self._member.prober.health.usable

    async def _check(self, place: Place) -> None:
        member, answers = self._member, self._member.prober.answers
        server = member.upstream
        kind = TEXT if not isinstance(server, PictureServer) else IMAGE_EDIT if server.edits else IMAGE
        report, lacking = None, ""
        for _ in range(TRIES):
            async with self._turn:
                report = await check(self._client, place, model=server.model, kind=kind, side=SIDE)
            lacking = lacks(report, kind)
            if not lacking or not self._usable():
                break
        if report is None or not self._usable():  # it went away meanwhile: its probes say so
            return
        if lacking and member.prober.answers > answers:  # callers get answers: it was only busy
            lacking = ""
        before = member.lacking, member.found
        member.lacking, member.found = lacking, report.capabilities
        if lacking and lacking != before[0]:
            log.warning("the model server of %s is not used: %s", server.model, lacking)
        if before != (member.lacking, member.found):
            self._changed()

    async def _until(self, good: Callable[[], bool], seconds: float | None = None) -> None:
        """Wait until it is so, or the time is over."""
        sleeping = None if seconds is None else asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            while not good() and not (sleeping is not None and sleeping.done()):
                self._news.clear()
                stirred = asyncio.ensure_future(self._news.wait())
                try:
                    await asyncio.wait(
                        [stirred, *([sleeping] if sleeping is not None else [])], return_when=asyncio.FIRST_COMPLETED
                    )
                finally:
                    stirred.cancel()
        finally:
            if sleeping is not None:
                sleeping.cancel()


def lacks(report: Report, kind: int) -> str:
    """Return the essential line that did not pass, and what was found there; empty if it did."""
    line = ESSENTIAL[kind]
    found = next((one for one in report.findings if one.line == line), Finding(line, Verdict.SKIP, "it was not asked"))
    return "" if found.verdict is Verdict.PASS else f"its check failed: {line}: {found.said}"


def place_of(member: Member) -> Place | None:
    """Return where the server is asked, at its one address; None if nothing is known of what is beside its own URL."""
    server = member.upstream
    path = server.target.path
    if not server.listed or "?" in path:
        return None
    return Place(root(server.target.at(server.address)), {"host": server.target.authority}, {"sni_hostname": server.target.host})
