"""How often the registry's tables are asked for a list: the same, however long it is."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from aos.registry.leases import Lease, Offered, Registration
from aos.registry.offers import Offer
from aos.registry.projects import Seen, Wanted, register
from aos.registry.settings import RegistrySettings
from aos.registry.specs import Kind, Spec
from aos.registry.store import Change, Kept
from aos.registry.watching import Shared, whole
from aos.store.registry import SqlRegistryStore
from aos.store.registry_projects import SqlAiProjectStore
from aos.store.sqlite import sqlite_file
from aos.v1 import registry_pb2 as pb
from tests.dispatcher.jobs import NOW

TERMS = RegistrySettings().terms
FAR = NOW + timedelta(days=1)


@asynccontextmanager
async def stores(tmp_path):
    """Both stores over one file, and what the file was asked since the list was last emptied."""
    async with sqlite_file(tmp_path / "r.db") as file:
        await file.migrate("registry", "registry_projects")
        asked: list[str] = []

        def seen(sql: str) -> None:
            if "FROM registry" in sql:
                asked.append(sql)

        await file.transact(lambda db: db.conn.set_trace_callback(seen))
        yield SqlRegistryStore(file), SqlAiProjectStore(file, TERMS), asked


def an_operator(number: int) -> Registration:
    offers = [Offer(f"m{index}", "aa" * 32, 9, False, 1, 1, 1, False, False) for index in range(number % 3)]
    return Registration(Lease(f"0x{number:040x}", NOW, FAR), tuple(Offered(one, NOW) for one in offers), 1, ("x",))


async def filled(operators, projects, count: int) -> list[Registration]:
    made = [an_operator(number) for number in range(count)]
    for number, one in enumerate(made):
        await operators.change(one.lease.operator, lambda _, one=one: Kept(one), now=NOW)
        specs = tuple(Spec(f"m{index}", "http://127.0.0.1/", Kind.TEXT, "", "127.0.0.1") for index in range(1 + number % 3))
        wanted = Wanted(f"p{number:03d}", "", "", specs)
        project = register(None, wanted, now=NOW, terms=TERMS, lease_id=f"{number}")
        await projects.change(wanted.name, "x", "", lambda _, project=project: Change(project, Seen()), now=NOW)
    return made


class TestPages:
    async def test_a_page_is_a_few_reads(self, tmp_path):
        """Twenty operators, or projects, with all that is theirs, take no more of them than one does."""
        async with stores(tmp_path) as (operators, projects, asked):
            made = await filled(operators, projects, 20)
            counts: dict[tuple[str, int], int] = {}
            for limit in (1, 20):
                asked.clear()
                page = await operators.page(after="", limit=limit, since=NOW)
                counts["operators", limit] = len(asked)
                assert list(page) == made[:limit]
                asked.clear()
                found = await projects.page(after="", limit=limit, replicas=1000)
                counts["projects", limit] = len(asked)
                assert [(one.name, len(one.replicas)) for one in found] == [
                    (f"p{number:03d}", 1 + number % 3) for number in range(limit)
                ]

        assert counts["operators", 20] == counts["operators", 1]
        assert counts["projects", 20] == counts["projects", 1]

    async def test_a_page_ends_before_too_many_replicas(self, tmp_path):
        """But it has one project at least."""
        async with stores(tmp_path) as (operators, projects, _):
            await filled(operators, projects, 6)
            sizes = [len(await projects.page(after="", limit=9, replicas=most)) for most in (0, 1, 3, 5, 6, 99)]

        assert sizes == [1, 1, 2, 2, 3, 6]


class TestShared:
    @pytest.mark.parametrize(("version", "later", "reads"), [(1, 0, 1), (2, 0, 2), (1, 29, 1), (1, 30, 2)])
    async def test_read_once_a_change(self, version, later, reads):
        """All who watch share what was read last, until there is something newer, or time changes it."""
        operator = pb.OperatorInfo(name="operators/0x")
        operator.expires.FromDatetime(NOW + timedelta(seconds=30))
        count, shared = 0, Shared()
        for wanted, now in ((1, NOW), (version, NOW + timedelta(seconds=later))):

            async def read(now=now):
                nonlocal count
                count += 1
                return whole([], [operator], now, timedelta(seconds=60))

            await asyncio.gather(*(shared.get(wanted, now, read) for _ in range(5)))

        assert count == reads
