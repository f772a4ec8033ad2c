"""The file and its thread: what is kept, when the disk is waited for, and what those who wait are told."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from sqlite_utils import Database

from aos.store.sqlite import SqliteFile, sqlite_file
from aos.store.sqlite_checkpoints import EVERY, RESTART_PAGES

NORMAL, FULL = 1, 2


@pytest.fixture
async def file(tmp_path):
    async with sqlite_file(tmp_path / "aos.db") as opened:
        await opened.transact(lambda db: db.execute("CREATE TABLE kept (number INTEGER)") and None)
        yield opened


def add(number: int):
    return lambda db: db.execute("INSERT INTO kept VALUES (?)", [number]) and None


def waits(db: Database) -> int:
    """What SQLite does at the commit of this transaction."""
    return db.execute("PRAGMA synchronous").fetchone()[0]


async def numbers(file: SqliteFile) -> list[int]:
    return await file.transact(lambda db: [row["number"] for row in db.query("SELECT number FROM kept ORDER BY number")])


async def together(file: SqliteFile, *calls):
    """Make the calls while the thread is busy, so that they share a commit."""
    begun, go_on = threading.Event(), threading.Event()

    def busy(_: Database) -> None:
        begun.set()
        go_on.wait()

    first = asyncio.create_task(file.transact(busy))
    await asyncio.to_thread(begun.wait)
    tasks = [asyncio.create_task(call()) for call in calls]
    await asyncio.sleep(0)
    go_on.set()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


class TestDisk:
    async def test_waited_for(self, file):
        """A transaction waits for the disk, unless its caller said that it need not."""
        found = [await file.transact(waits, durable=one) for one in (True, False, False, True)]
        assert found == [FULL, NORMAL, NORMAL, FULL]

    async def test_by_all_of_a_group(self, file):
        """Those that share a commit wait for the disk if one of them must."""
        found = await together(file, lambda: file.transact(waits, durable=False), lambda: file.transact(waits))
        assert found == [FULL, FULL]

    async def test_kept_without_waiting(self, file, tmp_path):
        """What is not waited for is there at once, for other processes, too."""
        await file.transact(add(1), durable=False)
        with sqlite3.connect(tmp_path / "aos.db") as other:
            assert other.execute("SELECT number FROM kept").fetchall() == [(1,)]


class TestCallers:
    async def test_who_leaves(self, file):
        """What a caller asked for happens, whether it still waits or not."""
        begun, go_on = threading.Event(), threading.Event()

        def work(db: Database) -> None:
            begun.set()
            go_on.wait()
            add(1)(db)

        task = asyncio.create_task(file.transact(work))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        assert await numbers(file) == [1]

    async def test_each_its_own_error(self, file):
        """What one raises undoes its own writes, and is told to nobody else of its group."""

        def fails(db: Database) -> None:
            add(2)(db)
            raise ValueError("no")

        found = await together(file, lambda: file.transact(add(1)), lambda: file.transact(fails), lambda: file.transact(add(3)))

        assert [str(one) for one in found] == ["None", "no", "None"]
        assert await numbers(file) == [1, 3]

    async def test_run_once_beside_a_refusal(self, file):
        """One that refuses before it writes anything is told so, and the others of its group are not run again."""
        runs: list[int] = []

        def refuses(db: Database) -> None:
            raise ValueError("no")

        def counted(db: Database) -> None:
            runs.append(1)
            add(1)(db)

        found = await together(file, lambda: file.transact(counted), lambda: file.transact(refuses))

        assert [str(one) for one in found] == ["None", "no"]
        assert (runs, await numbers(file)) == ([1], [1])

    async def test_alone_and_failing(self, file):
        """What one that shares its commit with nobody wrote before it failed is undone."""

        def fails(db: Database) -> None:
            add(2)(db)
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await file.transact(fails)
        assert await numbers(file) == []

    async def test_from_two_loops(self, file):
        """Callers of different event loops share a commit, and each is told in its own."""

        def elsewhere() -> list[int]:
            return asyncio.run(numbers(file))

        await file.transact(add(1))
        assert await asyncio.gather(asyncio.to_thread(elsewhere), numbers(file)) == [[1], [1]]


class TestLast:
    async def test_once(self, file):
        """What transactions of one commit leave to be written last is written once, as the last of them said."""
        await together(file, *(partial(file.transact, last(number)) for number in (1, 2, 3)))

        assert await numbers(file) == [3]

    async def test_beside_one_that_is_undone(self, file):
        """It is written though another transaction that shares the commit is undone."""

        def spoilt(db: Database) -> None:
            add(9)(db)
            raise KeyError

        await together(file, lambda: file.transact(last(1)), lambda: file.transact(spoilt))

        assert await numbers(file) == [1]

    async def test_forgotten_with_its_own(self, file):
        """Nothing is written for a transaction that was undone alone, nor by the next one."""

        def spoilt(db) -> None:
            last(9)(db)
            add(9)(db)
            raise KeyError

        with pytest.raises(KeyError):
            await file.transact(spoilt)
        await file.transact(add(1))

        assert await numbers(file) == [1]


def last(number: int):
    """Leave a number to be written last."""

    def work(db) -> None:
        db.last["number"] = partial(add(number), db)

    return work


class TestRemembered:
    async def test_until_another_writes(self, file, tmp_path):
        """What a transaction remembers is there for later ones, whatever they write, until somebody else writes to the file."""
        await file.transact(lambda db: db.remembered.update(one=1))
        await file.transact(add(1))
        assert await file.transact(lambda db: dict(db.remembered)) == {"one": 1}

        with closing(sqlite3.connect(tmp_path / "aos.db")) as other, other:
            other.execute("INSERT INTO kept VALUES (2)")

        assert await file.transact(lambda db: dict(db.remembered)) == {}


class TestOthers:
    async def test_who_writes_after_reading(self, file, tmp_path):
        """Waits for another process that has the lock just then, and is not refused."""

        def work(db: Database) -> None:
            list(db.query("SELECT number FROM kept"))
            add(1)(db)

        with closing(sqlite3.connect(tmp_path / "aos.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            task = asyncio.create_task(file.transact(work))
            await asyncio.wait([task], timeout=0.2)
            other.execute("COMMIT")
            await task
        assert await numbers(file) == [1]


class TestLog:
    async def test_moved(self, tmp_path):
        """What is committed comes into the file by itself, without a commit that waits for that."""
        path = tmp_path / "aos.db"
        async with sqlite_file(path) as file:
            await file.transact(lambda db: db.execute("CREATE TABLE kept (number INTEGER)") and None)
            for number in range(EVERY):
                await file.transact(add(number))
            found = await until(partial(asyncio.to_thread, without_log, path), bool)
        assert found == list(range(len(found)))

    async def test_begun_anew(self, tmp_path):
        """A log that has become large is used from its beginning again, so that it does not grow without end."""
        path, log = tmp_path / "aos.db", tmp_path / "aos.db-wal"
        async with sqlite_file(path) as file:
            await file.transact(lambda db: db.execute("CREATE TABLE kept (number BLOB)") and None)
            await file.transact(lambda db: db.execute("INSERT INTO kept VALUES (zeroblob(?))", [RESTART_PAGES * 4096]) and None)
            largest = 0

            async def grows() -> bool:
                nonlocal largest
                before = largest
                for number in range(EVERY):
                    await file.transact(add(number))
                largest = log.stat().st_size
                return largest > before

            await grows()
            # what is written then has its place in what the log was before
            await until(grows, lambda still: not still)


def without_log(path: Path) -> list[int]:
    """What is in the file, as if it had no log."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        try:
            return [row[0] for row in connection.execute("SELECT number FROM kept ORDER BY number")]
        except sqlite3.DatabaseError:  # nothing is there yet, or just half of what is being moved
            return []


async def until(look, good):
    """Look again and again, for 30 s at most, until it is good."""
    async with asyncio.timeout(30):
        while not good(found := await look()):
            await asyncio.sleep(0.01)
    return found
