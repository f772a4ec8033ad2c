"""Jobs and their logs in the SQLite file."""

# ruff: noqa: S608  # the pieces of the statements are constants; values are always bound

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from aos.dispatcher.admission import Load, Record
from aos.dispatcher.jobs import Job, Money, State, View
from aos.dispatcher.listing import JobFilter
from aos.dispatcher.output import Output
from aos.dispatcher.risk import RiskSettings
from aos.dispatcher.store import Change, Decide, Leased, More, Row, Waiting
from aos.errors import JobNotFound
from aos.store import job_attestations, job_keeping, job_kept, job_pages, job_traces, sqlite_checks
from aos.store.job_rows import (
    ALL,
    JOB,
    micros,
    read_event,
    read_job,
    read_outcome,
    read_output,
    read_record,
    write_event,
    write_job,
    write_submission,
)
from aos.store.sqlite import SqliteFile
from aos.v1.attestation_pb2 import Attestation
from aos.v1.dispatcher_pb2 import JobEvent
from aos.v1.operator_pb2 import Trace

MIGRATIONS: Final = Migrations("jobs")
_UNENDED: Final = f"state < {int(State.COMPLETED)}"
_ACCEPTED: Final = f"money > {int(Money.PENDING)}"
_PENDING: Final = f"money = {int(Money.PENDING)}"
_UNSETTLED: Final = f"money = {int(Money.HELD)} AND state >= {int(State.COMPLETED)}"


@MIGRATIONS(name="0001_jobs")
def _create_jobs(db: Database) -> None:
    # what moves (jobs), what never does (job_requests), and what comes once (job_outcomes) are apart, because SQLite writes a
    # whole row anew and a prompt may have 1 MiB. Times are microseconds since 1970-01-01 UTC; amounts outgrow 64 bits: text.
    for sql in (
        """CREATE TABLE jobs (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            project TEXT NOT NULL,
            request_id TEXT,
            model TEXT NOT NULL,
            model_digest TEXT NOT NULL,
            request_digest BLOB NOT NULL,
            parameters TEXT NOT NULL,
            seed INTEGER NOT NULL,
            prompt_bound INTEGER NOT NULL,
            completion_bound INTEGER NOT NULL,
            amount TEXT NOT NULL,
            created INTEGER NOT NULL,
            deadline INTEGER NOT NULL,
            money INTEGER NOT NULL,
            state INTEGER NOT NULL,
            operator TEXT NOT NULL,
            lease TEXT NOT NULL,
            price BLOB,
            attempts INTEGER NOT NULL,
            failures INTEGER NOT NULL,
            clock TEXT NOT NULL,
            ended INTEGER
        ) STRICT""",
        "CREATE UNIQUE INDEX jobs_request ON jobs (project, request_id)",
        "CREATE INDEX jobs_project ON jobs (project, number)",
        f"CREATE INDEX jobs_load ON jobs (project) WHERE {_UNENDED}",
        f"CREATE INDEX jobs_deadline ON jobs (deadline) WHERE {_UNENDED}",
        f"CREATE INDEX jobs_state ON jobs (state, number) WHERE {_UNENDED}",
        f"CREATE INDEX jobs_pending ON jobs (number) WHERE {_PENDING}",
        f"CREATE INDEX jobs_unsettled ON jobs (number) WHERE {_UNSETTLED}",
        """CREATE TABLE job_requests (
            number INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
            ordered BLOB NOT NULL,
            user TEXT NOT NULL,
            annotation TEXT NOT NULL,
            contents BLOB NOT NULL
        ) STRICT""",
        "CREATE TABLE job_outcomes (number INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE, outcome BLOB NOT NULL) STRICT",
        # state for a move, chunk for output, neither for the outcome, which has a table
        """CREATE TABLE job_events (
            number INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
            sequence INTEGER NOT NULL,
            state INTEGER,
            chunk BLOB,
            PRIMARY KEY (number, sequence)
        ) STRICT, WITHOUT ROWID""",
        "CREATE TABLE node_counts (node TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    ):
        db.execute(sql)


@MIGRATIONS(name="0002_priority")
def _add_priority(db: Database) -> None:
    db.execute("ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE jobs ADD COLUMN traceparent TEXT NOT NULL DEFAULT ''")


MIGRATIONS(name="0003_job_keeping")(job_keeping.create)
MIGRATIONS(name="job_traces")(job_traces.create)
MIGRATIONS(name="0004_checks")(sqlite_checks.create)
MIGRATIONS(name="job_attestations")(job_attestations.create)


@MIGRATIONS(name="0005_waits")
def _add_waits(db: Database) -> None:
    # jobs from before had the deadline of the settings, or their callers' own, and nobody knows which: they wait for it
    db.execute("ALTER TABLE jobs ADD COLUMN waits INTEGER NOT NULL DEFAULT 1")


@MIGRATIONS(name="controlled_jobs")
def _add_controlled(db: Database) -> None:
    db.execute("ALTER TABLE jobs ADD COLUMN controlled INTEGER NOT NULL DEFAULT 0")


@MIGRATIONS(name="job_providers")
def _providers(db: Database) -> None:
    # those from before are paid from available money, and go to any operator
    db.execute("ALTER TABLE jobs ADD COLUMN provider TEXT NOT NULL DEFAULT ''")


MIGRATIONS(name="job_kept")(job_kept.create)
MIGRATIONS(name="job_pages")(job_pages.create)


class SqliteJobStore:
    """Satisfies JobStore. The file must have had MIGRATIONS applied; ``node`` is whose events it counts.

    Leases need not outlive a loss of power: a job whose lease is lost waits again.
    """

    def __init__(self, file: SqliteFile, *, node: str, risk: RiskSettings | None = None) -> None:
        self._file, self._node, self._risk = file, node, risk or RiskSettings()

    async def admit(
        self, project: str, request_id: str, decide: Callable[[Record | None, Load], Record], *, now: datetime
    ) -> Record:
        def work(db: Database) -> Record:
            existing = _find(db, project, request_id)
            record = decide(existing, job_keeping.load(db, project, now))
            if record is not existing:
                row = {**write_job(record.job), "request_id": record.submission.request_id or None}
                _insert(db, "jobs", row)
                number = _value(db, "SELECT number FROM jobs WHERE id = ?", record.job.id)
                _insert(db, "job_requests", {"number": number, **write_submission(record.submission)})
                sqlite_checks.admitted(db, number, record)
            return record

        return await self._file.transact(work)

    async def find(self, project: str, request_id: str) -> Record | None:
        if not request_id:
            return None
        return await self._file.transact(lambda db: _find(db, project, request_id))

    async def change(self, job_id: str, decide: Decide, *, durable: bool = True) -> Change | None:
        return await self._file.transact(lambda db: self._change(db, job_id, decide), durable=durable)

    async def accept(self, job_id: str, decide: Decide) -> tuple[Change | None, Row]:
        def work(db: Database) -> tuple[Change | None, Row]:
            return self._change(db, job_id, decide), _read(_row(db, f"{_WHOLE} WHERE id = ? AND {_ACCEPTED}", job_id))

        return await self._file.transact(work)

    async def lease(self, job_id: str, decide: Decide) -> Leased | None:
        def work(db: Database) -> Leased | None:
            change = self._change(db, job_id, decide)
            if change is None:
                return None
            row = _row(db, f"SELECT {ALL} FROM jobs JOIN job_requests USING (number) WHERE id = ?", job_id)
            risk = sqlite_checks.risk_of(db, row["number"])
            return Leased(change, read_record(row).submission, _output(db, row["number"]), risk)

        return await self._file.transact(work, durable=False)

    def _change(self, db: Database, job_id: str, decide: Decide) -> Change | None:
        row = _row(db, f"SELECT number, {JOB} FROM jobs WHERE id = ?", job_id)
        number, job = row["number"], read_job(row)
        count = _value(db, "SELECT count FROM node_counts WHERE node = ?", self._node)
        move = decide(View(job, count, lambda: _output(db, number), lambda: _known(db, self._node)))
        if move is None:
            return None
        if move.job != job:
            # what does not move is left alone, and the indexes that it is in
            values = dict(write_job(move.job).items() - write_job(job).items())
            db.execute(
                f"UPDATE jobs SET {', '.join(f'{name} = :{name}' for name in sorted(values))} WHERE id = :id",
                {**values, "id": job_id},
            )
        if (counted := move.job.clock.get(self._node, 0)) > count:
            db.execute("INSERT OR REPLACE INTO node_counts VALUES (?, ?)", [self._node, counted])
            # a clock that counts on holds all that the dispatcher has heard by then
            db.execute("INSERT OR REPLACE INTO node_clocks VALUES (?, ?)", [self._node, json.dumps(dict(move.job.clock))])
        sqlite_checks.moved(db, number, job, move, self._risk)
        job_kept.moved(db, job, move.job)
        if move.result is not None:
            sqlite_checks.keep_result(db, number, move.result)
        if move.outcome is not None:
            _insert(db, "job_outcomes", {"number": number, "outcome": move.outcome.SerializeToString()})
            job_keeping.note_usage(db, move.job, move.outcome)
        if move.trace is not None:
            job_traces.keep(db, number, move.trace)
        if move.attestation is not None:
            job_attestations.keep(db, number, move.attestation)
        sequence = _value(db, "SELECT max(sequence) FROM job_events WHERE number = ?", number)
        numbered: list[JobEvent] = []
        for event in move.events:
            sequence += 1
            said = JobEvent(sequence=sequence)
            said.MergeFrom(event)
            _insert(db, "job_events", {"number": number, "sequence": sequence, **write_event(event)})
            numbered.append(said)
        return Change(move.job, tuple(numbered))

    async def extend(self, more: Sequence[More]) -> Sequence[JobEvent | None]:
        return await self._file.transact(lambda db: [_extend(db, one) for one in more])

    async def forget(self, job_id: str) -> None:
        sql = f"DELETE FROM jobs WHERE id = ? AND {_PENDING}"
        await self._file.transact(lambda db: db.execute(sql, [job_id]) and None)

    async def get(self, job_id: str, *, project: str | None) -> Row:
        def work(db: Database) -> Row:
            return _read(_row(db, f"{_WHOLE} WHERE id = ? AND {_ACCEPTED}", job_id, project=project))

        return await self._file.transact(work)

    async def page(self, only: JobFilter, *, before: int | None, limit: int, size: int) -> Sequence[Row]:
        fits, values = job_pages.numbers(only, before=before, limit=limit)
        sql = f"{_WHOLE} WHERE number IN ({fits}) ORDER BY number DESC"

        def work(db: Database) -> list[Row]:
            rows: list[Row] = []
            left = size
            for row in db.query(sql, values):
                rows.append(_read(row))
                left -= len(row["ordered"]) + len(row["annotation"]) + len(row["outcome"] or b"")
                if left <= 0:
                    break
            return rows

        return await self._file.transact(work)

    async def standing(self, job_id: str, *, project: str | None) -> Job:
        sql = f"SELECT {JOB} FROM jobs WHERE id = ? AND {_ACCEPTED}"
        return await self._file.transact(lambda db: read_job(_row(db, sql, job_id, project=project)))

    async def trace(self, job_id: str) -> Trace | None:
        return await self._file.transact(lambda db: job_traces.find(db, job_id))

    async def attestation(self, job_id: str) -> Attestation | None:
        return await self._file.transact(lambda db: job_attestations.find(db, job_id))

    async def events(self, job_id: str, *, after: int, limit: int) -> Sequence[JobEvent]:
        sql = """SELECT sequence, state, chunk, CASE WHEN state IS NULL AND chunk IS NULL THEN
                (SELECT outcome FROM job_outcomes WHERE number = job_events.number) END AS outcome
            FROM job_events WHERE number = (SELECT number FROM jobs WHERE id = ?) AND sequence > ? ORDER BY sequence LIMIT ?"""
        return await self._file.transact(lambda db: [read_event(row) for row in db.query(sql, [job_id, after, limit])])

    async def output(self, job_id: str) -> Output:
        return await self._file.transact(lambda db: _output(db, _row(db, "SELECT number FROM jobs WHERE id = ?", job_id)["number"]))

    async def waiting(self) -> Sequence[Waiting]:
        sql = f"""SELECT number, {JOB}, exact FROM jobs LEFT JOIN job_risk USING (number)
            WHERE state = {int(State.QUEUED)} AND {_ACCEPTED} AND {_UNENDED} ORDER BY number"""
        return await self._file.transact(
            lambda db: [Waiting(row["number"], read_job(row), bool(row["exact"])) for row in db.query(sql)]
        )

    async def leased(self) -> Sequence[Job]:
        sql = f"SELECT {JOB} FROM jobs WHERE state IN ({int(State.ASSIGNED)}, {int(State.RUNNING)}) AND {_UNENDED} ORDER BY number"
        return await self._file.transact(lambda db: [read_job(row) for row in db.query(sql)])

    async def due(self, now: datetime, *, limit: int) -> Sequence[Job]:
        sql = f"SELECT {JOB} FROM jobs WHERE deadline <= ? AND {_UNENDED} AND {_ACCEPTED} ORDER BY deadline LIMIT ?"
        return await self._file.transact(lambda db: [read_job(row) for row in db.query(sql, [micros(now), limit])])

    async def money(self, job_id: str) -> Money | None:
        value = await self._file.transact(lambda db: _value(db, "SELECT money FROM jobs WHERE id = ?", job_id))
        return Money(value) if value else None

    async def pending(self, *, limit: int) -> Sequence[Record]:
        sql = f"""SELECT {ALL} FROM jobs JOIN job_requests USING (number)
            WHERE {_PENDING} ORDER BY number LIMIT ?"""
        return await self._file.transact(lambda db: [read_record(row) for row in db.query(sql, [limit])])

    async def purge(self, *, ended_before: datetime, project: str | None, limit: int) -> int:
        return await self._file.transact(lambda db: job_keeping.purge(db, ended_before=ended_before, project=project, limit=limit))

    async def purge_beyond(self, keep: int, *, own: Mapping[str, int], limit: int) -> int:
        return await self._file.transact(lambda db: job_keeping.purge_beyond(db, keep, own=own, limit=limit))

    async def unsettled(self, *, limit: int) -> Sequence[Row]:
        sql = f"{_WHOLE} WHERE {_UNSETTLED} ORDER BY number LIMIT ?"
        return await self._file.transact(lambda db: [_read(row) for row in db.query(sql, [limit])])


_WHOLE: Final = f"""SELECT number, {ALL}, outcome, {sqlite_checks.RISK} FROM jobs JOIN job_requests USING (number)
    LEFT JOIN job_outcomes USING (number) LEFT JOIN job_risk USING (number)"""


# a running job has events: its moves until then
_EXTEND: Final = f"""INSERT INTO job_events (number, sequence, chunk)
    SELECT number, (SELECT max(sequence) FROM job_events WHERE job_events.number = jobs.number) + 1, ? FROM jobs
    WHERE id = ? AND lease = ? AND state = {int(State.RUNNING)} RETURNING sequence"""


def _row(db: Database, sql: str, job_id: str, *, project: str | None = None) -> dict[str, Any]:
    for row in db.query(sql, [job_id]):
        if project is None or row["project"] == project:
            return row
    raise JobNotFound(f"jobs/{job_id}")


def _read(row: dict[str, Any]) -> Row:
    record = read_record(row)
    return Row(row["number"], record.job, record.submission, read_outcome(row), sqlite_checks.read_risk(row))


def _known(db: Database, node: str) -> dict[str, int]:
    row = db.execute("SELECT clock FROM node_clocks WHERE node = ?", [node]).fetchone()
    return {} if row is None else json.loads(row[0])


def _value(db: Database, sql: str, *values: object) -> int:
    """Return the one number that the query gives; 0 for none."""
    row = db.execute(sql, list(values)).fetchone()
    return 0 if row is None or row[0] is None else row[0]


def _insert(db: Database, table: str, row: dict[str, Any]) -> None:
    names = ", ".join(row)
    db.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in row)})", row)


def _find(db: Database, project: str, request_id: str) -> Record | None:
    if not request_id:
        return None
    sql = f"SELECT {ALL} FROM jobs JOIN job_requests USING (number) WHERE project = ? AND request_id = ?"
    return next((read_record(row) for row in db.query(sql, [project, request_id])), None)


def _extend(db: Database, more: More) -> JobEvent | None:
    row = db.execute(_EXTEND, [more.chunk.SerializeToString(), more.job_id, more.lease]).fetchone()
    return row and JobEvent(sequence=row[0], chunk=more.chunk)


def _output(db: Database, number: int) -> Output:
    sql = "SELECT chunk FROM job_events WHERE number = ? AND chunk IS NOT NULL ORDER BY sequence"
    return read_output(chunk for (chunk,) in db.execute(sql, [number]))
