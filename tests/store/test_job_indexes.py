"""How the store's queries find their rows: the more jobs there are, the more it matters."""

from __future__ import annotations

import sqlite3

from aos.dispatcher.jobs import State
from aos.dispatcher.listing import JobFilter
from aos.store.jobs import SqlJobStore
from aos.store.sqlite import sqlite_file
from tests.dispatcher.jobs import NOW
from tests.store.test_jobs import assign, kept


async def ask_all(store: SqlJobStore, statements: list[str]) -> None:
    """Call each method, and gather what SQLite is asked."""
    await store._database.transact(lambda db: db.conn.set_trace_callback(statements.append))
    record = await kept(store, request_id="r")
    await store.lease(record.job.id, assign)
    await store.find("projects/p", "r")
    await store.get(record.job.id, project="projects/p")
    await store.page(JobFilter(project="projects/p"), before=9, limit=9, size=10**9)
    await store.page(JobFilter(project="projects/p", user="u"), before=9, limit=9, size=10**9)
    await store.page(JobFilter(project="projects/p", states=frozenset({State.FAILED})), before=9, limit=9, size=10**9)
    await store.purge(ended_before=NOW, project=None, limit=9)
    await store.purge_beyond(1, own={}, limit=9)
    await store.standing(record.job.id, project=None)
    (await store.behind(record.job.id, project=None, after=0, limit=9))[1]
    await store.output(record.job.id)
    await store.waiting()
    await store.leased()
    await store.due(NOW, limit=9)
    await store.pending(limit=9)
    await store.unsettled(limit=9)
    await store.money(record.job.id)
    await store.forget(record.job.id)
    await store._database.transact(lambda db: db.conn.set_trace_callback(None))


class TestIndexes:
    async def test_every_query_has_one(self, tmp_path):
        """No query of the store goes through all jobs of the file."""
        statements: list[str] = []
        async with sqlite_file(tmp_path / "jobs.db") as file:
            await file.migrate("jobs")
            await ask_all(SqlJobStore(file, node="1"), statements)

        looked = {sql for sql in statements if sql.lstrip().startswith(("SELECT", "UPDATE", "DELETE"))}
        scans = []
        with sqlite3.connect(tmp_path / "jobs.db") as db:
            for sql in looked:
                plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}")]
                # a walk along an index is bounded by what the index holds, or by LIMIT
                scans += [
                    (sql, step) for step in plan if step.startswith("SCAN") and "INDEX" not in step and step != "SCAN CONSTANT ROW"
                ]
        db.close()
        assert len(looked) >= 14
        assert scans == []
