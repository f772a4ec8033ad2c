"""What the database says once all is over, whatever the services say: jobs, holds and the journal, each looked at in SQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Final

import psycopg

from aos.client import Client
from aos.rpc.channel import channel
from aos.v1.broker_pb2 import CheckInvariantsRequest
from tests.system.serving import ADMIN

SETTLED_SECONDS: Final = 90.0
"""How long jobs and holds may take to end once nothing is killed any more."""
LOOK_SECONDS: Final = 0.5
CALL_SECONDS: Final = 30.0
UNENDED: Final = "SELECT id FROM jobs WHERE state < 4"
UNSETTLED: Final = "SELECT id FROM jobs WHERE money <> 3"
HELD: Final = "SELECT name FROM broker_holds WHERE state = 'held'"
TWICE: Final = """
    SELECT cause FROM broker_journal WHERE reason = 'commit' GROUP BY cause HAVING count(DISTINCT transfer) > 1
    UNION SELECT receipt FROM broker_holds WHERE state = 'committed' GROUP BY receipt HAVING count(*) > 1
    UNION SELECT request_id FROM jobs WHERE request_id IS NOT NULL GROUP BY request_id HAVING count(*) > 1
"""
"""Holds that were paid from twice, receipts that paid two of them, requests that became two jobs."""
UNEQUAL: Final = """
    SELECT coalesce(jobs.id, broker_holds.name) FROM jobs FULL JOIN broker_holds ON broker_holds.name = 'holds/' || jobs.id
    WHERE coalesce(jobs.state = 4, false) <> coalesce(broker_holds.state = 'committed', false)
"""
"""Jobs with an answer that are not paid, and payments without one. A hold without a job is of one that was not accepted."""
ANSWERED: Final = "SELECT 'jobs/' || id FROM jobs WHERE state = 4"
MOVED: Final = "SELECT count(*) FROM jobs WHERE attempts > 1"


async def checked(database: str, address: str, jobs: Collection[str]) -> dict[str, list[str]]:
    """Return who breaks what, by its name; ``jobs`` are the names of those that callers were promised."""
    found = await asyncio.to_thread(_look, database, jobs)
    async with channel(address, ADMIN) as opened:
        said = await Client(opened).broker.CheckInvariants(CheckInvariantsRequest(), timeout=CALL_SECONDS, wait_for_ready=True)
    broken = [f"{one.name}: {', '.join(one.broken_by)}" for one in said.invariants if not one.holds]
    return found | {"broker invariants broken": broken}


async def moved(database: str) -> int:
    """Return how many jobs were given to more than one operator."""

    def look() -> int:
        with psycopg.connect(database) as connection:
            row = connection.execute(MOVED).fetchone()
            return row[0] if row is not None else 0

    return await asyncio.to_thread(look)


def _look(database: str, jobs: Collection[str]) -> dict[str, list[str]]:
    with psycopg.connect(database, autocommit=True) as connection:

        def names(statement: str) -> list[str]:
            return [row[0] for row in connection.execute(statement.encode()).fetchall()]

        until = time.monotonic() + SETTLED_SECONDS
        while (names(UNENDED) or names(UNSETTLED) or names(HELD)) and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)  # a thread of its own
        answered = set(names(ANSWERED))
        return {
            "jobs lost": [name for name in jobs if name not in answered],
            "jobs that have not ended": names(UNENDED),
            "committed twice": names(TWICE),
            "answers unpaid, or payments without one": names(UNEQUAL),
            "holds not released": sorted({*names(HELD), *names(UNSETTLED)}),
        }
