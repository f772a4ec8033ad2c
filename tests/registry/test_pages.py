"""Lists that everybody asks for are read once a change."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from aos.registry.pages import PAGES, Pages
from aos.testing.clock import ManualClock
from aos.v1 import registry_pb2 as pb
from aos.verification.keys import OperatorKey
from tests.registry.conftest import Harness, an_offer, running

START = ManualClock().now()
LATER = START + timedelta(seconds=5)


class Numbers:
    """Pages that say how often they were read."""

    def __init__(self, until=None) -> None:
        self.reads, self.until = 0, until

    async def read(self):
        self.reads += 1
        return self.reads, self.until


class TestPages:
    async def test_read_once(self):
        """A page is read when it is asked for first, and again in another state only."""
        numbers, pages = Numbers(), Pages[int]()
        first = [await pages.get("a", 1, START, numbers.read) for _ in range(3)]
        again = [await pages.get("a", 2, START, numbers.read) for _ in range(3)]

        assert (first, again) == ([1, 1, 1], [2, 2, 2])

    async def test_each_by_itself(self):
        """What was asked for decides."""
        numbers, pages = Numbers(), Pages[int]()

        assert [await pages.get(asked, 1, START, numbers.read) for asked in "aba"] == [1, 2, 1]

    async def test_until_time_changes_it(self):
        """From then on it is read again."""
        numbers, pages = Numbers(LATER), Pages[int]()
        assert [await pages.get("a", 1, START, numbers.read) for _ in range(2)] == [1, 1]

        numbers.until = None
        assert [await pages.get("a", 1, LATER, numbers.read) for _ in range(2)] == [2, 2]

    async def test_so_many(self):
        """Whoever asks for ever other pages gets them, and fills no memory."""
        numbers, pages = Numbers(), Pages[int]()
        for asked in range(PAGES):
            await pages.get(asked, 1, START, numbers.read)

        assert await pages.get("more", 1, START, numbers.read) == PAGES + 1
        assert await pages.get("more", 1, START, numbers.read) == PAGES + 2
        assert await pages.get(0, 1, START, numbers.read) == 1


class Shown:
    """A registry, and its tables behind its back."""

    def __init__(self, registry: Harness, path: Path) -> None:
        self._registry, self._path = registry, path

    async def models(self) -> list[str]:
        return [one.name for one in (await self._registry.stub.ListModels(pb.ListModelsRequest())).models]

    def empty(self) -> None:
        """Remove all operators: whoever reads sees it."""
        with sqlite3.connect(self._path) as db:
            for table in ("registry_offers", "registry_operators"):
                db.execute(f"DELETE FROM {table}")
        db.close()


class TestModels:
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    async def test_nothing_is_read_while_nothing_has_changed(self, tmp_path: Path, clock: ManualClock):
        """The list comes from memory until somebody registers, or a lease is over."""
        path, key = tmp_path / "aos.db", OperatorKey.create()
        async with running(path, clock=clock) as registry:
            shown = Shown(registry, path)
            await registry.register(key, an_offer("m"), an_offer("n"))
            assert await shown.models() == ["m", "n"]
            shown.empty()
            assert await shown.models() == ["m", "n"]
            await registry.register(OperatorKey.create(), an_offer("o"))
            assert await shown.models() == ["o"]
            shown.empty()
            clock.advance(hours=24)
            assert await shown.models() == []
