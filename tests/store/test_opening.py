"""Which databases there are, what is said of others, and how tables come up to date."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from aos.errors import InvalidField, ServiceUnavailable
from aos.store.opening import migrate_all, opened
from aos.store.placeholders import with_percents
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
            ("a = ? AND b = :b_1", "a = %s AND b = %(b_1)s"),
            ("a = '?:x%' AND \"?\" = ?", "a = '?:x%%' AND \"?\" = %s"),
            ("'it''s ?' ? ?::text[]", "'it''s ?' %s %s::text[]"),
            ("a % 64", "a %% 64"),
        ],
    )
    def test_are_the_drivers(self, ours, theirs):
        """Only what stands for a value is changed: nothing within quotes, and no cast."""
        assert with_percents(ours) == theirs
