"""A PostgreSQL that is killed while a broker goes on."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from aos.broker.node import running_broker
from aos.store.opening import opened
from aos.testing.clock import ManualClock
from aos.v1 import broker_pb2 as pb
from tests.broker.conftest import HOLD
from tests.postgres_server import running_postgres


@pytest.fixture
def server():
    """One of this test's own, which presses to the disk what it acknowledges."""
    with running_postgres() as one:
        yield one


class TestKilled:
    async def test_a_hold_outlives_it(self, server):
        """Whoever was told of a hold has its job accepted next, so that the hold is there then, though jobs are kept beside it."""
        ids = count(1)
        async with (
            opened(server.fresh()) as database,
            running_broker(database, clock=ManualClock(), new_id=lambda: f"t{next(ids)}", jobs_beside=True) as node,
        ):
            await node.servicer.Deposit(pb.DepositRequest(account="accounts/p", amount="100", request_id="r"), None)
            await node.servicer.Reserve(pb.ReserveRequest(hold=HOLD, account="accounts/p", amount="60"), None)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            account = await node.servicer.GetAccount(pb.GetAccountRequest(name="accounts/p"), None)
            assert (account.available, account.held) == ("40", "60")
