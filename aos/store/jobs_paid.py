"""Jobs beside their money, in one SQLite file: a job and its hold come in one transaction, and its payment and its mark, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from aos.broker.store import HoldDecisions, Reserving, Settling
from aos.dispatcher import news
from aos.dispatcher.admission import Load, Record
from aos.dispatcher.jobs import Job, Money, Move, State, View
from aos.dispatcher.output import Output
from aos.dispatcher.quotas import Tokens, day
from aos.dispatcher.risk import RiskSettings
from aos.dispatcher.store import Asking, Row, TakenIn
from aos.errors import AosError
from aos.store import checks, job_keeping, job_kept
from aos.store.broker_holds import Reservations, settle_all
from aos.store.job_rows import write_event, write_job, write_submission
from aos.store.jobs import SqlJobStore, find_record
from aos.store.reading import among, insert_all
from aos.store.sql import Transaction
from aos.store.sqlite import SqliteFile
from aos.v1.receipt_pb2 import Receipt

# by their ids, whatever index there is of all that wait to be settled
_SETTLED: Final = f"""UPDATE jobs SET money = {int(Money.SETTLED)} WHERE id {{among}}
    AND +money = {int(Money.HELD)} AND +state >= {int(State.COMPLETED)} RETURNING project"""  # noqa: S608  # numbers
_EVENTS: Final = "job_events (number, sequence, state, chunk)"

CHECKED: Final = 4
"""So many receipts are checked at a stretch, less than a millisecond's worth; then others on the loop have their turn."""

Asked = tuple[Asking, Reserving]


class SqlPaidJobStore(SqlJobStore):
    """Satisfies PaidJobStore, too. The database must have the broker's tables as well; ``decisions`` are the broker's."""

    def __init__(
        self,
        database: SqliteFile,
        decisions: HoldDecisions,
        *,
        node: str,
        risk: RiskSettings | None = None,
        alone: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(database, node=node, risk=risk, alone=alone)
        self._decisions = decisions

    async def take(self, asked: Sequence[Asking]) -> Sequence[TakenIn]:
        """Take jobs in, one behind the other; of one that is refused nothing is kept. What this raises undoes all of them."""
        if len(asked) > 1 and any(one.hold.provider for one in asked):  # decided upon rows that the one before has written
            return [(await self.take([one]))[0] for one in asked]
        read = [self._read(one) for one in asked]
        able = [one for one in read if not isinstance(one, AosError)]
        taken = iter(await self._database.transact(lambda tx: self._take(tx, able)) if able else ())
        return [one if isinstance(one, AosError) else next(taken) for one in read]

    def _read(self, asked: Asking) -> Asked | AosError:
        try:
            return asked, self._decisions.reserving(asked.hold)
        except AosError as error:
            return error

    def _take(self, tx: Transaction, asked: Sequence[Asked]) -> list[TakenIn]:
        found: list[TakenIn | None] = []
        new: list[tuple[Record, Move]] = []
        made: dict[tuple[str, str], Record] = {}
        loads, holds = _Loads(tx), Reservations(tx, (reserving.account for _, reserving in asked))
        count = self._clock.count(tx)
        for one, reserving in asked:
            request = one.record.job.project, one.record.submission.request_id
            existing = made.get(request) or find_record(tx, *request)
            try:
                kept = one.admit(existing, loads.of(one.record.job))
                if existing is not None:
                    found.append(existing.job)
                    continue
                # last, because nobody takes it back
                holds.add(reserving)
            except AosError as error:
                found.append(error)
                continue
            move = one.accept(View(kept.job, count + len(new), _nothing, lambda: self._clock.known(tx)))
            if move is None:
                raise ValueError(f"{kept.job.name} is new, and not to be accepted")
            loads.add(kept.job)
            new.append((kept, move))
            found.append(None)
            if request[1]:
                made[request] = replace(kept, job=move.job)
        holds.write()
        rows = iter(self._keep(tx, new) if new else ())
        return [next(rows) if one is None else one for one in found]

    def _keep(self, tx: Transaction, new: Sequence[tuple[Record, Move]]) -> list[Row]:
        written = [{**write_job(move.job), "request_id": record.submission.request_id or None} for record, move in new]
        numbers = {name: number for number, name in _insert(tx, "jobs", written, " RETURNING number, id")}
        placed = [(numbers[move.job.id], record, move) for record, move in new]
        _insert(tx, "job_requests", [{"number": number, **write_submission(one.submission)} for number, one, _ in placed])
        events = [
            [number, sequence, *write_event(event).values()]
            for number, _, move in placed
            for sequence, event in enumerate(move.events, 1)
        ]
        insert_all(tx, _EVENTS, events)
        risks = checks.accepted(tx, [(number, record) for number, record, _ in placed], self._risk)
        self._clock.ticked(tx, new[-1][1].job.clock)
        if not self._alone():
            for _, _, move in placed:
                tx.notify(news.CHANNEL, news.moved(self._node, move.job.id, move.job.state, len(move.events)))
        return [
            Row(number, move.job, record.submission, None, risk) for (number, record, move), risk in zip(placed, risks, strict=True)
        ]

    async def pay(self, ended: Sequence[tuple[Job, Receipt | None]]) -> Sequence[bool]:
        """Settle jobs that have ended, by their receipts, and note it; say which are. What this raises undoes all of them."""
        able: list[tuple[str, Settling]] = []
        for at, (job, receipt) in enumerate(ended):
            if at % CHECKED == 0:
                await asyncio.sleep(0)
            try:
                able.append((job.id, self._decisions.settling(f"holds/{job.id}", receipt)))
            except AosError:  # the broker says what it is
                continue

        def work(tx: Transaction) -> set[str]:
            done = settle_all(tx, [one for _, one in able])
            settled = [job_id for (job_id, _), good in zip(able, done, strict=True) if good]
            are, values = among(tx, settled)
            projects = tx.execute(_SETTLED.format(among=are), [values]).fetchall()
            job_kept.came(tx, [project for (project,) in projects])
            return set(settled)

        settled: set[str] = await self._database.transact(work, durable=False) if able else set()
        return [job.id in settled for job, _ in ended]


class _Loads:
    """What projects have in the works, those that this transaction has taken in included."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._read: dict[tuple[str, int], Load] = {}
        self._more: dict[str, tuple[int, int]] = {}
        self._taken = 0

    def of(self, job: Job) -> Load:
        """Return the load that a job finds."""
        key = job.project, day(job.created)
        if key not in self._read:
            self._read[key] = job_keeping.load(self._tx, job.project, job.created)
        read, (jobs, tokens) = self._read[key], self._more.get(job.project, (0, 0))
        return Load(read.project + jobs, read.everywhere + self._taken, Tokens(read.tokens.used, read.tokens.promised + tokens))

    def add(self, job: Job) -> None:
        """Count a job in that is not written yet."""
        jobs, tokens = self._more.get(job.project, (0, 0))
        self._more[job.project] = jobs + 1, tokens + job.prompt_bound + job.completion_bound
        self._taken += 1


def _insert(tx: Transaction, table: str, rows: Sequence[dict[str, Any]], behind: str = "") -> list[Any]:
    names = ", ".join(f'"{name}"' for name in rows[0])
    return insert_all(tx, f"{table} ({names})", [list(row.values()) for row in rows], behind)


def _nothing() -> Output:
    return Output("", [])
