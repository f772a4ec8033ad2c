"""The money of jobs: held before a job is accepted, settled once it has ended, and nothing forgotten in between.

Where jobs and money are in one database, a job comes with its hold, or not at all, and is marked with its payment. What that way
does not do (it names no reasons) is asked of the broker as everywhere else:

The job's row is written before the broker is asked, and marked after the broker answered. So whatever a crash cuts off is found
again: a PENDING row is a hold that may be there and that nobody waits for; a job that has ended and is still HELD is a hold to
settle. The broker takes both questions twice without harm, so several dispatchers of one database may settle the same hold. A hold
that may be there is released by one of them: the one that took the job in, or, when that is gone, the one that claims it first.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final

from aos.clock import Clock
from aos.dispatcher import jobs
from aos.dispatcher.admission import Record
from aos.dispatcher.jobs import At, Job, Money
from aos.dispatcher.log import EventLog
from aos.dispatcher.nodes import Nodes
from aos.dispatcher.peers import ask, refused
from aos.dispatcher.settings import DispatcherSettings
from aos.dispatcher.store import PaidJobStore, Row
from aos.dispatcher.taking_in import release, taken_in_by
from aos.errors import AosError, BadReceipt, BadSignature, HoldNotFound, HoldSettled, JobNotFound
from aos.v1 import broker_pb2_grpc
from aos.v1.broker_pb2 import HoldState, ReserveRequest, SettleRequest
from aos.v1.dispatcher_pb2 import Outcome
from aos.v1.receipt_pb2 import Receipt

BATCH: Final = 64
"""Most holds that are settled at once."""
FRESH: Final = 1024
"""Most jobs that wait in memory to be settled; more are found in the store."""
SUB_ACCOUNT: Final = "inference"
"""The service of the sub-accounts that pay for jobs."""

log = logging.getLogger(__name__)


class HoldGone(Exception):
    """The hold was released in the meantime: the submission has to begin anew."""


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    """Who has it or waits for it; the last one clears up."""


class Holds:
    """Asks the broker. One dispatcher has one."""

    def __init__(
        self,
        log: EventLog,
        broker: broker_pb2_grpc.BrokerAsyncStub,
        *,
        nodes: Nodes,
        settings: DispatcherSettings,
        clock: Clock,
        beside: PaidJobStore | None = None,
    ) -> None:
        """``beside`` is the jobs' store, if it has their money, too."""
        self._log, self._broker, self._nodes, self._settings, self._clock = log, broker, nodes, settings, clock
        self._beside = beside
        self._busy: dict[str, _Turn] = {}
        self._fresh = deque[tuple[Job, Receipt | None]]()
        """Jobs that have ended here since."""
        self._look = True
        """Whether the store may know of more."""
        self._ended = asyncio.Event()

    @asynccontextmanager
    async def alone(self, key: str) -> AsyncGenerator[None]:
        """Let one submission, or its clean-up, go on at a time."""
        turn = self._busy.setdefault(key, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._busy[key]

    async def accept(self, job: Job) -> Row:
        """Hold the job's money, then accept it.

        Raises what the broker refuses with, the job forgotten; ServiceUnavailable if nobody knows whether the money is held, the
        job then PENDING; HoldGone if the hold has ended.
        """
        try:
            held = await ask("broker", self._broker.Reserve(reservation(job), timeout=self._settings.rpc_seconds))
        except AosError as error:
            if refused(error):
                await self._log.store.forget(job.id)
            raise
        if held.state != HoldState.HOLD_STATE_HELD:
            await self._log.store.forget(job.id)
            raise HoldGone
        at = At(self._clock.now(), self._settings.node)
        try:
            return await self._log.accept(job.id, lambda view: jobs.accept(view, at))
        except JobNotFound as error:  # a retry with another dispatcher was refused, and forgot it
            await self._end(job, None)
            raise HoldGone from error

    def ended(self, job: Job, outcome: Outcome) -> None:
        """Say that a job has ended, and how."""
        if len(self._fresh) < FRESH:
            self._fresh.append((job, _receipt(outcome)))
        else:
            self._look = True
        self._ended.set()

    async def settle_forever(self) -> None:
        """Settle as jobs end."""
        while True:
            await self._ended.wait()
            self._ended.clear()
            if not await self._settle_all():
                self._look = True
                await self._clock.sleep(self._settings.reconcile_seconds)
                self._ended.set()

    async def reconcile_forever(self) -> None:
        """Finish what a crash or an unreachable broker left, now and again and again."""
        while True:
            try:
                await self._release_pending()
            except Exception:
                log.exception("could not look for submissions that were cut off")
            self._look = True
            self._ended.set()
            await self._clock.sleep(self._settings.reconcile_seconds)

    async def _settle_all(self) -> bool:
        """Settle all jobs that have ended. False if some have to be tried again."""
        try:
            while some := await self._some():
                left = [one for one, paid in zip(some, await self._paid(some), strict=True) if not paid]
                if not left:
                    continue
                done = await asyncio.gather(*(self._settle(job, receipt) for job, receipt in left))
                # forgotten with the power, it is asked again, and the broker answers the same
                await self._log.store.settled([job.id for (job, _), good in zip(left, done, strict=True) if good])
                if not all(done):
                    return False
        except Exception:
            log.exception("could not settle")
            return False
        return True

    async def _paid(self, some: Sequence[tuple[Job, Receipt | None]]) -> Sequence[bool]:
        """Settle jobs whose money is beside them; say which are settled."""
        if self._beside is not None:
            try:
                return await self._beside.pay(some)
            except Exception:
                log.exception("could not settle %d jobs together, will settle each alone", len(some))
        return [False] * len(some)

    async def _some(self) -> Sequence[tuple[Job, Receipt | None]]:
        """Return jobs to settle: those that ended here, else what the store has of others."""
        if self._fresh:
            return [self._fresh.popleft() for _ in range(min(len(self._fresh), BATCH))]
        if not self._look:
            return []
        rows = await self._log.store.unsettled(limit=BATCH)
        self._look = bool(rows)
        return [(row.job, _receipt(row.outcome)) for row in rows]

    async def _settle(self, job: Job, receipt: Receipt | None) -> bool:
        try:
            await self._end(job, receipt)
        except AosError as error:
            log.warning("could not settle %s, will try again: %s", job.name, error)
            return False
        return True

    async def _end(self, job: Job, receipt: Receipt | None) -> None:
        request = SettleRequest(hold=hold(job), receipt=receipt)
        try:
            await ask("broker", self._broker.Settle(request, timeout=self._settings.rpc_seconds))
        except (BadReceipt, BadSignature):
            if receipt is None:
                raise
            # it was checked before it was kept, so this is a defect; the project's money is not kept for it
            log.exception("the broker refuses the receipt of %s; its hold is released", job.name)
            await self._end(job, None)
        except (HoldNotFound, HoldSettled) as error:
            if job.money is not Money.PENDING:
                log.error("%s: %s", job.name, error)  # noqa: TRY400  # what the broker says is all there is to know

    async def _release_pending(self) -> None:
        if self._nodes.replaced:  # what has this name is another dispatcher's
            return
        for record in await self._log.store.pending(limit=BATCH):
            job = record.job
            # a Reserve that timed out may still be on its way; releasing before it arrives would leave its hold for good
            on_its_way = self._clock.now() - job.created < timedelta(seconds=2 * self._settings.rpc_seconds)
            key = lock_key(record)
            if on_its_way or key in self._busy or not self._ours(job):
                continue
            async with self.alone(key):
                # a retry may have accepted it since the list was made, or may be about to with another dispatcher
                if not await self._claimed(job):
                    continue
                try:
                    await self._end(job, None)
                except AosError as error:
                    log.warning("could not release the hold of %s, will try again: %s", job.name, error)
                    if refused(error):
                        continue
                    return
                await self._log.store.forget(job.id)

    def _ours(self, job: Job) -> bool:
        """Say whether to release the job's hold is this dispatcher's part: it took the job in, or the one that did is gone."""
        node = taken_in_by(job)
        return node == self._nodes.node or node not in self._nodes.others

    async def _claimed(self, job: Job) -> bool:
        """Claim the release of the job's hold; False if another has it, or the job was accepted or is gone."""
        decide = partial(release, node=self._nodes.node, held_by=job.node)
        try:
            return await self._log.store.change(job.id, decide) is not None
        except JobNotFound:
            return False


def _receipt(outcome: Outcome | None) -> Receipt | None:
    return outcome.receipt if outcome is not None and outcome.HasField("receipt") else None


def lock_key(record: Record) -> str:
    """Return what submissions of the same request have in common."""
    request_id = record.submission.request_id
    return f"{record.job.project}\n{request_id}" if request_id else record.job.id


def hold(job: Job) -> str:
    return f"holds/{job.id}"


def reservation(job: Job) -> ReserveRequest:
    """Return what the broker is asked for the job."""
    return ReserveRequest(
        hold=hold(job),
        account=account(job.project),
        amount=str(job.amount),
        service=SUB_ACCOUNT if job.provider else "",
        provider=job.provider,
    )


def account(project: str) -> str:
    return f"accounts/{project.removeprefix('projects/')}"
