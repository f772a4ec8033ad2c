"""What a transaction keeps and undoes, on either database, and what PostgreSQL needs besides."""

from __future__ import annotations

import asyncio
import threading

import psycopg
import pytest
import pytest_asyncio

from aos.errors import InvalidField
from aos.store.opening import opened
from aos.store.sql import Transaction


@pytest_asyncio.fixture
async def kept(database):
    """A database with a table of numbers."""
    await database.transact(lambda tx: tx.execute("CREATE TABLE kept (number BIGINT PRIMARY KEY, word TEXT)") and None)
    return database


def add(number: int, word: str = ""):
    return lambda tx: tx.execute("INSERT INTO kept (number, word) VALUES (?, ?)", [number, word]) and None


async def numbers(database) -> list[int]:
    return await database.transact(lambda tx: [row["number"] for row in tx.query("SELECT number FROM kept ORDER BY number")])


class TestTransactions:
    async def test_what_raises_is_undone(self, kept):
        """All of it, and nothing of those beside it."""

        def fails(tx: Transaction) -> None:
            add(2)(tx)
            raise KeyError("no")

        results = await asyncio.gather(*map(kept.transact, (add(1), fails, add(3))), return_exceptions=True)

        assert [str(one) for one in results] == ["None", "'no'", "None"]
        assert await numbers(kept) == [1, 3]

    async def test_values(self, kept):
        """Values come back as they went in, whatever their size and whatever stands in them; rows have names."""
        word = "a?:b%s'\"\\"
        for number in (0, -1, 1 << 40, (1 << 63) - 1):
            await kept.transact(add(number, word))
        found = await kept.transact(lambda tx: list(tx.query("SELECT number, word AS said FROM kept WHERE number > :n", {"n": 0})))
        assert sorted(row["number"] for row in found) == [1 << 40, (1 << 63) - 1]
        assert {row["said"] for row in found} == {word}

    async def test_how_many_wait(self, database_address):
        """It is known how many transactions were asked for and have not begun."""
        begun, go = threading.Event(), threading.Event()

        def long(_: Transaction) -> None:
            begun.set()
            assert go.wait(20)

        async with opened(database_address, connections=1) as database:
            first = asyncio.create_task(database.transact(long))
            assert await asyncio.to_thread(begun.wait, 20)
            assert database.waiting() == 0
            others = [asyncio.create_task(database.transact(lambda _: None)) for _ in range(3)]
            await asyncio.sleep(0)
            assert database.waiting() == 3
            go.set()
            await asyncio.gather(first, *others)
            assert database.waiting() == 0

    async def test_how_many(self, kept):
        """A statement says how many rows it wrote."""

        def work(tx: Transaction) -> list[int]:
            for number in range(5):
                add(number)(tx)
            return [tx.execute("DELETE FROM kept WHERE number < ?", [most]).rowcount for most in (3, 3)]

        assert await kept.transact(work) == [3, 0]

    async def test_not_durable(self, kept):
        """What need not outlive a loss of power is there at once, too."""
        await kept.transact(add(1), durable=False)
        assert await numbers(kept) == [1]


class TestConflicts:
    async def test_two_that_make_one_row(self, postgres_url):
        """Who looked before the other's row was there is run again, and sees it."""
        looked = threading.Barrier(2)

        def work(tx: Transaction) -> str:
            row = tx.execute("SELECT word FROM kept WHERE number = 1").fetchone()
            if row is not None:
                return "found"
            looked.wait(20)
            add(1)(tx)
            return "made"

        async with opened(postgres_url) as database, opened(postgres_url) as other:
            await database.transact(lambda tx: tx.execute("CREATE TABLE kept (number BIGINT PRIMARY KEY, word TEXT)") and None)
            assert sorted(await asyncio.gather(database.transact(work), other.transact(work))) == ["found", "made"]

    async def test_two_that_wait_for_each_other(self, postgres_url):
        """PostgreSQL ends one of them, which is run again: both are kept."""
        both = threading.Barrier(2)

        def work(first: int, second: int):
            waits = [both]

            def one(tx: Transaction) -> None:
                tx.execute("UPDATE kept SET word = word || 'x' WHERE number = ?", [first]).rowcount  # noqa: B018  # waits for it
                while waits:
                    waits.pop().wait(20)
                tx.execute("UPDATE kept SET word = word || 'x' WHERE number = ?", [second])

            return one

        async with opened(postgres_url) as database, opened(postgres_url) as other:
            await database.transact(lambda tx: tx.execute("CREATE TABLE kept (number BIGINT PRIMARY KEY, word TEXT)") and None)
            await asyncio.gather(database.transact(add(1)), database.transact(add(2)))
            await asyncio.gather(database.transact(work(1, 2)), other.transact(work(2, 1)))
            words = await database.transact(lambda tx: [row["word"] for row in tx.query("SELECT word FROM kept")])
        assert words == ["xx", "xx"]

    async def test_one_that_never_can(self, postgres_url):
        """A row that is there already is an error in the end, and so is a statement that is none."""
        async with opened(postgres_url) as database:
            await database.transact(lambda tx: tx.execute("CREATE TABLE kept (number BIGINT PRIMARY KEY, word TEXT)") and None)
            await database.transact(add(1))
            with pytest.raises(psycopg.errors.UniqueViolation):
                await database.transact(add(1))
            with pytest.raises(psycopg.errors.SyntaxError):
                await database.transact(lambda tx: tx.execute("NONSENSE").fetchone())
            with pytest.raises(InvalidField, match="NUL"):
                await database.transact(add(2, "a\0b"))
            assert await numbers(database) == [1]
