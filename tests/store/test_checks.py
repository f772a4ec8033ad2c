"""Checks, results, evidence and users' standing, in either database."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest_asyncio

from aos.dispatcher import jobs
from aos.dispatcher.checks import CheckKey, Conclusion
from aos.dispatcher.jobs import At, Move, State
from aos.dispatcher.risk import Position, RiskSettings, Standing, Tag
from aos.store.checks import SqlCheckStore
from aos.store.jobs import SqlJobStore
from aos.store.opening import opened
from aos.v1.attestation_pb2 import Attestation
from aos.v1.dispatcher_pb2 import Evidence, JobEvent, JobResult, Outcome, Verdict
from aos.v1.operator_pb2 import Trace
from aos.v1.receipt_pb2 import Receipt
from tests.dispatcher.jobs import NOW, a_record

RISK = RiskSettings()
AT = At(NOW, "1")


@pytest_asyncio.fixture
async def stores(database):
    await database.migrate("jobs")
    return SqlJobStore(database, node="1", risk=RISK), SqlCheckStore(database, risk=RISK)


async def completed(store: SqlJobStore, number: int, tag: Tag = Tag.NONE) -> str:
    """Take in a job of the user `u` and let an operator complete it; return its id."""
    record = a_record(number)
    record = replace(record, submission=replace(record.submission, user="u", tag=tag))
    await store.admit("projects/p", "", lambda *_: record, now=NOW)
    await store.accept(record.job.id, lambda view: jobs.accept(view, AT))

    def complete(view: jobs.View) -> Move:
        outcome = Outcome(state=State.COMPLETED.wire, text="yes")
        outcome.usage.prompt_tokens, outcome.usage.completion_tokens = 3, 4
        return Move(
            replace(view.job, state=State.COMPLETED, ended=NOW, clock={"1": view.count + 1}),
            (JobEvent(outcome=outcome),),
            outcome,
            result=JobResult(operator="operators/0xa", receipt=Receipt()),
            trace=Trace(),
            attestation=Attestation(),
        )

    await store.change(record.job.id, complete)
    return record.job.id


def found(verdict: Verdict, **more) -> Conclusion:
    return Conclusion(verdict, "said so", {"operators/0xa": "agrees"}, **more)


class TestChecks:
    async def test_a_tagged_job(self, stores):
        """It and the user's jobs before it are to be checked, and the user is looked at from then on."""
        store, checks = stores
        earlier = [await completed(store, number) for number in range(3)]
        assert {key.position for key in await checks.ready(limit=9, beside=())} == {Position.NONE}
        tagged = await completed(store, 9, Tag.SUSPICION)

        keys = await checks.ready(limit=99, beside=())
        again = [key.job_id for key in keys if key.position is Position.BEFORE]
        assert again == earlier
        assert [key.job_id for key in keys if key.position is Position.AFTER] == [tagged]
        assert await checks.width(CheckKey(earlier[0], Position.NONE, Tag.NONE)) == RISK.plain
        assert await checks.ready(limit=99, beside=keys) == []
        assert await checks.standing("projects/p", "u") == Standing(Tag.SUSPICION, RISK.after_jobs, 0)
        assert (await store.get(tagged, project=None)).risk.tag is Tag.SUSPICION

    async def test_concluded(self, stores):
        """The verdict is on the job, each operator's part on its result, the evidence on record, and the check is gone."""
        store, checks = stores
        job_id = await completed(store, 1, Tag.MALICIOUS)
        (key,) = await checks.ready(limit=9, beside=())
        await checks.keep(job_id, JobResult(operator="operators/0xb"))
        evidence = Evidence(name="evidence/1", job=f"jobs/{job_id}", operator="operators/0xb")
        await checks.conclude(key, found(Verdict.VERDICT_CHECKED, evidence=(evidence,)), now=NOW)

        row = await store.get(job_id, project=None)
        assert (row.risk.verdict, row.risk.reason) == (Verdict.VERDICT_CHECKED, "said so")
        assert [(one.name.rsplit("/", 1)[1], one.reason) for one in await checks.results(job_id)] == [("1", "agrees"), ("2", "")]
        for project, count in (("projects/p", 1), ("projects/q", 0), (None, 1)):
            listed = await checks.evidence(project=project, job=f"jobs/{job_id}", before=None, limit=9)
            assert [one.operator for _, one in listed] == ["operators/0xb"] * count
        assert await checks.ready(limit=9, beside=()) == []
        assert await checks.width(key) is None
        assert await store.trace(job_id) == Trace()
        assert await store.attestation(job_id) == Attestation()

    async def test_evidence_once(self, stores):
        """What is on record already is not put there again."""
        _, checks = stores
        for _ in range(2):
            await checks.accuse(Evidence(name="evidence/1", job="jobs/x"), now=NOW)
        assert len(await checks.evidence(project=None, job="", before=None, limit=9)) == 1

    async def test_concluded_once(self, postgres_url):
        """Dispatchers that come to a conclusion at the same time: one is kept, and counts once for the user."""
        async with opened(postgres_url) as one, opened(postgres_url) as other:
            store = SqlJobStore(one, node="1", risk=RISK)
            both = [SqlCheckStore(database, risk=RISK) for database in (one, other)]
            job_ids = [await completed(store, number, Tag.SUSPICION) for number in range(2)]
            before = await both[0].standing("projects/p", "u")
            keys = [CheckKey(job_id, Position.AFTER, Tag.SUSPICION) for job_id in job_ids]
            await asyncio.gather(
                *(
                    checks.conclude(key, found(verdict), now=NOW)
                    for key in keys
                    for checks, verdict in zip(both * 2, [Verdict.VERDICT_CHECKED] * 4, strict=True)
                )
            )
            assert await both[0].standing("projects/p", "u") == replace(before, clean=before.clean + 2)
