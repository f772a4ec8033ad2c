"""Both databases for tests: `database` runs a test once on each, `postgres` is the server."""

from __future__ import annotations

import pytest
import pytest_asyncio

from aos.store.opening import opened
from tests.postgres_server import running_postgres

ON_SQLITE = pytest.mark.parametrize("database_address", ["sqlite"], indirect=True)
"""Marks tests that no database is asked in: one kind is enough for them."""


@pytest.fixture(scope="session")
def postgres():
    """One PostgreSQL for the whole run; what it writes is not pressed to the disk, which a test that kills it does without."""
    with running_postgres("fsync=off", "max_connections=200") as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def database_address(request, tmp_path):
    """The address of a database of the test's own, of either kind; several may open PostgreSQL's at once."""
    if request.param == "sqlite":
        yield str(tmp_path / "aos.db")
        return
    server = request.getfixturevalue("postgres")
    url = server.fresh()
    yield url
    server.drop(url)


@pytest_asyncio.fixture
async def database(database_address):
    """A database of the test's own, of either kind. Its tables are made by ``await database.migrate(…)``."""
    async with opened(database_address) as one:
        yield one


@pytest.fixture
def postgres_url(postgres):
    """The address of a PostgreSQL database of the test's own, its tables up to date."""
    url = postgres.fresh()
    yield url
    postgres.drop(url)
