"""Jobs and their logs."""

# ruff: noqa: S608  # the pieces of the statements are constants; values are always bound

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from aos.dispatcher import news
from aos.dispatcher.admission import Load, Record
from aos.dispatcher.jobs import Job, Money, State, View
from aos.dispatcher.listing import JobFilter
from aos.dispatcher.output import Output
from aos.dispatcher.risk import RiskSettings
from aos.dispatcher.store import Change, Decide, Leased, More, Row, Waiting
from aos.dispatcher.taking_in import RELEASE
from aos.errors import JobNotFound
from aos.store import checks, job_attestations, job_keeping, job_kept, job_pages, job_traces
from aos.store.job_rows import (
    ALL,
    ASKED,
    JOB,
    job_of,
    micros,
    read_event,
    read_job,
    read_outcome,
    read_output,
    read_record,
    read_submission,
    write_changes,
    write_event,
    write_job,
    write_submission,
)
from aos.store.node_clock import NodeClock
from aos.store.sql import Cursor, Dialect, SqlDatabase, Transaction
from aos.v1.attestation_pb2 import Attestation
from aos.v1.dispatcher_pb2 import JobEvent
from aos.v1.operator_pb2 import Trace
from aos.v1.types_pb2 import Order

CHANGES: Final = 256
"""Most statements that change a job which are kept as text: more than there are kinds of moves."""
EVENTS: Final = 8
"""Statements that add up to so many events are kept as text."""
_UNENDED: Final = f"state < {int(State.COMPLETED)}"
_ACCEPTED: Final = f"money > {int(Money.PENDING)}"
_PENDING: Final = f"money = {int(Money.PENDING)}"
_UNSETTLED: Final = f"money = {int(Money.HELD)} AND state >= {int(State.COMPLETED)}"


class SqlJobStore:
    """Satisfies JobStore. The database must have the tables of jobs; ``node`` is whose events it counts.

    Leases need not outlive a loss of power: a job whose lease is lost waits again. While the node is ``alone``, nobody is told what
    it keeps.
    """

    def __init__(
        self,
        database: SqlDatabase,
        *,
        node: str,
        risk: RiskSettings | None = None,
        alone: Callable[[], bool] = lambda: True,
    ) -> None:
        self._database, self._node, self._risk, self._alone = database, node, risk or RiskSettings(), alone
        self._clock = NodeClock(node)

    async def admit(
        self, project: str, request_id: str, decide: Callable[[Record | None, Load], Record], *, now: datetime
    ) -> Record:
        def work(tx: Transaction) -> Record:
            job_keeping.take_turn(tx, project)
            existing = find_record(tx, project, request_id, lock=tx.lock)
            record = decide(existing, job_keeping.load(tx, project, now))
            if existing is None:
                row = {**write_job(record.job), "request_id": record.submission.request_id or None}
                number = _insert(tx, "jobs", row, "RETURNING number").fetchone()[0]
                _insert(tx, "job_requests", {"number": number, **write_submission(record.submission)})
                checks.admitted(tx, number, record)
            elif record.job != existing.job:
                _update(tx, existing.job, record.job)
            return record

        return await self._database.transact(work)

    async def find(self, project: str, request_id: str) -> Record | None:
        if not request_id:
            return None
        return await self._database.transact(lambda tx: find_record(tx, project, request_id))

    async def change(self, job_id: str, decide: Decide, *, durable: bool = True) -> Change | None:
        return await self._database.transact(lambda tx: self._change(tx, job_id, decide), durable=durable)

    async def accept(self, job_id: str, decide: Decide) -> tuple[Change | None, Row]:
        def work(tx: Transaction) -> tuple[Change | None, Row]:
            change = self._change(tx, job_id, decide)
            if change is None:
                return None, _read(_row(tx, f"{_WHOLE} WHERE id = ? AND {_ACCEPTED}", job_id))
            row = _row(tx, f"{_ASKED} WHERE id = ?", job_id)
            return change, Row(row["number"], change.job, read_submission(row), None, checks.read_risk(row))

        return await self._database.transact(work)

    async def lease(self, job_id: str, decide: Decide) -> Leased | None:
        def work(tx: Transaction) -> Leased | None:
            if (found := _locked(tx, job_id, tx.skip)) is None:
                _row(tx, "SELECT number FROM jobs WHERE id = ?", job_id)
                return None  # another dispatcher is about to have it
            number, job = found
            change = self._move(tx, number, job, decide)
            if change is None:
                return None
            asked = next(tx.query(f"{_ASKED} WHERE number = ?", [number]))
            # nothing was said of a job that nobody has had before
            output = _output(tx, number) if change.job.attempts > 1 else Output("", [])
            return Leased(change, read_submission(asked), output, checks.read_risk(asked))

        return await self._database.transact(work, durable=False)

    def _change(self, tx: Transaction, job_id: str, decide: Decide) -> Change | None:
        found = _locked(tx, job_id, tx.lock)
        if found is None:
            raise JobNotFound(f"jobs/{job_id}")
        return self._move(tx, *found, decide)

    def _move(self, tx: Transaction, number: int, job: Job, decide: Decide) -> Change | None:
        count = self._clock.count(tx)
        move = decide(View(job, count, lambda: _output(tx, number), lambda: self._clock.known(tx)))
        if move is None:
            return None
        if move.job != job:
            _update(tx, job, move.job)
        checks.moved(tx, number, job, move, self._risk)
        if move.result is not None:
            checks.keep_result(tx, number, job.id, move.result)
        if move.outcome is not None:
            _insert(tx, "job_outcomes", {"number": number, "outcome": move.outcome.SerializeToString()})
            job_keeping.note_usage(tx, move.job, move.outcome)
        if move.trace is not None:
            job_traces.keep(tx, number, move.trace)
        if move.attestation is not None:
            job_attestations.keep(tx, number, move.attestation)
        kept = _add_events(tx, number, move.events)
        if move.job.clock.get(self._node, 0) > count:
            self._clock.ticked(tx, move.job.clock)
        numbered = [_numbered(sequence, event) for sequence, event in zip(kept(), move.events, strict=True)]
        if numbered and not self._alone():
            tx.notify(news.CHANNEL, news.moved(self._node, job.id, move.job.state, numbered[-1].sequence))
        return Change(move.job, tuple(numbered))

    async def extend(self, more: Sequence[More]) -> Sequence[JobEvent | None]:
        def work(tx: Transaction) -> Sequence[JobEvent | None]:
            events = _extend_all(tx, more) if tx.dialect is Dialect.POSTGRES else [_extend(tx, one) for one in more]
            if not self._alone():
                grown = [one.job_id for one, event in zip(more, events, strict=True) if event is not None]
                for message in news.grew(self._node, grown):
                    tx.notify(news.CHANNEL, message)
            return events

        return await self._database.transact(work)

    async def forget(self, job_id: str) -> None:
        # one that another dispatcher has taken in since is that one's to forget
        sql = f"DELETE FROM jobs WHERE id = ? AND {_PENDING} AND node IN ('', ?, ?)"
        await self._database.transact(lambda tx: tx.execute(sql, [job_id, self._node, f"{self._node}{RELEASE}"]) and None)

    async def get(self, job_id: str, *, project: str | None) -> Row:
        def work(tx: Transaction) -> Row:
            return _read(_row(tx, f"{_WHOLE} WHERE id = ? AND {_ACCEPTED}", job_id, project=project))

        return await self._database.transact(work)

    async def page(self, only: JobFilter, *, before: int | None, limit: int, size: int) -> Sequence[Row]:
        fits, values = job_pages.numbers(only, before=before, limit=limit)
        sql = f"{_WHOLE} WHERE number IN ({fits}) ORDER BY number DESC"

        def work(tx: Transaction) -> list[Row]:
            rows: list[Row] = []
            left = size
            for row in tx.query(sql, values):
                rows.append(_read(row))
                left -= len(row["ordered"]) + len(row["annotation"]) + len(row["outcome"] or b"")
                if left <= 0:
                    break
            return rows

        return await self._database.transact(work)

    async def standing(self, job_id: str, *, project: str | None) -> Job:
        sql = f"SELECT {JOB} FROM jobs WHERE id = ? AND {_ACCEPTED}"
        return await self._database.transact(lambda tx: read_job(_row(tx, sql, job_id, project=project)))

    async def trace(self, job_id: str) -> Trace | None:
        return await self._database.transact(lambda tx: job_traces.find(tx, job_id))

    async def attestation(self, job_id: str) -> Attestation | None:
        return await self._database.transact(lambda tx: job_attestations.find(tx, job_id))

    async def behind(self, job_id: str, *, project: str | None, after: int, limit: int) -> tuple[State, Sequence[JobEvent]]:
        events = """SELECT sequence, state, chunk, CASE WHEN state IS NULL AND chunk IS NULL THEN
                (SELECT outcome FROM job_outcomes WHERE number = job_events.number) END AS outcome
            FROM job_events WHERE number = ? AND sequence > ? ORDER BY sequence LIMIT ?"""

        def work(tx: Transaction) -> tuple[State, Sequence[JobEvent]]:
            job = _row(tx, f"SELECT number, project, state FROM jobs WHERE id = ? AND {_ACCEPTED}", job_id, project=project)
            return State(job["state"]), [read_event(row) for row in tx.query(events, [job["number"], after, limit])]

        return await self._database.transact(work)

    async def output(self, job_id: str) -> Output:
        return await self._database.transact(
            lambda tx: _output(tx, _row(tx, "SELECT number FROM jobs WHERE id = ?", job_id)["number"])
        )

    async def waiting(self) -> Sequence[Waiting]:
        sql = f"""SELECT number, {JOB}, exact FROM jobs LEFT JOIN job_risk USING (number)
            WHERE state = {int(State.QUEUED)} AND {_ACCEPTED} AND {_UNENDED} ORDER BY number"""
        return await self._database.transact(
            lambda tx: [Waiting(row["number"], read_job(row), bool(row["exact"])) for row in tx.query(sql)]
        )

    async def leased(self) -> Sequence[Job]:
        sql = f"SELECT {JOB} FROM jobs WHERE state IN ({int(State.ASSIGNED)}, {int(State.RUNNING)}) AND {_UNENDED} ORDER BY number"
        return await self._database.transact(lambda tx: [read_job(row) for row in tx.query(sql)])

    async def due(self, now: datetime, *, limit: int) -> Sequence[Job]:
        sql = f"SELECT {JOB} FROM jobs WHERE deadline <= ? AND {_UNENDED} AND {_ACCEPTED} ORDER BY deadline LIMIT ?"
        return await self._database.transact(lambda tx: [read_job(row) for row in tx.query(sql, [micros(now), limit])])

    async def running(self, controller: bytes) -> bool:
        sql = f"SELECT ordered FROM jobs JOIN job_requests USING (number) WHERE {_UNENDED} AND controlled = 1"

        def work(tx: Transaction) -> bool:
            return any(Order.FromString(row["ordered"]).control.controller == controller for row in tx.query(sql))

        return await self._database.transact(work)

    async def money(self, job_id: str) -> Money | None:
        row = await self._database.transact(lambda tx: tx.execute("SELECT money FROM jobs WHERE id = ?", [job_id]).fetchone())
        return None if row is None else Money(row[0])

    async def pending(self, *, limit: int) -> Sequence[Record]:
        sql = f"""SELECT {ALL} FROM jobs JOIN job_requests USING (number)
            WHERE {_PENDING} ORDER BY number LIMIT ?"""
        return await self._database.transact(lambda tx: [read_record(row) for row in tx.query(sql, [limit])])

    async def purge(self, *, ended_before: datetime, project: str | None, limit: int) -> int:
        return await self._database.transact(
            lambda tx: job_keeping.purge(tx, ended_before=ended_before, project=project, limit=limit)
        )

    async def purge_beyond(self, keep: int, *, own: Mapping[str, int], limit: int) -> int:
        return await self._database.transact(lambda tx: job_keeping.purge_beyond(tx, keep, own=own, limit=limit))

    async def unsettled(self, *, limit: int) -> Sequence[Row]:
        sql = f"{_WHOLE} WHERE {_UNSETTLED} ORDER BY number LIMIT ?"
        return await self._database.transact(lambda tx: [_read(row) for row in tx.query(sql, [limit])])

    async def settled(self, job_ids: Sequence[str]) -> None:
        sql = f"UPDATE jobs SET money = {int(Money.SETTLED)} WHERE id = ? AND {_UNSETTLED} RETURNING project"

        def work(tx: Transaction) -> None:
            # rows are locked in one order, whoever locks several
            done = [tx.execute(sql, [one]) for one in sorted(job_ids)]
            job_kept.came(tx, [project for cursor in done for (project,) in cursor.fetchall()])

        await self._database.transact(work, durable=False)


_WHOLE: Final = f"""SELECT number, {ALL}, outcome, {checks.RISK} FROM jobs JOIN job_requests USING (number)
    LEFT JOIN job_outcomes USING (number) LEFT JOIN job_risk USING (number)"""
_ASKED: Final = f"""SELECT number, {ASKED}, request_id, {checks.RISK} FROM jobs JOIN job_requests USING (number)
    LEFT JOIN job_risk USING (number)"""
_MOVING: Final = f"SELECT number, {JOB} FROM jobs WHERE id = ?"
_EVENT: Final = """INSERT INTO job_events (number, sequence, state, chunk)
    VALUES (?, (SELECT coalesce(max(sequence), 0) FROM job_events WHERE number = ?) + 1, ?, ?) RETURNING sequence"""

# a running job has events: its moves until then
_EXTEND: Final = f"""INSERT INTO job_events (number, sequence, chunk)
    SELECT number, (SELECT max(sequence) FROM job_events WHERE job_events.number = jobs.number) + 1, ? FROM jobs
    WHERE id = ? AND lease = ? AND state = {int(State.RUNNING)} RETURNING sequence"""
# jobs are locked in one order, whoever locks several
_EXTEND_ALL: Final = f"""WITH
    held AS MATERIALIZED (
        SELECT number, id, lease FROM jobs WHERE id = ANY(:ids) AND state = {int(State.RUNNING)} ORDER BY number FOR NO KEY UPDATE
    ),
    more AS (
        SELECT number, chunk, place, row_number() OVER (PARTITION BY number ORDER BY place)
            + (SELECT max(sequence) FROM job_events WHERE job_events.number = held.number) AS sequence
        FROM unnest(CAST(:ids AS TEXT[]), CAST(:leases AS TEXT[]), CAST(:chunks AS BYTEA[]))
            WITH ORDINALITY AS added (id, lease, chunk, place)
        JOIN held USING (id, lease)
    ),
    kept AS (INSERT INTO job_events (number, sequence, chunk) SELECT number, sequence, chunk FROM more)
    SELECT place, sequence FROM more"""


def _row(tx: Transaction, sql: str, job_id: str, *, project: str | None = None) -> dict[str, Any]:
    for row in tx.query(sql, [job_id]):
        if project is None or row["project"] == project:
            return row
    raise JobNotFound(f"jobs/{job_id}")


def _locked(tx: Transaction, job_id: str, lock: str) -> tuple[int, Job] | None:
    """Return the job's number and moving part, locked; None if it is not there, or passed over."""
    row = tx.execute(f"{_MOVING}{lock}", [job_id]).fetchone()
    return None if row is None else (row[0], job_of(row[1:]))


def _add_events(tx: Transaction, number: int, events: Sequence[JobEvent]) -> Callable[[], list[int]]:
    """Add events to a job's log; return what tells their sequences, to be asked once all else is sent."""
    written = [(number, *write_event(event).values()) for event in events]
    if tx.dialect is Dialect.SQLITE and written:
        values = [value for row in written for value in row]
        cursor = tx.execute(_events(len(written)), [number, *values])
        return lambda: sorted(sequence for (sequence,) in cursor.fetchall())
    cursors = [tx.execute(_EVENT, [number, *row]) for row in written]
    return lambda: [cursor.fetchone()[0] for cursor in cursors]


@lru_cache(maxsize=EVENTS)
def _events(count: int) -> str:
    rows = " UNION ALL ".join(f"SELECT ?, behind + {place}, ?, ? FROM last" for place in range(1, count + 1))
    return f"""WITH last AS (SELECT coalesce(max(sequence), 0) AS behind FROM job_events WHERE number = ?)
        INSERT INTO job_events (number, sequence, state, chunk) {rows} RETURNING sequence"""


def _numbered(sequence: int, event: JobEvent) -> JobEvent:
    said = JobEvent(sequence=sequence)
    said.MergeFrom(event)
    return said


def _read(row: dict[str, Any]) -> Row:
    record = read_record(row)
    return Row(row["number"], record.job, record.submission, read_outcome(row), checks.read_risk(row))


def _insert(tx: Transaction, table: str, row: dict[str, Any], returning: str = "") -> Cursor:
    names = ", ".join(f'"{name}"' for name in row)
    return tx.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))}) {returning}", list(row.values()))


def _update(tx: Transaction, before: Job, after: Job) -> None:
    values = write_changes(before, after)
    tx.execute(_set(tuple(values)), [*values.values(), after.id])


@lru_cache(maxsize=CHANGES)
def _set(names: tuple[str, ...]) -> str:
    return f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in names)} WHERE id = ?"


def find_record(tx: Transaction, project: str, request_id: str, *, lock: str = "") -> Record | None:
    """Return what the request_id made, accepted or not; None if it made nothing."""
    if not request_id:
        return None
    sql = f"SELECT {ALL} FROM jobs JOIN job_requests USING (number) WHERE project = ? AND request_id = ?{lock}"
    return next((read_record(row) for row in tx.query(sql, [project, request_id])), None)


def _extend(tx: Transaction, more: More) -> JobEvent | None:
    row = tx.execute(_EXTEND, [more.chunk.SerializeToString(), more.job_id, more.lease]).fetchone()
    return row and JobEvent(sequence=row[0], chunk=more.chunk)


def _extend_all(tx: Transaction, more: Sequence[More]) -> Sequence[JobEvent | None]:
    values = {
        "ids": [one.job_id for one in more],
        "leases": [one.lease for one in more],
        "chunks": [one.chunk.SerializeToString() for one in more],
    }
    kept: dict[int, int] = dict(tx.execute(_EXTEND_ALL, values).fetchall())
    return [JobEvent(sequence=kept[place], chunk=one.chunk) if place in kept else None for place, one in enumerate(more, 1)]


def _output(tx: Transaction, number: int) -> Output:
    sql = "SELECT chunk FROM job_events WHERE number = ? AND chunk IS NOT NULL ORDER BY sequence"
    return read_output(chunk for (chunk,) in tx.execute(sql, [number]))
