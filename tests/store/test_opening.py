"""Which databases there are, what is said of others, and how tables come up to date."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from aos.errors import InvalidField, ServiceUnavailable
from aos.store.opening import migrate_all, opened
from aos.store.placeholders import with_numbers
from aos.store.schema import NAMES, POSTGRES

SECRET = "pass-word"


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        return {name for (name,) in rows}


class TestAddresses:
    @pytest.mark.parametrize(
        "address",
        [
            "mysql://aos@host/aos",
            "postgresql://[::1",
            f"postgresql://aos:{SECRET}@host:port/aos",
            f"postgresql://aos:{SECRET}@/aos?nonsense=1",
            f"postgresql://aos:{SECRET}@%zz/aos",
        ],
    )
    async def test_junk(self, address):
        """What is no address of a database is refused in a sentence that has no password."""
        with pytest.raises(InvalidField, match="database") as refused:
            async with opened(address):
                pass
        assert SECRET not in str(refused.value)
        assert SECRET not in str(refused.value.facts)

    async def test_refused(self, postgres):
        """What the server says comes with it: here that there is no such database."""
        with pytest.raises(InvalidField, match='database "nowhere" does not exist'):
            async with opened(postgres.url("nowhere")):
                pass

    async def test_closed(self, postgres_url):
        """A pool that was closed says that the database is away."""
        async with opened(postgres_url) as database:
            await database.transact(lambda tx: tx.execute("SELECT 1").fetchone())
        with pytest.raises((ServiceUnavailable, RuntimeError)):
            await database.transact(lambda tx: tx.execute("SELECT 1").fetchone())


class TestMigrations:
    async def test_from_nothing(self, postgres):
        """All tables come up in an empty database; again, and from several processes at once, nothing happens."""
        url = postgres.fresh("template0")
        try:
            async with opened(url) as one, opened(url) as other:
                await asyncio.gather(migrate_all(one), migrate_all(other), migrate_all(one))
                made = tables(url)
                await migrate_all(other)
        finally:
            postgres.drop(url)
        assert {"projects", "jobs", "job_events", "controllers", "questions", "aos_migrations"} <= made

    async def test_in_a_file(self, tmp_path):
        """The same sets of tables come up in an empty file, and nothing happens the second time."""
        async with opened(tmp_path / "aos.db") as database:
            await migrate_all(database)
            await migrate_all(database)
            rows = await database.transact(lambda tx: tx.execute("SELECT name FROM sqlite_master").fetchall())
        assert {("projects",), ("jobs",), ("job_events",), ("controllers",), ("questions",)} <= set(rows)

    def test_their_names(self):
        """Each set has its folder, and no file has the name of another set's: PostgreSQL knows by it what it has had."""
        files = [path for name in NAMES for path in (POSTGRES / name).glob("*.sql")]
        assert {path.parent.name for path in files} == set(NAMES) == {path.name for path in POSTGRES.iterdir()}
        assert len({path.name for path in files}) == len(files)


class TestMarks:
    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            ("a = ? AND b = ?", "a = $1 AND b = $2"),
            ("a = :a AND b = :b_1 AND c = :a", "a = $1 AND b = $2 AND c = $1"),
            ("a = '?:x%' AND \"?\" = ?", "a = '?:x%' AND \"?\" = $1"),
            ("'it''s ?' ? ?::text[]", "'it''s ?' $1 $2::text[]"),
            ("a % 64", "a % 64"),
        ],
    )
    def test_are_the_servers(self, ours, theirs):
        """Only what stands for a value is changed: nothing within quotes, and no cast."""
        assert with_numbers(ours).sql == theirs

    def test_values_in_their_order(self):
        """A name that stands twice is one value."""
        assert with_numbers("a = :a AND b = :b AND c = :a").values({"b": 2, "a": 1, "other": 3}) == [1, 2]
        assert with_numbers("a = ? AND b = ?").values((1, 2)) == [1, 2]

    @pytest.mark.parametrize(
        ("sql", "reads"),
        [
            ("SELECT a FROM b", True),
            ("SELECT a FROM b FOR NO KEY UPDATE SKIP LOCKED", False),
            ("WITH a AS (DELETE FROM b) SELECT 1", False),
            ("UPDATE a SET b = 1", False),
        ],
    )
    def test_what_only_reads(self, sql, reads):
        """Is known of a statement, so that what need not wait for others does not."""
        assert with_numbers(sql).reads == reads
