"""Controllers and tags, in either database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from aos.dispatcher.controller_rules import Module, Tag, Usage
from aos.errors import ControllerNotFound
from aos.store.controllers import SqlControllerStore

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def a_module(number: int = 1, size: int = 10) -> Module:
    return Module(bytes([number]) * 32, size, 100, "mid_process", NOW)


@pytest_asyncio.fixture
async def store(database) -> SqlControllerStore:
    await database.migrate("controllers")
    return SqlControllerStore(database)


async def add(store, module: Module, owner: str = "p") -> Usage | None:
    """Keep it; return what the store says that the owner keeps besides, if it asks."""
    seen: list[Usage] = []
    await store.add(module, owner, seen.append)
    return seen[0] if seen else None


async def tag(store, name: str, number: int = 1, by: str = "p") -> int:
    def decide(existing, usage):
        return [Tag(name, bytes([number]) * 32, NOW, by)]

    (kept,) = await store.set_tags([name], bytes([number]) * 32, by, decide)
    return kept.number


class TestModules:
    async def test_they_come_back_as_they_were(self, store):
        """To the microsecond; a second one of the same digest changes nothing."""
        await add(store, a_module())
        await add(store, Module(a_module().digest, 99, 99, "other", NOW), "q")
        assert await store.get(a_module().digest) == a_module()
        with pytest.raises(ControllerNotFound):
            await store.get(bytes(32))

    async def test_what_an_owner_keeps_is_counted(self, store):
        """Its own, each once; who has a module is not asked again."""
        assert await add(store, a_module(1, 10)) == Usage(0, 0, 0)
        assert await add(store, a_module(2, 20)) == Usage(1, 10, 0)
        assert await add(store, a_module(2, 20)) is None
        assert await add(store, a_module(2, 20), "q") == Usage(0, 0, 0)
        await tag(store, "a")
        assert await store.usage("p") == Usage(2, 30, 1)
        assert await store.has("q", a_module(2).digest)
        assert not await store.has("q", a_module(1).digest)

    async def test_a_refusal_keeps_nothing(self, store):
        """Neither the module nor that it is the owner's."""

        def refuse(usage):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await store.add(a_module(), "p", refuse)
        assert await store.usage("p") == Usage()
        with pytest.raises(ControllerNotFound):
            await store.get(a_module().digest)


class TestTags:
    async def test_numbers_rise(self, store):
        """Also when a tag is set again, and when many are set at once."""
        await add(store, a_module())
        names = ["a", "b", "a", "c", "b"]
        numbers = [await tag(store, name) for name in names]
        numbers += await asyncio.gather(*(tag(store, f"t{number}") for number in range(20)))
        assert len(set(numbers)) == len(numbers)
        listed = await store.tags(before=None, limit=100)
        assert [one.number for one in listed] == sorted((one.number for one in listed), reverse=True)
        assert [one.tag.name for one in listed][-3:] == ["b", "c", "a"]

    async def test_they_are_of_a_module_that_is_there(self, store):
        """Or nothing is set, and nothing decided."""
        with pytest.raises(ControllerNotFound):
            await tag(store, "a")
        assert await store.tag("a") is None

    async def test_a_modules_tags(self, store):
        """Those that stand for it now, those set last first, so many as are wanted."""
        await add(store, a_module(1))
        await add(store, a_module(2))
        for name in "abc":
            await tag(store, name)
        await tag(store, "b", number=2)
        assert await store.tags_of(a_module(1).digest, limit=10) == ["c", "a"]
        assert await store.tags_of(a_module(1).digest, limit=1) == ["c"]
        kept = await store.tag("b")
        assert kept is not None
        assert (kept.tag.digest, kept.module) == (a_module(2).digest, a_module(2))
