"""What the dispatcher remembers of tokens, and when it forgets."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from aos.dispatcher.projects import Project
from aos.dispatcher.tokens import REMEMBERED, ProjectAuthenticator
from aos.rpc.auth import Caller, Kind, hash_token
from aos.store.projects import MIGRATIONS, SqlProjectStore
from aos.store.sqlite import sqlite_file

P = Caller(Kind.PROJECT, "projects/p")


class Watched(SqlProjectStore):
    """A real store that counts its look-ups, and can hold one answer back."""

    looked = 0

    def __init__(self, file) -> None:
        super().__init__(file)
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.found = asyncio.Event()

    async def holder(self, token_hash: str) -> str | None:
        self.looked += 1
        found = await super().holder(token_hash)
        self.found.set()
        await self.let_go.wait()
        return found


class TestProjectAuthenticator:
    async def test_asks_once(self):
        """A token that was looked up is known without asking again; one that nobody holds is not."""
        async with sqlite_file(":memory:", MIGRATIONS) as file:
            store = Watched(file)
            await store.create(Project("p", hash_token("secret"), datetime.now(UTC)))
            who = ProjectAuthenticator(store)

            assert [await who("secret"), await who("secret"), await who("guess"), await who("")] == [P, P, None, None]
            assert store.looked == 2

    async def test_rotation_overtakes_a_look_up(self):
        """A look-up that began before a rotation and ends after it is not remembered."""
        async with sqlite_file(":memory:", MIGRATIONS) as file:
            store = Watched(file)
            await store.create(Project("p", hash_token("old"), datetime.now(UTC)))
            who = ProjectAuthenticator(store)
            store.let_go.clear()
            early = asyncio.create_task(who("old"))
            await store.found.wait()
            await store.rotate("p", hash_token("new"))
            who.forget("projects/p")
            store.let_go.set()

            assert await early == P
            assert await who("old") is None
            assert await who("new") == P

    async def test_memory_is_bounded(self):
        """However many projects call, only so many tokens are kept in memory."""
        async with sqlite_file(":memory:", MIGRATIONS) as file:
            store = Watched(file)
            who = ProjectAuthenticator(store)
            for number in range(REMEMBERED + 10):
                await store.create(Project(f"p{number}", hash_token(f"t{number}"), datetime.now(UTC)))
                await who(f"t{number}")
            store.looked = 0

            assert await who(f"t{REMEMBERED + 9}") == Caller(Kind.PROJECT, f"projects/p{REMEMBERED + 9}")
            assert store.looked == 0
            assert await who("t0") == Caller(Kind.PROJECT, "projects/p0")
            assert store.looked == 1
