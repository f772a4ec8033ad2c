"""Several registries over one database: what one is told, those who watch another see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
import pytest_asyncio

from aos.registry.challenger import Challenger
from aos.registry.challenges import CHALLENGE_SECONDS, SECRET_SECONDS, SKEW_SECONDS
from aos.registry.changes import Changes, ageing, hearing
from aos.registry.leases import Proof, Registration, register
from aos.registry.offers import Offer
from aos.registry.operator_log import lapsed
from aos.registry.projects import Seen, Wanted
from aos.registry.projects import register as register_project
from aos.registry.replicas import Entry, Project, settle
from aos.registry.settings import RegistrySettings
from aos.registry.specs import Kind, Spec
from aos.registry.store import Change, Kept
from aos.store.opening import opened
from aos.store.registry import SqlRegistryStore
from aos.store.registry_projects import SqlAiProjectStore
from aos.store.registry_secrets import SqlSecretStore
from aos.store.sql import Dialect, SqlDatabase
from aos.testing.clock import START, ManualClock
from aos.v1 import registry_pb2 as pb
from aos.verification.keys import OperatorKey
from tests.refusals import reason_of, refused
from tests.registry.conftest import Harness, an_offer, running_over
from tests.registry.projects import end, put, say, shown
from tests.registry.test_attested_keys import DEVELOPMENT, Declaring
from tests.registry.test_replicas import watching

WITHIN = 20
"""Seconds that something that must come about gets."""
SETTINGS = RegistrySettings()


@asynccontextmanager
async def connections(address: str, count: int = 2) -> AsyncGenerator[list[SqlDatabase]]:
    """The database, opened by so many processes; SQLite's file, which only one has, as often as that."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(opened(address))
        await first.migrate("registry", "registry_projects")
        several = await first.transact(lambda tx: tx.dialect) is Dialect.POSTGRES
        others = [await stack.enter_async_context(opened(address)) if several else first for _ in range(1, count)]
        yield [first, *others]


@pytest_asyncio.fixture
async def databases(database_address: str) -> AsyncGenerator[list[SqlDatabase]]:
    async with connections(database_address) as two:
        yield two


@pytest_asyncio.fixture
async def registries(databases: list[SqlDatabase]) -> AsyncGenerator[list[Harness]]:
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running_over(one, clock=clock, settings=DEVELOPMENT)) for one in databases]


def catalogue(registry: Harness):
    return registry.stub.WatchCatalog(pb.WatchCatalogRequest(), timeout=WITHIN)


class TestWatching:
    async def test_the_catalogue_of_all(self, registries, key):
        """Operators that come and go at one registry are seen by those who watch the other, at once and once."""
        one, other = registries
        watch = catalogue(other)
        assert not (await watch.read()).models
        await one.register(key, an_offer("m"))
        assert [(model.name, model.routable) for model in (await watch.read()).models] == [("m", True)]
        second = OperatorKey.create()
        await other.register(second, an_offer("n"))
        assert [model.name for model in (await watch.read()).models] == ["m", "n"]
        await one.unregister(key)
        assert [model.routable for model in (await watch.read()).models] == [False, True]
        watch.cancel()

    async def test_a_renewal_at_another_registry_keeps_the_lease(self, registries, key):
        """Operators renew wherever they like: nobody takes them for gone."""
        one, other = registries
        await one.register(key, an_offer("m"))
        one.clock.advance(seconds=20)
        await other.renew(key)
        one.clock.advance(seconds=20)
        assert [(await at.operator(key)).routable for at in registries] == [True, True]

    async def test_what_an_operator_hosts(self, registries, key):
        """A list that is registered at one, reported at the other, and ended: operators who watch either see it."""
        one, other = registries
        watches = [watching(at, key) for at in registries]
        assert [len((await watch.read()).replicas) for watch in watches] == [0, 0]
        project = await put(one, key)
        assert [len((await watch.read()).replicas) for watch in watches] == [1, 1]
        await say(other, key, *project.replicas)
        assert (await shown(one)).replicas[0].state == pb.REPLICA_STATE_HEALTHY
        await end(other, key, force=True)
        assert [len((await watch.read()).replicas) for watch in watches] == [0, 0]
        for watch in watches:
            watch.cancel()

    async def test_what_nobody_told_is_looked_for(self, databases):
        """A registry that died before it could tell leaves its change in the database, where the others find it."""
        changes, never = Changes(ManualClock()), asyncio.Event()

        async def silence() -> AsyncIterator[str | None]:
            await never.wait()
            yield None

        stores = [SqlRegistryStore(one, origin=f"{at}") for at, one in enumerate(databases)]
        hears = asyncio.create_task(hearing(silence(), "1", changes, stores[1], every=0.01))
        try:
            async with asyncio.timeout(WITHIN):
                assert await changes.since(changes.version)  # its first look, whatever there is
                seen = changes.version
                await stores[0].change("0xa", lambda _: Kept(an_operator("0xa"), news=True), now=START)
                assert await changes.since(seen)
        finally:
            hears.cancel()
            await asyncio.gather(hears, return_exceptions=True)


def an_operator(address: str) -> Registration:
    offers = [Offer("m", "aa" * 32, 9, False, 1, 1, 1, False, False)]
    lease, claim = SETTINGS.terms.lease, SETTINGS.terms.memory
    return register(None, address, offers, Proof(1, "x"), now=START, lease=lease, claim=claim)


class TestRounds:
    async def test_a_lapse_is_noted_once(self, databases):
        """Two registries that look at the same time write one line for each operator that lapsed."""
        stores = [SqlRegistryStore(one) for one in databases]
        for number in range(20):
            await stores[0].change(f"0x{number}", lambda _, number=number: Kept(an_operator(f"0x{number}")), now=START)
        later = START + 2 * SETTINGS.terms.lease
        await asyncio.gather(*(stores[at % 2].lapse(later, partial(lapsed, now=later)) for at in range(6)))
        log = await SqlAiProjectStore(databases[1], SETTINGS.terms).audit(after=0, limit=100)
        assert [one.entry.subject for one in log] == sorted(f"operators/0x{number}" for number in range(20))
        assert [one.sequence for one in log] == list(range(1, 21))

    async def test_projects_age_once(self, databases):
        """Of several rounds over what is due, one finds it."""
        stores = [SqlAiProjectStore(one, SETTINGS.terms) for one in databases]
        await stores[0].change("shop", "x", "", lambda _: Change(a_project("shop"), Seen()), now=START)
        due = await stores[1].next_due()
        aged: list[str] = []

        def decide(project: Project) -> tuple[Project | None, list[Entry]]:
            aged.append(project.name)
            return settle(project, now=due, terms=SETTINGS.terms), [Entry("clock", "aged", project.name, "")]

        found = await asyncio.gather(*(stores[at % 2].settle(due, decide) for at in range(6)))
        assert sorted(found) == [False] * 5 + [True]
        assert [one.entry.action for one in await stores[0].audit(after=0, limit=9)] == ["aged"]

    async def test_a_limit_holds_across_registries(self, databases):
        """As many projects as may be are kept, however many registries are asked for more at once."""
        stores = [SqlAiProjectStore(one, SETTINGS.terms) for one in databases]

        async def ask(at: int) -> str:
            def decide(held) -> Change:
                if held.projects >= 5:
                    raise OverflowError
                return Change(a_project(f"p{at}"), Seen())

            try:
                await stores[at % 2].change(f"p{at}", f"s{at}", "", decide, now=START)
            except OverflowError:
                return "full"
            return ""

        answers = await asyncio.gather(*(ask(at) for at in range(20)))
        assert answers.count("") == 5
        assert len(await stores[0].page(after="", limit=99, replicas=99)) == 5

    async def test_a_proof_is_good_once(self, registries, key):
        """The same registration at both registries at once is one, and one second's other proofs are told apart."""
        second = registries[0].second
        both = [registries[at % 2].register(key, an_offer("m"), issued_at=second) for at in range(8)]
        infos = await asyncio.gather(*both)
        assert len({one.SerializeToString() for one in infos}) == 1
        renewals = await asyncio.gather(*(reason_of(at.unregister(key)) for at in registries))
        assert sorted(renewals) == ["", "OPERATOR_NOT_FOUND"]

    async def test_they_age_by_themselves(self, databases):
        """Each registry's own rounds go on beside the other's, and end when they are told to."""
        clock, changes = ManualClock(), [Changes(ManualClock()) for _ in databases]
        operators = [SqlRegistryStore(one) for one in databases]
        projects = [SqlAiProjectStore(one, SETTINGS.terms) for one in databases]
        await operators[0].change("0xa", lambda _: Kept(an_operator("0xa")), now=START)
        clock.advance(seconds=60)
        rounds = [asyncio.create_task(ageing(projects[at], operators[at], changes[at], SETTINGS.terms, clock)) for at in range(2)]
        async with asyncio.timeout(WITHIN):
            while not await projects[0].audit(after=0, limit=9):
                await asyncio.sleep(0)
        for one in changes:
            one.close()
        await asyncio.gather(*rounds)
        assert len(await projects[0].audit(after=0, limit=9)) == 1


def a_project(name: str) -> Project:
    wanted = Wanted(name, "", "", (Spec("m", "http://127.0.0.1/", Kind.TEXT, "", "127.0.0.1"),))
    return register_project(None, wanted, now=START, terms=SETTINGS.terms, lease_id=name)


class TestChallenges:
    async def test_one_of_another_registry_is_good(self, registries, key):
        """An operator may declare its key wherever it likes, and a registry that starts later knows the challenges, too."""
        one, other = (Declaring(at, key) for at in registries)
        nonce = await one.nonce()
        info = await other.declare(other.evidence(nonce), nonce)
        assert info.attested.key == key.address
        assert await one.job_types() == ["opml", "tee"]

    async def test_secrets_change_and_old_challenges_end(self, databases, key):
        """A challenge of the secret before is good for its time at every registry; secrets of challenges that are over are gone."""
        stores = [SqlSecretStore(one) for one in databases]
        numbers = iter(range(1, 256))
        one, other = (Challenger(store, lambda size: bytes([next(numbers)] * size)) for store in stores)
        start = 10**9
        await one.make(key.address, now=start)
        last = start + SECRET_SECONDS - 1
        nonce = await one.make(key.address, now=last)
        fresh = await other.make(key.address, now=last + 1)
        assert fresh[8:] != nonce[8:]
        for at in (one, other):
            await at.check(nonce, key.address, now=last + CHALLENGE_SECONDS)
            await at.check(fresh, key.address, now=last + 1 - SKEW_SECONDS)
        for wrong, address, now in (
            (nonce, key.address, last + CHALLENGE_SECONDS + 1),
            (nonce, OperatorKey.create().address, last),
            (fresh, key.address, last - SKEW_SECONDS),
            (b"\0" * len(nonce), key.address, last),
        ):
            with pytest.raises(Exception, match="tee_nonce"):
                await one.check(wrong, address, now=now)
        await one.make(key.address, now=start + 3 * SECRET_SECONDS)
        kept = await stores[1].secrets(lambda known: known)
        assert [secret.made for secret in kept] == [start + 3 * SECRET_SECONDS]

    async def test_a_flood_of_first_challenges_makes_one_secret(self, databases, key):
        """Registries that start at the same time agree."""
        stores = [SqlSecretStore(one) for one in databases]
        made = [Challenger(stores[at % 2], lambda size, at=at: bytes([at + 1] * size)) for at in range(10)]
        nonces = await asyncio.gather(*(one.make(key.address, now=10**9) for one in made))
        assert len(set(nonces)) == 1

    async def test_strangers_get_none(self, registries):
        """A challenge is for an address."""
        with refused("INVALID_FIELD", field="operator"):
            await registries[0].stub.ChallengeOperator(pb.ChallengeOperatorRequest(operator="0x1"))
