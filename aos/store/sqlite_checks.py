"""Checks of jobs, results, evidence and users' standing in the SQLite file, beside the jobs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, cast

from sqlite_utils import Database

from aos.dispatcher.admission import Record
from aos.dispatcher.checks import FAILURES, RESULTS, CheckKey, Conclusion, Risk
from aos.dispatcher.jobs import Job, Money, Move, State
from aos.dispatcher.risk import Past, Position, RiskSettings, Standing, Tag, place, review
from aos.store.job_rows import micros
from aos.store.sqlite import SqliteFile
from aos.v1.dispatcher_pb2 import Evidence, JobResult, Verdict

RISK: Final = "risk_tag, risk_position, risk_width, redundancy, exact, verdict, verdict_reason"
"""The columns of job_risk that read_risk wants; jobs from before there were checks have none of them."""
_WAITS: Final = 0
_READY: Final = 1
_WANTED: Final = "(risk_width > 0 OR redundancy > 1)"
"""Whether a job is to be checked when it has completed; it is no row of job_checks before."""
_CHECK: Final = f"""INSERT OR IGNORE INTO job_checks
    SELECT number, risk_position, risk_tag, risk_width, {_READY} FROM job_risk WHERE number = ? AND {_WANTED}"""  # noqa: S608
_ALONE: Final = f"UPDATE job_risk SET verdict = ?, verdict_reason = CASE WHEN ? OR {_WANTED} THEN ? ELSE '' END WHERE number = ?"  # noqa: S608


def create(db: Database) -> None:
    """Make the tables; a migration of the jobs'."""
    # names that no table of jobs has, because the two are joined
    for sql in (
        """CREATE TABLE job_risk (
            number INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
            owner TEXT NOT NULL,
            enduser TEXT NOT NULL,
            own_tag INTEGER NOT NULL,
            redundancy INTEGER NOT NULL,
            exact INTEGER NOT NULL,
            risk_tag INTEGER NOT NULL DEFAULT 0,
            risk_position TEXT NOT NULL DEFAULT '',
            risk_width INTEGER NOT NULL DEFAULT 0,
            reviewed INTEGER NOT NULL DEFAULT 0,
            verdict INTEGER NOT NULL DEFAULT 0,
            verdict_reason TEXT NOT NULL DEFAULT ''
        ) STRICT""",
        "CREATE INDEX job_risk_user ON job_risk (owner, enduser, number)",
        # is ready once the job is COMPLETED, and gone once it is concluded; one that waits is of a job to be run again
        """CREATE TABLE job_checks (
            number INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
            position TEXT NOT NULL,
            tag INTEGER NOT NULL,
            width INTEGER NOT NULL,
            ready INTEGER NOT NULL,
            PRIMARY KEY (number, position, tag)
        ) STRICT, WITHOUT ROWID""",
        f"CREATE INDEX job_checks_ready ON job_checks (number) WHERE ready = {_READY}",
        """CREATE TABLE job_results (
            number INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
            place INTEGER NOT NULL,
            result BLOB NOT NULL,
            PRIMARY KEY (number, place)
        ) STRICT""",
        # no reference: what is on record against an operator outlives the job
        """CREATE TABLE evidence (
            entry INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL UNIQUE,
            owner TEXT NOT NULL,
            job TEXT NOT NULL,
            evidence BLOB NOT NULL
        ) STRICT""",
        "CREATE INDEX evidence_job ON evidence (job, entry)",
        """CREATE TABLE user_standings (
            owner TEXT NOT NULL,
            enduser TEXT NOT NULL,
            tag INTEGER NOT NULL,
            remaining INTEGER NOT NULL,
            clean INTEGER NOT NULL,
            PRIMARY KEY (owner, enduser)
        ) STRICT, WITHOUT ROWID""",
        # all that a dispatcher has heard of, as JSON
        "CREATE TABLE node_clocks (node TEXT PRIMARY KEY, clock TEXT NOT NULL) STRICT, WITHOUT ROWID",
    ):
        db.execute(sql)


def admitted(db: Database, number: int, record: Record) -> None:
    """Keep what the caller asked for."""
    said = record.submission
    db.execute(
        "INSERT INTO job_risk (number, owner, enduser, own_tag, redundancy, exact) VALUES (?, ?, ?, ?, ?, ?)",
        [number, record.job.project, said.user, int(said.tag), said.redundancy, int(said.exact)],
    )


def moved(db: Database, number: int, before: Job, move: Move, risk: RiskSettings) -> None:
    """Follow a job's move: accepted, it gets its place among its user's; ended, its checks begin or fall away."""
    after = move.job
    if before.money is Money.PENDING and after.money is Money.HELD:
        _place(db, number, risk)
    if after.state.final and not before.state.final:
        if after.state is State.COMPLETED:
            _completed(db, number, move.unchecked)
        else:
            db.execute("DELETE FROM job_checks WHERE number = ?", [number])


def _completed(db: Database, number: int, unchecked: str) -> None:
    if not unchecked:
        db.execute("UPDATE job_checks SET ready = ? WHERE number = ?", [_READY, number])
        db.execute(_CHECK, [number])
        db.execute("UPDATE job_risk SET verdict = ? WHERE number = ?", [int(Verdict.VERDICT_UNCHECKED), number])
        return
    waited = db.execute("DELETE FROM job_checks WHERE number = ?", [number]).rowcount > 0
    db.execute(_ALONE, [int(Verdict.VERDICT_UNCHECKED), waited, unchecked, number])


def _place(db: Database, number: int, settings: RiskSettings) -> None:
    row = _first(db, "SELECT * FROM job_risk WHERE number = ?", number)
    if row is None:
        return
    before = _standing(db, row["owner"], row["enduser"])
    placed = place(before, Tag(row["own_tag"]), _past(db, number, row["owner"], row["enduser"], settings), settings)
    if placed.standing != before:
        _keep_standing(db, row["owner"], row["enduser"], placed.standing)
    sql = "UPDATE job_risk SET risk_tag = ?, risk_position = ?, risk_width = ?, reviewed = ? WHERE number = ?"
    db.execute(sql, [int(placed.tag), placed.position.value, placed.width, int(placed.tag), number])
    for again in placed.again:
        db.execute("UPDATE job_risk SET reviewed = ? WHERE number = ?", [int(placed.tag), int(again.id)])
        _add_check(db, int(again.id), Position.BEFORE, placed.tag, again.width)


def _past(db: Database, number: int, owner: str, user: str, settings: RiskSettings) -> Iterator[Past]:
    """Yield the user's earlier jobs; nothing is asked before the first is wanted."""
    sql = """SELECT number, reviewed FROM job_risk JOIN jobs USING (number)
        WHERE owner = ? AND enduser = ? AND number < ? AND money > ? ORDER BY number DESC LIMIT ?"""
    for one in list(db.query(sql, [owner, user, number, int(Money.PENDING), settings.before_jobs])):
        yield Past(str(one["number"]), Tag(one["reviewed"]))


def _add_check(db: Database, number: int, position: Position, tag: Tag, width: int) -> None:
    state = State(db.execute("SELECT state FROM jobs WHERE number = ?", [number]).fetchone()[0])
    if not state.final or state is State.COMPLETED:
        ready = _READY if state.final else _WAITS
        db.execute("INSERT OR IGNORE INTO job_checks VALUES (?, ?, ?, ?, ?)", [number, position.value, int(tag), width, ready])


def read_risk(row: dict[str, Any]) -> Risk:
    """Return how closely the job of the row is looked at."""
    if row["risk_tag"] is None:
        return Risk()
    return Risk(
        tag=Tag(row["risk_tag"]),
        position=Position(row["risk_position"]),
        width=row["risk_width"],
        redundancy=row["redundancy"],
        exact=bool(row["exact"]),
        verdict=cast("Verdict", row["verdict"]),
        reason=row["verdict_reason"],
    )


def keep_result(db: Database, number: int, result: JobResult) -> None:
    """Add a result to those of the job; beyond the most that are kept, none is."""
    sql = "SELECT id, 1 + (SELECT count(*) FROM job_results WHERE job_results.number = jobs.number) FROM jobs WHERE number = ?"
    job, place = db.execute(sql, [number]).fetchone()
    if place > (RESULTS if result.HasField("receipt") else FAILURES):
        return
    named = JobResult(name=f"jobs/{job}/results/{place}")
    named.MergeFrom(result)
    db.execute("INSERT INTO job_results VALUES (?, ?, ?)", [number, place, named.SerializeToString()])


class SqliteCheckStore:
    """Satisfies CheckStore. The file must have had the MIGRATIONS of jobs applied."""

    def __init__(self, file: SqliteFile, *, risk: RiskSettings) -> None:
        self._file, self._risk = file, risk

    async def ready(self, *, limit: int, beside: Collection[CheckKey]) -> Sequence[CheckKey]:
        sql = f"SELECT id, position, tag FROM job_checks JOIN jobs USING (number) WHERE ready = {_READY} ORDER BY number LIMIT ?"  # noqa: S608
        rows = await self._file.transact(lambda db: db.execute(sql, [limit + len(beside)]).fetchall())
        found = [CheckKey(job_id, Position(position), Tag(tag)) for job_id, position, tag in rows]
        return [one for one in found if one not in beside][:limit]

    async def width(self, key: CheckKey) -> int | None:
        sql = "SELECT width FROM job_checks WHERE number = ? AND position = ? AND tag = ?"

        def work(db: Database) -> int | None:
            number = _number(db, key.job_id)
            row = None if number is None else db.execute(sql, [number, key.position.value, int(key.tag)]).fetchone()
            return None if row is None else row[0]

        return await self._file.transact(work)

    async def results(self, job_id: str) -> Sequence[JobResult]:
        sql = "SELECT result FROM job_results JOIN jobs USING (number) WHERE id = ? ORDER BY place"
        return await self._file.transact(lambda db: [JobResult.FromString(blob) for (blob,) in db.execute(sql, [job_id])])

    async def keep(self, job_id: str, result: JobResult) -> None:
        def work(db: Database) -> None:
            if (number := _number(db, job_id)) is not None:
                keep_result(db, number, result)

        await self._file.transact(work)

    async def conclude(self, key: CheckKey, found: Conclusion, *, now: datetime) -> None:
        def work(db: Database) -> None:
            number = _number(db, key.job_id)
            if number is None:  # purged meanwhile
                return
            where = [number, key.position.value, int(key.tag)]
            db.execute("DELETE FROM job_checks WHERE number = ? AND position = ? AND tag = ?", where)
            for row_place, blob in list(db.execute("SELECT place, result FROM job_results WHERE number = ?", [number])):
                result = JobResult.FromString(blob)
                if result.HasField("receipt") and (word := found.words.get(result.operator)):
                    result.reason = word
                    values = [result.SerializeToString(), number, row_place]
                    db.execute("UPDATE job_results SET result = ? WHERE number = ? AND place = ?", values)
            row = _first(db, "SELECT owner, enduser, verdict FROM job_risk WHERE number = ?", number)
            if row is None:
                return
            for one in found.evidence:
                _accuse(db, one, row["owner"], now)
            # what is known is not forgotten because nobody could be asked again
            if found.verdict != Verdict.VERDICT_UNCHECKED or row["verdict"] in (0, int(Verdict.VERDICT_UNCHECKED)):
                sql = "UPDATE job_risk SET verdict = ?, verdict_reason = ? WHERE number = ?"
                db.execute(sql, [int(found.verdict), found.reason, number])
            if found.verdict != Verdict.VERDICT_UNCHECKED:
                who = row["owner"], row["enduser"]
                before, clean = _standing(db, *who), found.verdict == Verdict.VERDICT_CHECKED
                after = review(before, key.position, clean=clean, settings=self._risk)
                if after != before:
                    _keep_standing(db, *who, after)

        await self._file.transact(work)

    async def accuse(self, evidence: Evidence, *, now: datetime) -> None:
        def work(db: Database) -> None:
            row = db.execute("SELECT project FROM jobs WHERE id = ?", [evidence.job.removeprefix("jobs/")]).fetchone()
            _accuse(db, evidence, row[0] if row else "", now)

        await self._file.transact(work)

    async def evidence(self, *, project: str | None, job: str, before: int | None, limit: int) -> Sequence[tuple[int, Evidence]]:
        where, values = ["1"], list[object]()
        for clause, value in (("owner = ?", project), ("job = ?", job or None), ("entry < ?", before)):
            if value is not None:
                where, values = [*where, clause], [*values, value]
        sql = f"SELECT entry, evidence FROM evidence WHERE {' AND '.join(where)} ORDER BY entry DESC LIMIT ?"  # noqa: S608  # constants
        rows = await self._file.transact(lambda db: db.execute(sql, [*values, limit]).fetchall())
        return [(entry, Evidence.FromString(blob)) for entry, blob in rows]

    async def standing(self, project: str, user: str) -> Standing:
        return await self._file.transact(lambda db: _standing(db, project, user))


def _accuse(db: Database, evidence: Evidence, owner: str, now: datetime) -> None:
    dated = Evidence()
    dated.CopyFrom(evidence)
    dated.created.FromMicroseconds(micros(now))
    sql = "INSERT OR IGNORE INTO evidence (name, owner, job, evidence) VALUES (?, ?, ?, ?)"
    db.execute(sql, [evidence.name, owner, evidence.job, dated.SerializeToString()])


def _standing(db: Database, owner: str, user: str) -> Standing:
    row = db.execute("SELECT tag, remaining, clean FROM user_standings WHERE owner = ? AND enduser = ?", [owner, user]).fetchone()
    return Standing() if row is None else Standing(Tag(row[0]), row[1], row[2])


def _keep_standing(db: Database, owner: str, user: str, standing: Standing) -> None:
    values = [owner, user, int(standing.tag), standing.left, standing.clean]
    db.execute("INSERT OR REPLACE INTO user_standings VALUES (?, ?, ?, ?, ?)", values)


def _first(db: Database, sql: str, *values: object) -> dict[str, Any] | None:
    return next(iter(db.query(sql, list(values))), None)


def _number(db: Database, job_id: str) -> int | None:
    row = db.execute("SELECT number FROM jobs WHERE id = ?", [job_id]).fetchone()
    return None if row is None else row[0]
