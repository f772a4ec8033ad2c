"""Transactions that share one of PostgreSQL's: what is kept, what they wait for, and whom one that fails takes along."""

from __future__ import annotations

import asyncio
import threading

import psycopg
import pytest
import pytest_asyncio

from aos.errors import ServiceUnavailable
from aos.store.opening import opened
from aos.store.postgres_wire import PREPARED
from aos.store.reading import at_one_time
from aos.store.sql import SqlDatabase, Transaction

SOON = 20
MAKE = "CREATE TABLE kept (number BIGINT PRIMARY KEY, word TEXT)"


@pytest_asyncio.fixture
async def one(postgres_url):
    """A database with one connection, so that those who wait for it form a group."""
    async with opened(postgres_url, connections=1) as database:
        await database.transact(lambda tx: tx.execute(MAKE) and None)
        yield database


def add(number: int, word: str = ""):
    return lambda tx: tx.execute("INSERT INTO kept (number, word) VALUES (?, ?)", [number, word]) and None


def shared(tx: Transaction) -> int:
    """What tells PostgreSQL's transactions apart."""
    return tx.execute("SELECT CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT)").fetchone()[0]


def waits(tx: Transaction) -> str:
    """What PostgreSQL does at the commit of this transaction, which writes."""
    tx.execute("DELETE FROM kept WHERE number = 0")
    return tx.execute("SELECT current_setting('synchronous_commit')").fetchone()[0]


async def numbers(database: SqlDatabase) -> list[int]:
    return await database.transact(lambda tx: [row["number"] for row in tx.query("SELECT number FROM kept ORDER BY number")])


class Held:
    """A transaction that goes on when it is told to."""

    def __init__(self, database: SqlDatabase, before=lambda tx: None) -> None:
        self._begun, self._go_on = threading.Event(), threading.Event()
        self._task = asyncio.create_task(database.transact(self._work))
        self._before = before

    def _work(self, tx: Transaction) -> None:
        self._before(tx)
        self._begun.set()
        assert self._go_on.wait(SOON)

    async def begun(self) -> None:
        assert await asyncio.to_thread(self._begun.wait, SOON)

    async def end(self) -> None:
        self._go_on.set()
        await self._task


async def together(database: SqlDatabase, *calls):
    """Make the calls while the connection is busy, so that they are a group."""
    held = Held(database)
    await held.begun()
    tasks = [asyncio.create_task(call()) for call in calls]
    await asyncio.sleep(0)
    await held.end()
    async with asyncio.timeout(SOON):
        return await asyncio.gather(*tasks, return_exceptions=True)


class TestGroups:
    async def test_share_a_commit(self, one):
        """Those that wait at the same time are one of PostgreSQL's transactions."""
        found = await together(one, *[lambda: one.transact(shared)] * 5)
        assert len(set(found)) == 1
        assert await one.transact(shared) not in found

    async def test_wait_for_the_disk(self, one):
        """A group does if one of it must; one of which nobody must does not."""
        lazily = lambda: one.transact(waits, durable=False)  # noqa: E731
        assert await together(one, lazily, lazily) == ["off", "off"]
        assert await together(one, lazily, lambda: one.transact(waits)) == ["on", "on"]
        assert [await one.transact(waits, durable=durable) for durable in (True, False)] == ["on", "off"]

    async def test_from_two_loops(self, one):
        """Callers of different event loops share one, and each is told in its own."""
        await one.transact(add(1))
        elsewhere = asyncio.to_thread(lambda: asyncio.run(numbers(one)))
        assert await asyncio.gather(elsewhere, numbers(one)) == [[1], [1]]

    async def test_one_whose_caller_leaves(self, one):
        """Happens whole, and what it told is heard."""
        async with one.listen("a") as heard:
            held = Held(one, lambda tx: tx.notify("a", "x"))
            await held.begun()
            asked = asyncio.create_task(one.transact(add(1)))
            await asyncio.sleep(0)
            asked.cancel()
            held._task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await held.end()
            assert await numbers(one) == [1]
            async with asyncio.timeout(SOON):
                assert await anext(heard) == "x"

    async def test_none_when_it_is_closed(self, postgres_url):
        """Who comes behind the end is refused at once."""
        async with opened(postgres_url) as database:
            pass
        with pytest.raises(ServiceUnavailable):
            await database.transact(shared)


class TestFailures:
    async def test_each_its_own(self, one):
        """What one raises undoes its own writes, and is told to nobody else of its group; nor is what it told."""

        def fails(tx: Transaction) -> None:
            add(2)(tx)
            tx.notify("a", "x")
            raise ValueError("no")

        async with one.listen("a") as heard:
            found = await together(one, *(lambda work=work: one.transact(work) for work in (add(1), fails, add(3))))
            await one.transact(lambda tx: tx.notify("a", "y"))
            async with asyncio.timeout(SOON):
                assert await anext(heard) == "y"
        assert [str(each) for each in found] == ["None", "no", "None"]
        assert await numbers(one) == [1, 3]

    async def test_a_refusal(self, one):
        """One that raises before it writes is told so, and the others of its group are not run again."""
        runs: list[int] = []

        def refuses(tx: Transaction) -> None:
            tx.execute("SELECT 1").fetchone()
            raise ValueError("no")

        def counted(tx: Transaction) -> None:
            runs.append(1)
            add(1)(tx)

        found = await together(one, lambda: one.transact(counted), lambda: one.transact(refuses))

        assert [str(each) for each in found] == ["None", "no"]
        assert (runs, await numbers(one)) == ([1], [1])

    @pytest.mark.parametrize("asked", [True, False])
    async def test_what_the_database_refuses(self, one, asked):
        """Is told to whom it refused, whether the answer was asked for or not; the others are kept."""
        await one.transact(add(1))

        def again(tx: Transaction) -> None:
            written = tx.execute("INSERT INTO kept (number) VALUES (1)")
            assert not asked or written.rowcount

        found = await together(one, *(lambda work=work: one.transact(work) for work in (add(2), again, add(3))))

        assert isinstance(found[1], psycopg.errors.UniqueViolation)
        assert found[::2] == [None, None]
        assert await numbers(one) == [1, 2, 3]

    async def test_nonsense(self, one):
        """A statement that is none spoils nothing, and the connection is used further."""
        found = await together(one, lambda: one.transact(lambda tx: tx.execute("NONSENSE") and None), lambda: one.transact(add(1)))
        assert isinstance(found[0], psycopg.errors.SyntaxError)
        assert await numbers(one) == [1]


class TestAlone:
    async def test_who_takes_a_lock_without_a_row(self, one):
        """Shares with nobody: in a group, whoever locks several might do so in another order than another group."""

        def locks(tx: Transaction) -> int:
            tx.advisory("a")
            return shared(tx)

        found = await together(one, *(lambda work=work: one.transact(work) for work in (shared, locks, shared, locks)))

        assert found[0] == found[2]
        assert len(set(found)) == 3

    @pytest.mark.parametrize("turn", ["", "a"])
    async def test_who_reads_at_one_time(self, one, postgres_url, turn):
        """Shares with nobody either, and those beside it may write, be it in turn or not."""

        def reads(tx: Transaction) -> str:
            at_one_time(tx)
            return tx.execute("SELECT current_setting('transaction_isolation')").fetchone()[0]

        async with opened(postgres_url, connections=1, turn=turn) as other:
            found = await together(other, *(lambda work=work: other.transact(work) for work in (reads, add(1), reads)))

        assert found == ["repeatable read", None, "repeatable read"]
        assert await numbers(one) == [1]


class TestLocks:
    async def test_a_slow_one_holds_nobody_up(self, postgres_url):
        """Others begin on another connection."""
        async with opened(postgres_url) as database:
            held = Held(database)
            await held.begun()
            async with asyncio.timeout(SOON):
                await asyncio.gather(*(database.transact(shared) for _ in range(9)))
            await held.end()

    async def test_one_that_waits_for_another_process(self, one, postgres_url):
        """Lets the others of its group go before, and is done once the lock is free."""
        await one.transact(add(1))
        async with opened(postgres_url) as database, opened(postgres_url) as other:
            lock = "UPDATE kept SET word = word || 'x' WHERE number = 1"
            theirs = Held(other, lambda tx: tx.execute(lock).rowcount)
            await theirs.begun()
            ours = Held(database)
            await ours.begun()
            waiting = asyncio.create_task(database.transact(lambda tx: tx.execute(lock).rowcount))
            behind = [asyncio.create_task(database.transact(add(number))) for number in (2, 3)]
            async with asyncio.timeout(SOON):
                await asyncio.gather(*behind)
            assert not waiting.done()
            await ours.end()
            await theirs.end()
            assert await waiting == 1
            words = await database.transact(lambda tx: tx.execute("SELECT word FROM kept ORDER BY number").fetchall())
        assert words == [("xx",), ("",), ("",)]

    async def test_writers_in_turn(self, one, postgres_url):
        """Where they come one after the other, a second waits for the first's end, and who only reads does not."""
        async with opened(postgres_url, turn="a") as first, opened(postgres_url, turn="a") as second:
            # one that is asked about is on its way
            held = Held(first, lambda tx: tx.execute("INSERT INTO kept (number, word) VALUES (1, '')").rowcount)
            await held.begun()
            writer = asyncio.create_task(second.transact(add(2)))
            await asyncio.sleep(0)
            async with asyncio.timeout(SOON):
                while second.waiting():  # else who reads may share its transaction
                    await asyncio.sleep(0.001)
                assert await numbers(second) == []
                await one.transact(add(3))
            assert not writer.done()
            await held.end()
            async with asyncio.timeout(SOON):
                await writer
            assert await numbers(second) == [1, 2, 3]


class TestStatements:
    async def test_more_than_are_kept_prepared(self, one):
        """Those that were longest not used are prepared anew."""
        for _ in range(2):
            found = await one.transact(lambda tx: [tx.execute(f"SELECT {n}").fetchone()[0] for n in range(PREPARED + 9)])
            assert found == list(range(PREPARED + 9))

    async def test_a_table_that_changes(self, one):
        """A row has its new column at once."""
        read = "SELECT * FROM kept"
        await one.transact(add(1))
        assert [len(row) for row in await one.transact(lambda tx: tx.execute(read).fetchall())] == [2]
        await one.transact(lambda tx: tx.execute("ALTER TABLE kept ADD COLUMN more BIGINT") and None)
        assert [len(row) for row in await one.transact(lambda tx: tx.execute(read).fetchall())] == [3]

    async def test_more_than_fits_a_socket(self, one):
        """Statements and answers may both be larger than what the system holds for either side."""
        word = "x" * (1 << 20)

        def work(tx: Transaction) -> int:
            answers = [tx.execute("SELECT CAST(? AS TEXT)", [word]) for _ in range(12)]
            return sum(len(answer.fetchone()[0]) for answer in answers)

        assert await one.transact(work) == 12 << 20
