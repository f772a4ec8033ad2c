"""A PostgreSQL that is killed while dispatchers write, and comes back."""

from __future__ import annotations

import asyncio

import pytest

from aos.dispatcher.jobs import Job
from aos.errors import ServiceUnavailable
from aos.store.jobs import SqlJobStore
from aos.store.opening import opened
from tests.dispatcher.jobs import NOW, a_record
from tests.postgres_server import running_postgres

SOON = 60


@pytest.fixture
def server():
    """One of this test's own, which presses to the disk what it acknowledges."""
    with running_postgres() as one:
        yield one


class Writers:
    """Admit jobs until it is enough, and note which were acknowledged and which refused."""

    def __init__(self, store: SqlJobStore) -> None:
        self._store = store
        self.kept, self.refused = list[Job](), list[str]()
        self._next = 0
        self.enough = False

    async def write(self) -> None:
        while not self.enough:
            self._next += 1
            record = a_record(self._next, request_id=f"r{self._next}")
            try:
                await self._store.admit("projects/p", f"r{self._next}", lambda existing, _, one=record: existing or one, now=NOW)
            except ServiceUnavailable:
                self.refused.append(record.job.id)
            else:
                self.kept.append(record.job)

    async def until(self, reached) -> None:
        async with asyncio.timeout(SOON):
            while not reached():
                await asyncio.sleep(0.01)


class TestKilled:
    async def test_nothing_acknowledged_is_lost(self, server):
        """Meanwhile the database is said to be away; afterwards all goes on by itself, and every acknowledged job is there."""
        async with opened(server.fresh()) as database, database.listen("a") as heard:
            store = SqlJobStore(database, node="1")
            writers = Writers(store)
            tasks = [asyncio.create_task(writers.write()) for _ in range(8)]
            await writers.until(lambda: len(writers.kept) >= 50)

            await asyncio.to_thread(server.kill)
            await writers.until(lambda: writers.refused)
            await asyncio.to_thread(server.start)

            before = len(writers.kept)
            await writers.until(lambda: len(writers.kept) >= before + 50)
            async with asyncio.timeout(SOON):
                assert await anext(heard) is None, "who listens is told to look again"
                await database.transact(lambda tx: tx.notify("a", "x"))
                assert await anext(heard) == "x"
            writers.enough = True
            await asyncio.gather(*tasks)

            sql = "SELECT id FROM jobs"
            found = {job_id for (job_id,) in await database.transact(lambda tx: tx.execute(sql).fetchall())}
            assert {job.id for job in writers.kept} <= found
            seen = []
            await store.admit("projects/p", "", lambda _, load: seen.append(load) or a_record(0), now=NOW)
            assert seen[0].project == len(found)

    async def test_a_restart_is_waited_for(self, server):
        """Who comes while it is away for a moment waits, and is served."""
        async with opened(server.fresh()) as database:
            await database.transact(lambda tx: tx.execute("SELECT 1").fetchone())
            await asyncio.to_thread(server.kill)
            asked = asyncio.create_task(database.transact(lambda tx: tx.execute("SELECT 2").fetchone()))
            await asyncio.to_thread(server.start)
            assert await asked == (2,)
