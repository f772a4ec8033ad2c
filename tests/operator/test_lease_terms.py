"""What a lease says besides the order: for whom, how urgent, until when."""

from __future__ import annotations

import pytest_asyncio

from aos.order import with_defaults
from aos.v1.errors_pb2 import ErrorReason
from tests.operator.dispatching import JOB, running_network
from tests.operator.orders import asking


@pytest_asyncio.fixture
async def attached(tmp_path, key, script):
    """A session with an operator that runs the script."""
    async with running_network(tmp_path, key) as network, network.attached(script) as (_, session):
        yield session


async def finish(session, lease: str, **terms):
    session.lease(with_defaults(asking("the same prompt"), job=JOB), lease=lease, **terms)
    _, _, last = await session.outcome()
    return last


class TestTenant:
    async def test_shares_with_itself_only(self, attached):
        """A tenant's second lease finds what the first computed; others do not, nor does one that names no tenant."""
        tenants = {"l1": "t", "l2": "t", "l3": "u", "l4": "", "l5": ""}
        finishes = {lease: (await finish(attached, lease, tenant=tenant)).finished.finish for lease, tenant in tenants.items()}

        assert [one.cached_tokens for one in finishes.values()] == [0, len("the same prompt"), 0, 0, 0]

    async def test_receipt_says_nothing_of_it(self, attached):
        """Two receipts for the same answer, computed and reused, state the same."""
        cold, warm = [(await finish(attached, lease, tenant="t")).finished.finish for lease in ("l1", "l2")]

        assert warm.cached_tokens > cold.cached_tokens
        for field in ("usage", "prompt_digest", "output_tokens_digest", "price", "profile", "parameters"):
            assert getattr(warm.receipt, field) == getattr(cold.receipt, field), field
        assert warm.receipt.usage.cached_tokens == 0


class TestTime:
    async def test_over(self, attached):
        """A lease whose time is over is given back with that reason."""
        last = await finish(attached, "l1", seconds=0.0)

        assert last.failed.error.reason == ErrorReason.ERROR_REASON_DEADLINE

    async def test_left(self, attached):
        """A lease with time is done."""
        assert (await finish(attached, "l1", seconds=60.0)).HasField("finished")


class TestPriority:
    async def test_out_of_range(self, attached):
        """A priority that there is not is refused, and not to be tried elsewhere."""
        last = await finish(attached, "l1", priority=10)

        assert last.failed.error.reason == ErrorReason.ERROR_REASON_INVALID_FIELD
        assert not last.failed.retryable
