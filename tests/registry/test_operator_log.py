"""What the audit log says about operators."""

from __future__ import annotations

import asyncio

import pytest_asyncio

from aos.rpc.channel import channel
from aos.testing.clock import ManualClock
from aos.v1 import registry_pb2 as pb
from aos.v1 import registry_pb2_grpc
from aos.verification.keys import OperatorKey
from tests.refusals import refused
from tests.registry.conftest import an_offer, running

WAIT = 10.0
"""Real seconds that something may take that happens by itself."""
LEASE, DAY = 30, 86_400


async def entries(registry) -> list[tuple[str, str, str, str]]:
    async with channel(registry.address, "admin-token") as opened:
        log = await registry_pb2_grpc.RegistryStub(opened).ListAudit(pb.ListAuditRequest(page_size=1000))
    return [(one.actor, one.action, one.subject, one.detail) for one in log.entries]


async def with_so_many(registry, count: int) -> list[tuple[str, str, str, str]]:
    async with asyncio.timeout(WAIT):
        while len(found := await entries(registry)) < count:
            await asyncio.sleep(0.005)
    return found


@pytest_asyncio.fixture
async def address(key) -> str:
    return key.address.lower()


class TestOperatorsInTheLog:
    async def test_from_coming_to_leaving(self, registry, key, address):
        """Each registration that changes something is in it, with what; renewals and repetitions are not."""
        await registry.register(key, an_offer("a"), an_offer("b"))
        for _ in range(2):
            registry.clock.advance(seconds=1)
            await registry.renew(key)
        registry.clock.advance(seconds=1)
        await registry.register(key, an_offer("a"), an_offer("b"))
        registry.clock.advance(seconds=1)
        await registry.register(key, an_offer("b", slots=5), *(an_offer(f"c{number}") for number in range(5)))
        registry.clock.advance(seconds=1)
        await registry.unregister(key)
        registry.clock.advance(seconds=1)
        await registry.register(key)

        subject = f"operators/{address}"
        assert await entries(registry) == [
            (address, "register-operator", subject, "first: models: 2, 2 added (a, b)"),
            (
                address,
                "register-operator",
                subject,
                "changed: models: 6, 5 added (c0, c1, c2, 2 more), 1 changed (b), 1 removed (a)",
            ),
            (address, "unregister-operator", subject, "models: 6"),
            (address, "register-operator", subject, "again, after it left: models: 1, 1 added (m), 6 removed (b, c0, c1, 3 more)"),
        ]

    async def test_a_lapse_is_noted_by_itself(self, registry, key, address):
        """Once, when the lease is over, whether anybody asks or not; coming back is another entry."""
        await registry.register(key)
        registry.clock.advance(seconds=LEASE - 1)
        await registry.renew(key)
        registry.clock.advance(seconds=LEASE)
        log = await with_so_many(registry, 2)
        assert log[1][:3] == ("clock", "operator-lapsed", f"operators/{address}")
        registry.clock.advance(seconds=LEASE)
        await registry.register(key)

        assert [(one[0], one[1]) for one in await entries(registry)][1:] == [
            ("clock", "operator-lapsed"),
            (address, "register-operator"),
        ]
        assert (await entries(registry))[2][3] == "again, after it lapsed: models: 1"

    async def test_a_lapse_while_the_registry_was_down(self, database_address, key, address):
        """It is noted at the next start, even if the operator would have been forgotten by then, and only once."""
        clock = ManualClock()
        async with running(database_address, clock=clock) as registry:
            await registry.register(key)
        clock.advance(seconds=2 * DAY)
        for _ in range(2):
            async with running(database_address, clock=clock) as registry:
                await registry.register(OperatorKey.create())
                log = await with_so_many(registry, 3)
            assert [one[1] for one in log if one[2] == f"operators/{address}"] == ["register-operator", "operator-lapsed"]

    async def test_what_is_refused_leaves_no_trace(self, registry, key):
        """An operator that is not there cannot leave, and the log does not say so."""
        with refused("OPERATOR_NOT_FOUND"):
            await registry.unregister(key)
        assert await entries(registry) == []
