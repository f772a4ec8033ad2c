"""Pages of jobs and counts of kept ones: right for any filter, and as cheap with many jobs as with few."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aos.dispatcher import jobs
from aos.dispatcher.jobs import State
from aos.dispatcher.listing import JobFilter
from aos.store import job_pages
from aos.store.job_pages import SKEW
from aos.store.jobs import SqlJobStore
from aos.store.opening import opened
from aos.store.sql import SqlDatabase
from aos.store.sqlite import sqlite_file
from tests.dispatcher.jobs import NOW, a_record
from tests.store.test_jobs import AT, kept

PROJECTS, MODELS, USERS = ("projects/p", "projects/q"), ("m", "n"), ("ann", "bob")
STATES = (State.QUEUED, State.CANCELLED, State.EXPIRED)
COUNT = 48


async def some_job(store: SqlJobStore, number: int) -> None:
    """A job of a kind that its number says; one in eight is not accepted."""
    created = NOW + timedelta(seconds=100 * number) + (SKEW * (number % 3 - 1)) / 2
    project, model = PROJECTS[number % 2], MODELS[number // 2 % 2]
    record = a_record(number, project=project, model=model, created=created, deadline=NOW)
    record = replace(record, submission=replace(record.submission, user=USERS[number // 4 % 2]))
    await store.admit(project, "", lambda _, __: record, now=created)
    if number % 8 != 5:
        await store.change(record.job.id, lambda view: jobs.accept(view, AT))


async def filled(database: SqlDatabase) -> SqlJobStore:
    await database.migrate("jobs")
    made = SqlJobStore(database, node="1")
    for number in range(COUNT):
        await some_job(made, number)
    for row in await made.page(JobFilter(), before=None, limit=COUNT, size=10**9):
        match row.number % 3:
            case 0:
                await made.change(row.job.id, lambda view: jobs.cancel(view, AT))
            case 1:
                await made.change(row.job.id, lambda view: jobs.expire(view, AT, limit=1))
            case _:
                pass
    return made


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def address(request, tmp_path_factory: pytest.TempPathFactory):
    if request.param == "sqlite":
        yield str(tmp_path_factory.mktemp("pages") / "jobs.db")
        return
    server = request.getfixturevalue("postgres")
    url = server.fresh()
    yield url
    server.drop(url)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def store(address) -> AsyncGenerator[SqlJobStore]:
    async with opened(address) as database:
        yield await filled(database)


def fits(row, only: JobFilter) -> bool:
    job = row.job
    return (
        only.project in (None, job.project)
        and only.user in ("", row.submission.user)
        and (not only.states or job.state in only.states)
        and only.model in ("", job.model)
        and (only.created_from is None or job.created >= only.created_from)
        and (only.created_before is None or job.created < only.created_before)
    )


TIMES = st.none() | st.integers(0, 100 * COUNT).map(lambda seconds: NOW + timedelta(seconds=seconds))
FILTERS = st.builds(
    JobFilter,
    project=st.sampled_from((None, *PROJECTS)),
    user=st.sampled_from(("", *USERS)),
    states=st.frozensets(st.sampled_from(STATES)),
    model=st.sampled_from(("", *MODELS)),
    created_from=TIMES,
    created_before=TIMES,
)


class TestPages:
    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(FILTERS, st.none() | st.integers(1, COUNT), st.integers(1, COUNT))
    @pytest.mark.asyncio(loop_scope="module")
    async def test_all_that_fits(self, store, only, before, limit):
        """Whatever is asked, a page has the newest accepted jobs that fit, those of them that are before the last page's."""
        every = await store.page(JobFilter(), before=None, limit=COUNT, size=10**9)
        assert len(every) == COUNT - COUNT // 8
        wanted = [row.number for row in every if fits(row, only) and (before is None or row.number < before)]
        found = await store.page(only, before=before, limit=limit, size=10**9)

        assert [row.number for row in found] == wanted[:limit]

    async def test_along_an_index_in_its_order(self, tmp_path):
        """Every filter of a project's or a user's, and every one of states and times, is read from an index, newest first."""
        given_or_not = product(
            (None, "projects/p"), ("", "ann"), (frozenset(), {State.CANCELLED}, {State.QUEUED}), ("", "m"), (None, NOW)
        )
        async with sqlite_file(tmp_path / "jobs.db") as file:
            await filled(file)
            for project, user, states, model, time in given_or_not:
                only = JobFilter(project, user, frozenset(states), model, time, time)
                sql, values = job_pages.numbers(only, before=None, limit=9)
                plan = await file.transact(lambda db, s=sql, v=values: [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {s}", v)])
                assert not [step for step in plan if step.startswith("SCAN") or "TEMP B-TREE" in step], (only, plan)


COUNTED = "SELECT project, CAST(sum(jobs) AS BIGINT) FROM project_kept GROUP BY project"
THERE = "SELECT project, count(*) FROM jobs WHERE money = 3 GROUP BY project"


class TestKept:
    async def test_as_many_as_there_are(self, database):
        """Whatever is settled and purged, of each project as many are counted as are there."""
        await database.migrate("jobs")
        store = SqlJobStore(database, node="1")

        async def end(number: int) -> None:
            record = await kept(store, number, project=PROJECTS[number % 2])
            if number % 5:
                await store.change(record.job.id, lambda view: jobs.cancel(view, AT))
            if number % 5 > 1:
                await store.settled([record.job.id])
                await store.settled([record.job.id])

        await asyncio.gather(*map(end, range(20)))
        assert await store.purge_beyond(3, own={"projects/q": 4}, limit=2) == 2
        assert await store.purge(ended_before=AT.now + timedelta(seconds=1), project="projects/q", limit=1) == 1
        counted, there = await database.transact(lambda tx: (tx.execute(COUNTED).fetchall(), tx.execute(THERE).fetchall()))

        assert dict(counted) == dict(there)
        assert sum(dict(there).values()) == 12 - 3

    async def test_jobs_from_before(self, tmp_path):
        """What was settled before it was counted is counted when the tables come up to date."""
        async with sqlite_file(tmp_path / "jobs.db") as file:
            await file.migrate("jobs")
            store = SqlJobStore(file, node="1")
            for number in range(3):
                job = (await kept(store, number)).job
                await store.change(job.id, lambda view: jobs.cancel(view, AT))
                await store.settled([job.id])
            for sql in ("DROP TABLE project_kept", "DELETE FROM _sqlite_migrations WHERE name = 'job_kept'"):
                await file.transact(lambda tx, sql=sql: tx.execute(sql) and None)
            await file.migrate("jobs")

            assert await store.purge_beyond(2, own={}, limit=9) == 1


class TestMoves:
    async def test_only_what_moves_is_written(self, tmp_path):
        """A move names the columns that it changes, so that the indexes of the others are left alone."""
        statements: list[str] = []
        async with sqlite_file(tmp_path / "jobs.db") as file:
            await file.migrate("jobs")
            store = SqlJobStore(file, node="1")
            record = await kept(store, 1)
            await file.transact(lambda db: db.conn.set_trace_callback(statements.append))
            await store.change(record.job.id, lambda view: jobs.cancel(view, AT))
            await file.transact(lambda db: db.conn.set_trace_callback(None))

        # SQLite may tell of a statement twice: when it has to be prepared anew
        (update,) = {sql.split(" WHERE ")[0] for sql in statements if sql.startswith("UPDATE jobs SET")}
        columns = {part.split(" = ")[0].strip() for part in update.removeprefix("UPDATE jobs SET").split(",")}
        assert "state" in columns
        assert not columns & {"id", "project", "model", "created", "deadline", "amount"}
