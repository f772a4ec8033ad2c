"""Checking answers: operators are drawn, run the job again, and what they say is compared with what the caller was told.

One dispatcher of a database does a check, with the operators that are attached to it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count

from aos.clock import Clock, within
from aos.dispatcher import jobs
from aos.dispatcher.answers import traced
from aos.dispatcher.attached import Elsewhere, suits
from aos.dispatcher.checks import (
    REVIEWERS,
    CheckKey,
    check_claim,
    conclude,
    draw_for,
    epoch_of,
    failed_review,
    false_claim_evidence,
    result_of,
    sent_tag,
)
from aos.dispatcher.files import Files
from aos.dispatcher.heard import MESSAGE_CHARS, Heard
from aos.dispatcher.jobs import Job
from aos.dispatcher.leases import AGAIN_SECONDS
from aos.dispatcher.lottery import Evidence, Ticket, sampled
from aos.dispatcher.node_store import NodeStore
from aos.dispatcher.proving import prove
from aos.dispatcher.reviewing import Case, ReviewRun
from aos.dispatcher.sessions import Session
from aos.dispatcher.settings import DispatcherSettings
from aos.dispatcher.store import CheckStore, JobStore, Row
from aos.dispatcher.verdict import appeal
from aos.errors import AosError, BadReceipt, BadSignature, InvalidField, JobNotFound, OperatorLost
from aos.order import cost, draws
from aos.v1.dispatcher_pb2 import DrawAsked, DrawClaimed, JobResult
from aos.v1.types_pb2 import VectorClock
from aos.verification.attribution import check_result
from aos.verification.receipts import check_signature
from aos.verification.results import read_draw, said_of_claim

log = logging.getLogger(__name__)

Asked = asyncio.Future[DrawClaimed]


@dataclass(frozen=True, slots=True)
class Passed:
    """A check that is left to another dispatcher."""

    since: datetime
    until: datetime
    """When to look again."""


class Reviews:
    """Runs the checks that the store has, some at a time. Holds nothing that the store does not know."""

    def __init__(
        self,
        store: JobStore,
        checks: CheckStore,
        sessions: Mapping[str, Session],
        *,
        nodes: NodeStore,
        elsewhere: Elsewhere,
        files: Files,
        settings: DispatcherSettings,
        clock: Clock,
    ) -> None:
        """``sessions`` are the operators that are attached here, by address, as they come and go; others are ``elsewhere``.

        ``nodes`` keeps which dispatcher does which check.
        """
        self._nodes, self._elsewhere = nodes, elsewhere
        self._store, self._checks, self._sessions, self._settings, self._clock = store, checks, sessions, settings, clock
        self._files = files
        self.freed: Callable[[], None] = lambda: None
        """Called when an operator has a place again."""
        self._going: dict[CheckKey, asyncio.Task[None]] = {}
        self._passed: dict[CheckKey, Passed] = {}
        self._asked: dict[tuple[Session, str], Asked] = {}
        self._runs: dict[str, tuple[ReviewRun, Session]] = {}
        self._names = count(1)
        self._news = asyncio.Event()
        self._news.set()
        self._closed = False

    def possible(self, job: Job, *, exact: bool = False) -> bool:
        """Say whether anyone is there now, besides the operator that has or had the job, who could check it, exactly or not."""
        seconds = self._settings.epoch_seconds
        epoch = epoch_of(job.created, seconds)
        here = any(one.operator != job.operator and self._fits(one, job, epoch, exact=exact) for one in self._sessions.values())
        return here or self._elsewhere.can_check(job, epoch, seconds=seconds, exact=exact)

    def look(self) -> None:
        """Note that there may be something to check."""
        self._news.set()

    def claimed(self, session: Session, claimed: DrawClaimed) -> None:
        """Take what an operator says about a draw. What nobody asked it is ignored."""
        asked = self._asked.get((session, claimed.job.hex()))
        if asked is not None and not asked.done():
            asked.set_result(claimed)

    def hear(self, session: Session, lease: str, what: Heard, seen: Mapping[str, int]) -> None:
        """Take what an operator says about a check. What nobody asked it is ignored."""
        run, holder = self._runs.get(lease, (None, None))
        if run is not None and holder is session:
            run.hear(what, seen)

    def left(self, session: Session) -> None:
        """Expect nothing more of an operator."""
        for (holder, _), asked in list(self._asked.items()):
            if holder is session:
                asked.cancel()
        for run, holder in list(self._runs.values()):
            if holder is session:
                run.end()
        self._news.set()  # what it could have checked is concluded without it

    async def run_forever(self) -> None:
        """Check what there is to check. What an earlier run left waits until its operators can have attached again."""
        with suppress(Exception):  # if the store cannot be read now, the loop says so
            if await self._checks.ready(limit=1, beside=()):
                await self._clock.sleep(self._settings.draw_seconds)
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._begin()
            except Exception:
                log.exception("could not look for what is to be checked, will try again")
                await self._clock.sleep(AGAIN_SECONDS)
                self._news.set()

    async def _begin(self) -> None:
        free = self._settings.checks - len(self._going)
        if free <= 0 or self._closed:
            return
        busy, now = {key.job_id for key in self._going}, self._clock.now()
        long_ago = now - timedelta(seconds=self._settings.pass_seconds)
        self._passed = {key: one for key, one in self._passed.items() if one.until > long_ago}
        beside = {key for key, one in self._passed.items() if one.until > now}
        for key in await self._checks.ready(limit=free, beside=beside.union(self._going)):
            if key.job_id in busy or self._closed:  # one check of a job after the other; the end of each looks again
                continue
            busy.add(key.job_id)
            self._going[key] = asyncio.create_task(self._check(key))
            self._going[key].add_done_callback(lambda _, key=key: self._over(key))

    def _over(self, key: CheckKey) -> None:
        del self._going[key]
        self._news.set()

    async def _check(self, key: CheckKey) -> None:
        try:
            await self._checked(key)
        except JobNotFound:
            pass
        except Exception:
            log.exception("could not check %s, will try again", key.job_id)
            await self._clock.sleep(AGAIN_SECONDS)

    async def _checked(self, key: CheckKey) -> None:
        row = await self._store.get(key.job_id, project=None)
        if self._others_can(key, row) or not await self._nodes.take_check(key, self._settings.node):
            now = self._clock.now()
            since = self._passed[key].since if key in self._passed else now
            self._passed[key] = Passed(since, now + timedelta(seconds=self._settings.look_seconds))
            return
        try:
            await self._run(key, row)
        finally:
            await self._nodes.leave_check(key, self._settings.node)

    def _others_can(self, key: CheckKey, row: Row) -> bool:
        """Say whether to leave the check to the other dispatchers: nobody here can do it, and somebody there can, and may soon."""
        job, exact, seconds = row.job, row.risk.exact, self._settings.epoch_seconds
        epoch = epoch_of(job.created, seconds)
        if any(one.operator != job.operator and self._fits(one, job, epoch, exact=exact) for one in self._sessions.values()):
            return False
        passed = self._passed.get(key)
        patient = passed is None or self._clock.now() - passed.since < timedelta(seconds=self._settings.pass_seconds)
        return patient and self._elsewhere.can_check(job, epoch, seconds=seconds, exact=exact)

    async def _run(self, key: CheckKey, row: Row) -> None:
        # behind the claim: another dispatcher may just have concluded it
        width = await self._checks.width(key)
        if width is None:
            return
        job, order = row.job, row.submission.order
        seconds, suite = self._settings.epoch_seconds, self._settings.vrf_suite
        # in a thread: a prompt may have 1 MiB
        draw = await asyncio.to_thread(draw_for, job.id, order, job.created, width=width, epoch_seconds=seconds, suite=suite)
        case = Case(row, replace(row.risk, tag=key.tag, position=key.position), draw)
        before = {one.operator for one in await self._checks.results(job.id) if one.HasField("receipt")}
        tickets = await self._tickets(case, before)
        wanted = max(row.risk.redundancy, 1)
        drawn = sampled(tickets, read_draw(draw), least=min(max(0, wanted - len(before)), REVIEWERS), most=REVIEWERS)
        queue = deque(sampled(tickets, read_draw(draw), least=min(len(tickets), REVIEWERS), most=REVIEWERS))
        need = len(drawn)
        wanted = max(wanted, len(before) + need)
        while True:
            if need:
                await asyncio.gather(*(self._one(case, queue) for _ in range(need)))
            results = await self._checks.results(job.id)
            found = conclude(results, main=job.operator, exact=row.risk.exact, wanted=wanted, there=len(before) + len(tickets))
            if found.settled or not queue:
                break
            ran = len({one.operator for one in results if one.HasField("receipt")})
            need = min(len(queue), appeal(ran) - ran)
        await self._checks.conclude(key, found, now=self._clock.now())

    async def _tickets(self, case: Case, beside: Collection[str]) -> Sequence[Ticket]:
        """Return the tickets of the operators that can run the job and have not; false claims go on record."""
        job_id = case.row.job.id
        asked: dict[Session, Asked] = {}
        for session in self._sessions.values():
            if session.operator not in beside and self._fits(session, case.row.job, case.draw.epoch, exact=case.risk.exact):
                asked[session] = self._asked[session, job_id] = asyncio.get_running_loop().create_future()
                request_digest = case.row.job.request_digest
                session.ask(DrawAsked(draw=case.draw, request_digest=request_digest, tag=sent_tag(case.risk.tag)))
        if not asked:
            return []
        try:
            with suppress(TimeoutError):
                await within(self._clock, self._settings.draw_seconds, asyncio.wait(asked.values()))
        finally:
            for session in asked:
                del self._asked[session, job_id]
        found: list[Ticket] = []
        for session, one in asked.items():
            if one.done() and not one.cancelled() and (ticket := await self._ticket(case, session, one.result())):
                found.append(ticket)
        return found

    def _fits(self, session: Session, job: Job, epoch: int, *, exact: bool) -> bool:
        offer = session.offers.get(job.model)
        return (
            not (session.ended or session.leaving)
            and offer is not None
            and session.works(job.model)
            and suits(offer, job, session.vrf_key_since, epoch, seconds=self._settings.epoch_seconds, exact=exact)
        )

    async def _ticket(self, case: Case, session: Session, claimed: DrawClaimed) -> Ticket | None:
        try:
            # in a thread: a proof takes most of a millisecond
            found = await asyncio.to_thread(check_claim, claimed.vrf, session.operator, case.draw, session.vrf_key)
        except InvalidField as error:
            log.warning("operator %s claims what cannot be: %s", session.operator, error)
            return None
        if isinstance(found, Evidence):
            await self._accuse(case, session.operator, claimed, found)
            return None
        return found

    async def _accuse(self, case: Case, operator: str, claimed: DrawClaimed, found: Evidence) -> None:
        job, tag = case.row.job, case.risk.tag
        said = said_of_claim(
            operator,
            claimed.vrf,
            job=bytes.fromhex(job.id),
            request_digest=job.request_digest,
            tag=sent_tag(tag),
            clock=VectorClock(counts=claimed.clock.counts),
        )
        try:
            await asyncio.to_thread(check_result, said, claimed.signature)
            proves = True
        except BadSignature:
            proves = False
        log.warning("operator %s made a false claim about %s: %s", operator, job.name, found.what.value)
        message = JobResult(
            operator=operator,
            tag=sent_tag(tag),
            vrf=claimed.vrf,
            clock=claimed.clock,
            signature=claimed.signature,
            reason=said.reason,
        )
        evidence = false_claim_evidence(found, job=job.name, message=message, proves=proves)
        await self._checks.accuse(evidence, now=self._clock.now())

    async def _one(self, case: Case, queue: deque[Ticket]) -> None:
        """Let operators run the job, one after the other, until one has said something good."""
        while queue:
            operator = queue.popleft().operator
            session = self._sessions.get(operator)
            if session is None:
                continue
            try:
                result = await within(self._clock, self._settings.review_seconds, self._review(case, session))
            except (AosError, TimeoutError) as error:
                log.warning("operator %s did not check %s: %s", operator, case.row.job.name, error)
                failed = failed_review(operator, self._why(error), risk=case.risk, now=self._clock.now())
                await self._checks.keep(case.row.job.id, failed)
            else:
                await self._checks.keep(case.row.job.id, result)
                return

    def _why(self, error: AosError | TimeoutError) -> str:
        match error:
            case TimeoutError():
                return f"it took more than {self._settings.review_seconds:g} s."
            case OperatorLost():
                return "it left, or gave it up."
            case _:
                return error.message[:MESSAGE_CHARS]

    async def _review(self, case: Case, session: Session) -> JobResult:
        job, order = case.row.job, case.row.submission.order
        if not await session.slot(job.model):
            raise OperatorLost(job.name, 1)
        price = session.offers[job.model].price
        name = f"{job.id}/check-{next(self._names)}"
        run = ReviewRun(case, name, session.operator)
        self._runs[name] = (run, session)
        try:
            lease = case.lease(name, seconds=self._settings.review_seconds)
            if order.HasField("picture"):
                lease.order.CopyFrom(await self._files.filled(order, job.project))
            session.give(lease)
            finished, output = await run.answer()
        finally:
            del self._runs[name]
            session.free_slot(job.model)
            self.freed()
            if not run.said_last:
                session.cancel(name)
        receipt = finished.finish.receipt
        # in a thread: recovering a key takes milliseconds
        await asyncio.to_thread(check_signature, receipt)
        if isinstance(roots := await asyncio.to_thread(traced, finished.finish, embeds=not draws(order)), BadReceipt):
            raise roots
        proves, risk = (case.draw, session.vrf_key), case.risk
        await prove(
            finished, job, session.operator, proves=proves, risk=risk, began=run.began, checks=self._checks, clock=self._clock
        )
        most = cost(price, prompt_tokens=job.prompt_bound, completion_tokens=job.completion_bound)
        # in a thread: a run may have many steps
        check = partial(jobs.check_finish, operator=session.operator, price=price, amount=most)
        await asyncio.to_thread(check, job, finished.finish, output, order)
        return result_of(finished, output.text, risk=risk, now=self._clock.now(), roots=roots, review=True)

    async def close(self) -> None:
        """End what goes on; it is found again at the next start. Idempotent."""
        self._closed = True
        going = list(self._going.values())
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)
