"""What a store asks of a database: transactions, up-to-date tables, and news between those who share it."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias, TypeVar

T = TypeVar("T")

Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]
"""Values for the `?` or the `:name` of a statement: None, bool, int of 64 bits, str, bytes; on PostgreSQL lists of these, too."""


class Dialect(enum.Enum):
    """Which database runs the statements, for the few places that must differ."""

    SQLITE = "sqlite"
    POSTGRES = "postgres"


class Cursor(Protocol):
    """What a statement gives: rows, as tuples, or how many rows it wrote."""

    @property
    def rowcount(self) -> int:
        """How many rows were written; of no meaning for a query."""
        ...

    def fetchone(self) -> Any:
        """Return the next row; None if there is none."""
        ...

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]: ...


class Transaction(Protocol):
    """One transaction. `?` and `:name` mark values on both databases; the rest of the SQL is what both know.

    On PostgreSQL a statement is sent at once and its answer read when it is asked for, so that several that nobody asks about share
    a round trip; what they raise is raised by a later call, or by the commit. A `?` within quotes is a `?`.
    """

    @property
    def dialect(self) -> Dialect: ...

    @property
    def lock(self) -> str:
        """Comes behind a SELECT of rows that this transaction decides upon: they change for nobody else until it ends."""
        ...

    @property
    def skip(self) -> str:
        """Does as ``lock`` does, but rows that another transaction has locked are not found."""
        ...

    def execute(self, sql: str, parameters: Parameters = (), /) -> Cursor:
        """Run one statement."""
        ...

    def query(self, sql: str, parameters: Parameters = (), /) -> Iterator[dict[str, Any]]:
        """Run one query; its rows by the names of their columns."""
        ...

    def advisory(self, key: str, *, alone: bool = True) -> None:
        """Wait until no other transaction has this key, and have it until this one ends: for what has no row to lock.

        Not ``alone``: those that share a commit with this one may have other keys, and it is run again if it waits for long.
        """
        ...

    def notify(self, channel: str, payload: str) -> None:
        """Tell all who listen, here and in other processes, soon after this transaction is kept; nothing if it is not.

        Listeners look again from time to time, too: if this process dies at that moment, nobody is told.
        """
        ...


class SqlDatabase(Protocol):
    """A database that stores share."""

    async def transact(self, work: Callable[[Transaction], T], *, durable: bool = True) -> T:
        """Return what ``work`` returns, once it is kept. What it raises is raised here, and nothing of it is kept.

        ``work`` may be run again after a conflict, so that all that it does must be in the transaction, which it may share with
        others. Not ``durable``: what it
        wrote outlives any end of this process, but not a loss of power within the next moments. Raises ServiceUnavailable when the
        database is away; what was asked for is then either kept whole or not at all.
        """
        ...

    async def migrate(self, *names: str) -> None:
        """Bring these tables up to date; names are those of schema.py. Safe to call from several processes at once."""
        ...

    def waiting(self) -> int:
        """Return about how many transactions have been asked for and not begun."""
        ...

    def listen(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[str | None]]:
        """Hear what is told on the channel from now on, one's own included.

        None: something may have been missed (the connection was away, or nobody read for long): look again.
        """
        ...
