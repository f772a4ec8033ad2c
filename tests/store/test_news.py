"""What transactions tell, and who hears it, on either database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from aos.store.listeners import UNREAD
from aos.store.opening import opened
from aos.store.sql import SqlDatabase, Transaction

SOON = 20
"""Seconds after which something that should be heard will not be."""


async def heard(news: AsyncIterator[str | None]) -> str | None:
    return await asyncio.wait_for(anext(news), SOON)


async def say(database: SqlDatabase, *payloads: str, channel: str = "a") -> None:
    def work(tx: Transaction) -> None:
        for payload in payloads:
            tx.notify(channel, payload)

    await database.transact(work)


class TestNotes:
    async def test_heard_when_kept(self, database):
        """In order, by all who listen to that channel, and by nobody else."""
        async with database.listen("a") as one, database.listen("a") as other, database.listen("b") as apart:
            await say(database, "1", "2 3")
            await say(database, "4", channel="b")
            await say(database, "5")

            assert [await heard(one) for _ in range(3)] == ["1", "2 3", "5"]
            assert [await heard(other) for _ in range(3)] == ["1", "2 3", "5"]
            assert await heard(apart) == "4"

    async def test_not_heard_when_undone(self, database):
        """A transaction that raises tells nothing."""

        def fails(tx: Transaction) -> None:
            tx.notify("a", "lost")
            raise KeyError

        async with database.listen("a") as news:
            results = await asyncio.gather(
                *(database.transact(fails) for _ in range(3)), say(database, "kept"), return_exceptions=True
            )

            assert [type(one) for one in results] == [KeyError, KeyError, KeyError, type(None)]
            assert await heard(news) == "kept"

    async def test_too_much_unread(self, database):
        """Who reads too late is told to look again instead."""
        async with database.listen("a") as news, database.listen("b") as other:
            await say(database, *map(str, range(UNREAD + 5)))
            await say(database, "end", channel="b")
            while await heard(other) != "end":
                pass

            rest = [await heard(news)]
            while rest[-1] != str(UNREAD + 4):
                rest.append(await heard(news))

        assert rest[0] is None
        assert len(rest) == 6

    async def test_beyond_this_process(self, postgres_url):
        """Every pool of a PostgreSQL database hears what each tells."""
        async with (
            opened(postgres_url) as one,
            opened(postgres_url) as other,
            one.listen("a") as here,
            other.listen("a") as there,
        ):
            await say(one, "x")
            assert [await heard(here), await heard(there)] == ["x", "x"]

    async def test_a_note_has_a_limit(self, postgres_url):
        """PostgreSQL takes no more than 8000 bytes: more is a mistake of whoever tells it, and undoes the transaction."""
        async with opened(postgres_url) as database:
            with pytest.raises(ValueError, match="7000"):
                await say(database, "ä" * 3501)
