"""Checks of jobs, results, evidence and users' standing beside the jobs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast

from aos.dispatcher.admission import Record
from aos.dispatcher.checks import FAILURES, RESULTS, CheckKey, Conclusion, Risk
from aos.dispatcher.jobs import Job, Money, Move, State
from aos.dispatcher.risk import Past, Position, RiskSettings, Standing, Tag, place, review
from aos.store.job_rows import micros
from aos.store.reading import first, insert_all
from aos.store.sql import Dialect, SqlDatabase, Transaction
from aos.v1.dispatcher_pb2 import Evidence, JobResult, Verdict

RISK: Final = "risk_tag, risk_position, risk_width, redundancy, exact, verdict, verdict_reason"
"""The columns of job_risk that read_risk wants; jobs from before there were checks have none of them."""
_WAITS: Final = 0
READY: Final = 1
"""In job_checks: the job has an answer that can be checked."""
_WANTED: Final = "(risk_width > 0 OR redundancy > 1)"
"""Whether a job is to be checked when it has completed; it is no row of job_checks before."""
_CHECK: Final = f"""INSERT INTO job_checks
    SELECT number, risk_position, risk_tag, risk_width, {READY} FROM job_risk WHERE number = ? AND {_WANTED}
    ON CONFLICT DO NOTHING"""  # noqa: S608
_AWAITED: Final = "EXISTS (SELECT 1 FROM job_checks WHERE job_checks.number = job_risk.number)"
_ALONE: Final = f"""UPDATE job_risk SET verdict = ?, verdict_reason = CASE WHEN {_WANTED} OR {_AWAITED} THEN ? ELSE '' END
    WHERE number = ? RETURNING {_AWAITED}"""  # noqa: S608


def admitted(tx: Transaction, number: int, record: Record) -> None:
    """Keep what the caller asked for."""
    said = record.submission
    tx.execute(
        "INSERT INTO job_risk (number, owner, enduser, own_tag, redundancy, exact) VALUES (?, ?, ?, ?, ?, ?)",
        [number, record.job.project, said.user, int(said.tag), said.redundancy, int(said.exact)],
    )


def accepted(tx: Transaction, jobs: Sequence[tuple[int, Record]], risk: RiskSettings) -> Sequence[Risk]:
    """Keep what callers asked for, and give new, accepted jobs their places among their users'; return how they are looked at."""
    users = {(record.job.project, record.submission.user) for _, record in jobs}
    if any(record.submission.tag for _, record in jobs) or any(_tagged(tx, *who) for who in users):
        for number, record in jobs:
            admitted(tx, number, record)
            _place(tx, number, risk)
        return [risk_of(tx, number) for number, _ in jobs]
    plain = place(Standing(), Tag.NONE, (), risk)  # whose users are not looked at, and who bring no tag
    found = [
        Risk(plain.tag, plain.position, plain.width, record.submission.redundancy, record.submission.exact) for _, record in jobs
    ]
    values = [
        [
            number, record.job.project, record.submission.user, int(record.submission.tag), one.redundancy, int(one.exact),
            int(one.tag), one.position.value, one.width, int(one.tag),
        ]
        for (number, record), one in zip(jobs, found, strict=True)
    ]  # fmt: skip
    insert_all(tx, _PLACED, values)
    return found


_PLACED: Final = """job_risk (number, owner, enduser, own_tag, redundancy, exact,
    risk_tag, risk_position, risk_width, reviewed)"""


def _tagged(tx: Transaction, owner: str, user: str) -> bool:
    row = tx.execute("SELECT tag FROM user_standings WHERE owner = ? AND enduser = ?", [owner, user]).fetchone()
    return row is not None and bool(row[0])


def moved(tx: Transaction, number: int, before: Job, move: Move, risk: RiskSettings) -> None:
    """Follow a job's move: accepted, it gets its place among its user's; ended, its checks begin or fall away."""
    after = move.job
    if before.money is Money.PENDING and after.money is Money.HELD:
        _place(tx, number, risk)
    if after.state.final and not before.state.final:
        if after.state is State.COMPLETED:
            _completed(tx, number, move.unchecked)
        else:
            tx.execute("DELETE FROM job_checks WHERE number = ?", [number])


def _completed(tx: Transaction, number: int, unchecked: str) -> None:
    if not unchecked:
        tx.execute("UPDATE job_checks SET ready = ? WHERE number = ?", [READY, number])
        tx.execute(_CHECK, [number])
        tx.execute("UPDATE job_risk SET verdict = ? WHERE number = ?", [int(Verdict.VERDICT_UNCHECKED), number])
        return
    found = tx.execute(_ALONE, [int(Verdict.VERDICT_UNCHECKED), unchecked, number])
    # on PostgreSQL an answer costs more than a statement that finds nothing
    if tx.dialect is Dialect.POSTGRES or (row := found.fetchone()) is None or row[0]:  # checks wait for it
        tx.execute("DELETE FROM job_checks WHERE number = ?", [number])


_PLACING: Final = """SELECT owner, job_risk.enduser AS enduser, own_tag, tag, remaining, clean FROM job_risk
    LEFT JOIN user_standings USING (owner, enduser) WHERE number = ?"""
_PAST: Final = """SELECT number, reviewed FROM job_risk JOIN jobs USING (number)
    WHERE owner = ? AND enduser = ? AND number < ? AND money > ? ORDER BY number DESC LIMIT ?"""


def _place(tx: Transaction, number: int, settings: RiskSettings) -> None:
    row = first(tx, _PLACING, number)
    if row is None:
        return
    if row["own_tag"] or row["tag"]:  # what follows for the user and the earlier jobs is one transaction's at a time
        _alone_with(tx, row["owner"], row["enduser"])
        row = first(tx, _PLACING, number) or row
    who, own = (row["owner"], row["enduser"]), Tag(row["own_tag"])
    before = Standing() if row["tag"] is None else Standing(Tag(row["tag"]), row["remaining"], row["clean"])
    placed = place(before, own, _past(tx, number, who, settings), settings)
    if placed.standing != before:
        _keep_standing(tx, *who, placed.standing)
    sql = "UPDATE job_risk SET risk_tag = ?, risk_position = ?, risk_width = ?, reviewed = ? WHERE number = ?"
    tx.execute(sql, [int(placed.tag), placed.position.value, placed.width, int(placed.tag), number])
    for again in placed.again:
        tx.execute("UPDATE job_risk SET reviewed = ? WHERE number = ?", [int(placed.tag), int(again.id)])
        _add_check(tx, int(again.id), Position.BEFORE, placed.tag, again.width)


def _past(tx: Transaction, number: int, who: tuple[str, str], settings: RiskSettings) -> Iterator[Past]:
    """Read only when it is asked for: most jobs bring no tag."""
    for one in tx.query(_PAST, [*who, number, int(Money.PENDING), settings.before_jobs]):
        yield Past(str(one["number"]), Tag(one["reviewed"]))


def _alone_with(tx: Transaction, owner: str, user: str) -> None:
    tx.advisory(f"standing {owner} {user}")


def _alone_with_job(tx: Transaction, job_id: str) -> int | None:
    """Lock the standing of the job's user, then the job, and return its number; None if it is gone."""
    row = first(tx, "SELECT owner, enduser FROM job_risk JOIN jobs USING (number) WHERE id = ?", job_id)
    if row is not None:
        _alone_with(tx, row["owner"], row["enduser"])
    return _number(tx, job_id, lock=tx.lock)


def _add_check(tx: Transaction, number: int, position: Position, tag: Tag, width: int) -> None:
    # an earlier job than the one that this transaction has locked: nobody locks the other way round
    found = tx.execute(f"SELECT state FROM jobs WHERE number = ?{tx.lock}", [number]).fetchone()  # noqa: S608  # a constant
    if found is None:  # purged meanwhile
        return
    state = State(found[0])
    if not state.final or state is State.COMPLETED:
        ready = READY if state.final else _WAITS
        sql = "INSERT INTO job_checks VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        tx.execute(sql, [number, position.value, int(tag), width, ready])


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


def risk_of(tx: Transaction, number: int) -> Risk:
    """Return how closely a job is looked at."""
    row = first(tx, f"SELECT {RISK} FROM job_risk WHERE number = ?", number)  # noqa: S608  # constants
    return Risk() if row is None else read_risk(row)


def keep_result(tx: Transaction, number: int, job_id: str, result: JobResult) -> None:
    """Add a result to those of the job; beyond the most that are kept, none is."""
    # hardly any job has more than the one that ended it
    if not result.review and _keep_at(tx, number, job_id, 1, result):
        return
    place = tx.execute("SELECT count(*) FROM job_results WHERE number = ?", [number]).fetchone()[0] + 1
    if place <= (RESULTS if result.HasField("receipt") else FAILURES):
        _keep_at(tx, number, job_id, place, result)


def _keep_at(tx: Transaction, number: int, job_id: str, place: int, result: JobResult) -> bool:
    """Keep the result in this place, counted from 1; False if another is there."""
    named = JobResult(name=f"jobs/{job_id}/results/{place}")
    named.MergeFrom(result)
    sql = "INSERT INTO job_results VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
    return tx.execute(sql, [number, place, named.SerializeToString()]).rowcount > 0


class SqlCheckStore:
    """Satisfies CheckStore. The database must have the tables of jobs."""

    def __init__(self, database: SqlDatabase, *, risk: RiskSettings) -> None:
        self._database, self._risk = database, risk

    async def ready(self, *, limit: int, beside: Collection[CheckKey]) -> Sequence[CheckKey]:
        sql = f"SELECT id, position, tag FROM job_checks JOIN jobs USING (number) WHERE ready = {READY} ORDER BY number LIMIT ?"  # noqa: S608
        rows = await self._database.transact(lambda tx: tx.execute(sql, [limit + len(beside)]).fetchall())
        found = [CheckKey(job_id, Position(position), Tag(tag)) for job_id, position, tag in rows]
        return [one for one in found if one not in beside][:limit]

    async def width(self, key: CheckKey) -> int | None:
        sql = "SELECT width FROM job_checks WHERE number = ? AND position = ? AND tag = ?"

        def work(tx: Transaction) -> int | None:
            number = _number(tx, key.job_id)
            row = None if number is None else tx.execute(sql, [number, key.position.value, int(key.tag)]).fetchone()
            return None if row is None else row[0]

        return await self._database.transact(work)

    async def results(self, job_id: str) -> Sequence[JobResult]:
        sql = "SELECT result FROM job_results JOIN jobs USING (number) WHERE id = ? ORDER BY place"
        return await self._database.transact(lambda tx: [JobResult.FromString(blob) for (blob,) in tx.execute(sql, [job_id])])

    async def keep(self, job_id: str, result: JobResult) -> None:
        def work(tx: Transaction) -> None:
            if (number := _number(tx, job_id, lock=tx.lock)) is not None:
                keep_result(tx, number, job_id, result)

        await self._database.transact(work)

    async def conclude(self, key: CheckKey, found: Conclusion, *, now: datetime) -> None:
        def work(tx: Transaction) -> None:
            number = _alone_with_job(tx, key.job_id)
            if number is None:  # purged meanwhile
                return
            where = [number, key.position.value, int(key.tag)]
            ended = tx.execute("DELETE FROM job_checks WHERE number = ? AND position = ? AND tag = ?", where)
            if ended.rowcount == 0:  # another dispatcher did it
                return
            _note_words(tx, number, found.words)
            row = first(tx, "SELECT owner, enduser, verdict FROM job_risk WHERE number = ?", number)
            if row is None:
                return
            for one in found.evidence:
                _accuse(tx, one, row["owner"], now)
            # what is known is not forgotten because nobody could be asked again
            if found.verdict != Verdict.VERDICT_UNCHECKED or row["verdict"] in (0, int(Verdict.VERDICT_UNCHECKED)):
                sql = "UPDATE job_risk SET verdict = ?, verdict_reason = ? WHERE number = ?"
                tx.execute(sql, [int(found.verdict), found.reason, number])
            if found.verdict != Verdict.VERDICT_UNCHECKED:
                who = row["owner"], row["enduser"]
                before, clean = _standing(tx, *who), found.verdict == Verdict.VERDICT_CHECKED
                after = review(before, key.position, clean=clean, settings=self._risk)
                if after != before:
                    _keep_standing(tx, *who, after)

        await self._database.transact(work)

    async def accuse(self, evidence: Evidence, *, now: datetime) -> None:
        def work(tx: Transaction) -> None:
            row = tx.execute("SELECT project FROM jobs WHERE id = ?", [evidence.job.removeprefix("jobs/")]).fetchone()
            _accuse(tx, evidence, row[0] if row else "", now)

        await self._database.transact(work)

    async def evidence(self, *, project: str | None, job: str, before: int | None, limit: int) -> Sequence[tuple[int, Evidence]]:
        where, values = ["1 = 1"], list[object]()
        for clause, value in (("owner = ?", project), ("job = ?", job or None), ("entry < ?", before)):
            if value is not None:
                where, values = [*where, clause], [*values, value]
        sql = f"SELECT entry, evidence FROM evidence WHERE {' AND '.join(where)} ORDER BY entry DESC LIMIT ?"  # noqa: S608  # constants
        rows = await self._database.transact(lambda tx: tx.execute(sql, [*values, limit]).fetchall())
        return [(entry, Evidence.FromString(blob)) for entry, blob in rows]

    async def standing(self, project: str, user: str) -> Standing:
        return await self._database.transact(lambda tx: _standing(tx, project, user))


def _note_words(tx: Transaction, number: int, words: Mapping[str, str]) -> None:
    """Write beside each operator's receipt what came of it."""
    for row_place, blob in tx.execute("SELECT place, result FROM job_results WHERE number = ?", [number]).fetchall():
        result = JobResult.FromString(blob)
        if result.HasField("receipt") and (word := words.get(result.operator)):
            result.reason = word
            values = [result.SerializeToString(), number, row_place]
            tx.execute("UPDATE job_results SET result = ? WHERE number = ? AND place = ?", values)


def _accuse(tx: Transaction, evidence: Evidence, owner: str, now: datetime) -> None:
    dated = Evidence()
    dated.CopyFrom(evidence)
    dated.created.FromMicroseconds(micros(now))
    sql = "INSERT INTO evidence (name, owner, job, evidence) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
    tx.execute(sql, [evidence.name, owner, evidence.job, dated.SerializeToString()])


def _standing(tx: Transaction, owner: str, user: str) -> Standing:
    row = tx.execute("SELECT tag, remaining, clean FROM user_standings WHERE owner = ? AND enduser = ?", [owner, user]).fetchone()
    return Standing() if row is None else Standing(Tag(row[0]), row[1], row[2])


def _keep_standing(tx: Transaction, owner: str, user: str, standing: Standing) -> None:
    values = [owner, user, int(standing.tag), standing.left, standing.clean]
    sql = """INSERT INTO user_standings VALUES (?, ?, ?, ?, ?) ON CONFLICT (owner, enduser)
        DO UPDATE SET tag = excluded.tag, remaining = excluded.remaining, clean = excluded.clean"""
    tx.execute(sql, values)


def _number(tx: Transaction, job_id: str, *, lock: str = "") -> int | None:
    row = tx.execute(f"SELECT number FROM jobs WHERE id = ?{lock}", [job_id]).fetchone()  # noqa: S608  # a constant
    return None if row is None else row[0]
