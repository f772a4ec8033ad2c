"""Which jobs are listed and kept, projects and their limits, and an operator's questions, in either database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import pytest_asyncio

from aos.dispatcher import jobs, news
from aos.dispatcher.jobs import State
from aos.dispatcher.listing import JobFilter
from aos.dispatcher.projects import Project
from aos.dispatcher.quotas import OwnLimits
from aos.errors import JobNotFound, ProjectExists, ProjectNotFound
from aos.operator.questions import Callback, CallbackState, Load, Question
from aos.operator.questions import State as Asked
from aos.store.jobs import SqlJobStore
from aos.store.projects import SqlProjectStore
from aos.store.questions import SqlQuestionStore
from aos.v1.dispatcher_pb2 import Outcome
from tests.dispatcher.jobs import NOW, a_record
from tests.store.test_jobs import kept

DAY = timedelta(days=1)


@pytest_asyncio.fixture
async def store(database) -> SqlJobStore:
    await database.migrate("jobs")
    return SqlJobStore(database, node="1")


async def settled(store: SqlJobStore, number: int, ended=NOW, **changes) -> str:
    """A job that ended then and is paid; it used 7 tokens."""
    record = await kept(store, number, **changes)

    def end(view: jobs.View) -> jobs.Move:
        outcome = Outcome(state=State.COMPLETED.wire)
        outcome.usage.prompt_tokens, outcome.usage.completion_tokens = 3, 4
        return jobs.Move(replace(view.job, state=State.COMPLETED, ended=ended), outcome=outcome)

    await store.change(record.job.id, end)
    await store.settled([record.job.id])
    return record.job.id


class TestJobs:
    async def test_listed(self, store):
        """Newest first, those that fit the filter, in pages of so many and of about such a size."""
        ids = [await settled(store, number) for number in range(4)]
        await kept(store, 9, project="projects/q")

        async def page(limit=9, size=10**9, before=None, **only):
            return [row.job.id for row in await store.page(JobFilter(**only), before=before, limit=limit, size=size)]

        assert await page(project="projects/p") == ids[::-1]
        assert await page(project="projects/p", user="ann", limit=2) == ids[:1:-1]
        assert await page(user="nobody") == []
        assert await page(states=frozenset({State.COMPLETED}), model="m", size=1) == ids[3:]
        assert await page(states=frozenset({State.QUEUED}), created_from=NOW, created_before=NOW + DAY) == [a_record(9).job.id]
        number = (await store.get(ids[1], project="projects/p")).number
        assert await page(project="projects/p", before=number) == [ids[0]]

    async def test_kept_no_longer(self, store):
        """By age and by number, oldest first; what has not ended, or is not paid, stays."""
        ids = [await settled(store, number, NOW + number * DAY) for number in range(4)]
        waiting = await kept(store, 9)

        assert await store.purge(ended_before=NOW + 9 * DAY, project="projects/q", limit=9) == 0
        assert await store.purge(ended_before=NOW + DAY, project=None, limit=9) == 1
        assert await store.purge_beyond(1, own={"projects/p": 2}, limit=9) == 1
        assert await store.purge_beyond(1, own={"projects/p": 2}, limit=9) == 0

        left = [row.job.id for row in await store.page(JobFilter(), before=None, limit=9, size=10**9)]
        assert left == [waiting.job.id, ids[3], ids[2]]
        for job_id in ids[:2]:
            with pytest.raises(JobNotFound):
                await store.get(job_id, project=None)

    async def test_used(self, store):
        """A day's tokens add up, and are promised until a job has ended."""
        seen = []
        for number in range(3):
            await settled(store, number)
        await kept(store, 8)
        await store.admit("projects/p", "", lambda _, load: seen.append(load) or a_record(9), now=NOW)
        await store.admit("projects/p", "", lambda _, load: seen.append(load) or a_record(10), now=NOW + DAY)

        assert [(load.tokens.used, load.tokens.promised) for load in seen] == [(21, 110), (0, 220)]


class TestProjects:
    async def test_kept(self, database):
        """A project comes back as it went in, by its token, too; who is unknown, or there already, is refused."""
        await database.migrate("projects")
        store = SqlProjectStore(database)
        made = [Project(name, f"hash {name}", NOW, "Ä project") for name in ("b", "a", "B")]
        for project in made:
            await store.create(project)
        with pytest.raises(ProjectExists):
            await store.create(made[0])
        with pytest.raises(ProjectNotFound):
            await store.rotate("c", "x")

        assert [one.id for one in await store.page(after="", limit=9)] == ["B", "a", "b"]
        assert [one.id for one in await store.page(after="B", limit=1)] == ["a"]
        assert await store.get("b") == made[0]
        assert await store.holder("hash a") == "a"
        assert await store.holder("nobody's") is None

    async def test_changed(self, database):
        """A new token and own limits hold at once, and other dispatchers are told."""
        await database.migrate("projects")
        store = SqlProjectStore(database, node="1")
        await store.create(Project("a", "old", NOW, ""))
        async with database.listen(news.CHANNEL) as heard:
            await store.rotate("a", "new")
            changed = await store.set_limits("a", OwnLimits(kept_jobs=5))
            assert [news.read(await anext(heard)) for _ in range(2)] == [news.Project("1", "projects/a")] * 2

        assert await store.get("a") == changed
        assert (changed.token_hash, changed.limits) == ("new", OwnLimits(kept_jobs=5))
        assert await store.limits("nobody") == OwnLimits()
        assert await store.kept_jobs() == {"projects/a": 5}


class TestQuestions:
    async def test_kept_until_forgotten(self, database):
        """Open ones come in the order in which they came in; ended ones go by age and by number."""
        await database.migrate("questions")
        store, seen = SqlQuestionStore(database), list[Load]()
        asked = [Question(name, "m", "why?", "", NOW) for name in ("c", "a", "b")]
        for one in asked:
            await store.take(one.id, lambda _, load, one=one: seen.append(load) or one)
        due = replace(asked[0], state=Asked.DONE, ended=NOW, callback=Callback(CallbackState.DUE, 1, "no", NOW))
        await store.put(due)

        assert [load.unanswered for load in seen] == [0, 1, 2]
        assert await store.open() == [due, *asked[1:]]
        ended = [replace(one, state=Asked.FAILED, ended=NOW + number * DAY) for number, one in enumerate(asked)]
        for one in ended:
            await store.put(one)
        await store.forget(NOW + DAY, keep=1)

        assert await store.get("b") == ended[2]
        for name in ("c", "a"):
            with pytest.raises(JobNotFound):
                await store.get(name)
