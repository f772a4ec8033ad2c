"""A small version of `bench/chaos.py`: nothing is lost and nothing done twice, whatever is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.chaos import Report, run
from bench.faults.callers import WAYS
from tests.postgres_server import PostgresServer, running_postgres

JOBS, KILLS, OPERATORS = 60, 10, 3
SEED = 6
"""Draws each kind of part at least once."""
SECONDS = 300
"""Patience with a busy machine, which takes long to start what was killed."""


@pytest.fixture
def mortal_postgres():
    """A server that no other test uses: it is killed."""
    with running_postgres("fsync=off", "max_connections=200") as server:
        yield server


def broken(report: Report) -> dict[str, list[str]]:
    return {name: who for name, who in report.findings.items() if who}


class TestChaos:
    @pytest.mark.timeout(SECONDS)
    async def test_everything_dies(self, tmp_path: Path, mortal_postgres: PostgresServer):
        """Each of 60 jobs has its one right answer and is paid once, while 10 times a part of the network is killed."""
        report = await run(mortal_postgres, tmp_path, jobs=JOBS, faults=KILLS, operators=OPERATORS, callers=12, seed=SEED)
        assert report.faults.count == KILLS
        assert broken(report) == {}
        assert report.seen.ended == dict.fromkeys(WAYS, JOBS // len(WAYS))
