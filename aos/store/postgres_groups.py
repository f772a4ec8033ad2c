"""Transactions on PostgreSQL: those that wait at the same time share one, on a thread that has a connection."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from threading import Thread
from typing import Any, Final, TypeAlias

import psycopg

from aos.errors import InvalidField, ServiceUnavailable
from aos.store.placeholders import Statement, with_numbers
from aos.store.postgres_address import CONNECT_SECONDS
from aos.store.postgres_wire import Answer, Wire
from aos.store.sql import Cursor, Dialect, Parameters
from aos.store.waiting import Asked, Outcome, Waiting, deliver

LOCK_MILLISECONDS: Final = 100
"""How long one that shares its transaction may wait for a lock: meanwhile all of its group wait."""
ATTEMPTS: Final = 8
"""How often a transaction is run that others get in the way of."""
AWAY_SECONDS: Final = 5.0
"""How long after its beginning a transaction is run again because the database was away."""
PAUSE_SECONDS: Final = 0.02
"""Longest pause between two attempts."""
PAYLOAD: Final = 7000
"""Most bytes of one note: PostgreSQL takes fewer than 8000 with the channel's name."""

_CONFLICTS: Final = frozenset({"40001", "40P01", "23505", "0A000", "26000"})
"""Serialization, deadlock, two that made the same row at once (the second to run sees the first's), and a table that is another."""
_AWAY: Final = ("08", "53", "57", "55P03")
"""Connections, too few resources, cancelled or shutting down, a lock that nobody let go of."""
_LOST: Final = ("08", "57P")
"""Connections, and a server that ends."""
_LEAST_CONNECT_SECONDS: Final = 2
"""libpq takes no less."""

_BEGIN: Final = Statement("BEGIN", None, reads=True)
_NOT_DURABLE: Final = Statement("SET LOCAL synchronous_commit TO OFF", None, reads=True)
_SHARED: Final = Statement(f"SET LOCAL lock_timeout TO {LOCK_MILLISECONDS}", None, reads=True)
_ADVISORY: Final = Statement("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", None, reads=False)
# rows of the same slot are another connection's, too, and those of a group come in any order
_SLOT: Final = Statement("SELECT pg_advisory_xact_lock(hashtextextended('aos slot', pg_backend_pid() % 64))", None, reads=False)


Note: TypeAlias = tuple[str, str]
"""A channel and what is told on it."""


class _Spoilt(Exception):
    """A transaction wrote something before it failed, and the others of its group must not lose what they wrote."""


class _Alone(BaseException):
    """A transaction of a group wants one of PostgreSQL's for itself: to set it up, or for locks that groups take in any order."""


class _Shared:
    """One of PostgreSQL's transactions, as those that share it see it."""

    def __init__(self, wire: Wire, *, durable: bool, others: bool, turn: str) -> None:
        self.wire, self.others = wire, others
        self.turn, self._durable, self._writes = turn, durable, False
        self.notes: list[Note] = []
        """What to tell once the commit is made."""
        wire.send(_BEGIN, [])

    def send(self, statement: Statement, values: list[Any]) -> Answer:
        """Send a statement; before the first that writes or locks, what must come before it."""
        if not statement.reads and not self._writes:
            self._writes = True
            if self.turn:
                self.wire.send(_ADVISORY, [self.turn])
            elif self.others:
                self.wire.send(_SLOT, [])
            if self.others:
                self.wire.send(_SHARED, [])
            if not self._durable:
                self.wire.send(_NOT_DURABLE, [])
        return self.wire.send(statement, values)


class PostgresTransaction:
    """One transaction, alone or among others that share one of PostgreSQL's. Satisfies Transaction."""

    dialect = Dialect.POSTGRES
    # rows that refer to a locked one may still be added: what they refer to, its key, does not change
    lock = " FOR NO KEY UPDATE"
    skip = " FOR NO KEY UPDATE SKIP LOCKED"

    def __init__(self, shared: _Shared) -> None:
        self._shared, self.wrote = shared, False

    def execute(self, sql: str, parameters: Parameters = ()) -> Cursor:
        return self._execute(sql, parameters)

    def query(self, sql: str, parameters: Parameters = ()) -> Iterator[dict[str, Any]]:
        return _named(self._execute(sql, parameters))

    def _execute(self, sql: str, parameters: Parameters) -> Answer:
        statement = with_numbers(sql)
        if statement.alone and self._shared.others:
            raise _Alone
        self.wrote = self.wrote or not statement.reads
        return self._shared.send(statement, statement.values(parameters))

    def advisory(self, key: str, *, alone: bool = True) -> None:
        if alone and self._shared.others and not self._shared.turn:
            raise _Alone
        self.wrote = True
        self._shared.send(_ADVISORY, [key])

    def notify(self, channel: str, payload: str) -> None:
        if len(payload.encode()) > PAYLOAD:
            raise ValueError(f"payload: more than {PAYLOAD} bytes")
        self.wrote = True
        self._shared.notes.append((channel, payload))


def _named(answer: Answer) -> Iterator[dict[str, Any]]:
    rows = answer.fetchall()
    columns = answer.columns
    yield from (dict(zip(columns, row, strict=True)) for row in rows)


_Work = Asked[PostgresTransaction]
_Outcome = Outcome[PostgresTransaction]


class Lane(Thread):
    """A thread with a connection, which it makes when it needs one."""

    def __init__(
        self, number: int, waiting: Waiting[PostgresTransaction], conninfo: str, turn: str, tell: Callable[[Sequence[Note]], None]
    ) -> None:
        super().__init__(name=f"aos-postgres-{number}", daemon=True)
        self._number, self._waiting, self._conninfo, self._turn, self._tell = number, waiting, conninfo, turn, tell
        self._wire: Wire | None = None

    def run(self) -> None:
        while group := self._waiting.take(self._number):
            deliver(self._outcomes(group))
        self._drop()

    def _outcomes(self, group: Sequence[_Work]) -> list[_Outcome]:
        if len(group) == 1:
            return [self._one(group[0])]
        until = time.monotonic() + AWAY_SECONDS
        while True:
            try:
                outcomes, apart = self._shared(group, until)
            except (_Spoilt, psycopg.Error) as error:
                if isinstance(error, psycopg.Error) and _lost(error):
                    if time.monotonic() < until:
                        time.sleep(random.uniform(0, PAUSE_SECONDS))  # noqa: S311  # so that not all come at once
                        continue
                    return [(asked, None, _told(error)) for asked in group]
                outcomes, apart = [], group
            self._waiting.put_back(apart)
            return outcomes

    def _one(self, asked: _Work) -> _Outcome:
        """Run one alone, again if others got in its way, or the database was away."""
        attempt, until = 0, time.monotonic() + AWAY_SECONDS
        while True:
            attempt += 1
            committing = False
            try:
                shared = self._begin([asked], until)
                result = asked.work(PostgresTransaction(shared))
                committing = True
                self._commit(shared)
            except psycopg.Error as error:
                self._undo()
                away = _away(error) and not committing and time.monotonic() < until
                if not (error.sqlstate in _CONFLICTS or away) or attempt == ATTEMPTS:
                    return asked, None, _told(error)
                time.sleep(random.uniform(0, PAUSE_SECONDS))  # noqa: S311  # so that two do not meet again
            except BaseException as error:
                self._undo()
                return asked, None, error
            else:
                return asked, result, None

    def _shared(self, group: Sequence[_Work], until: float) -> tuple[list[_Outcome], list[_Work]]:
        """Run all as one; return what came of them, and those that want to be alone. Raises psycopg.Error, _Spoilt."""
        outcomes, apart = list[_Outcome](), list[_Work]()
        committing = False
        try:
            shared = self._begin(group, until)
            for asked in group:
                tx = PostgresTransaction(shared)
                try:
                    outcomes.append((asked, asked.work(tx), None))
                except psycopg.Error:
                    raise
                except BaseException as error:
                    if tx.wrote:
                        raise _Spoilt from error
                    if isinstance(error, _Alone):
                        apart.append(asked)
                    else:
                        outcomes.append((asked, None, error))
            committing = True
            self._commit(shared)
        except psycopg.Error as error:
            self._undo()
            if committing and _away(error):
                return [(asked, None, _told(error)) for asked in group], []
            raise
        except BaseException:
            self._undo()
            raise
        return outcomes, apart

    def _commit(self, shared: _Shared) -> None:
        shared.wire.commit()
        if shared.notes:
            self._tell(shared.notes)

    def _begin(self, group: Sequence[_Work], until: float) -> _Shared:
        while self._wire is None:
            left = math.ceil(until - time.monotonic())
            try:
                self._wire = Wire(self._conninfo, seconds=min(CONNECT_SECONDS, max(left, _LEAST_CONNECT_SECONDS)))
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(random.uniform(0, PAUSE_SECONDS))  # noqa: S311  # so that not all come at once
        durable = any(asked.durable for asked in group)
        return _Shared(self._wire, durable=durable, others=len(group) > 1, turn=self._turn)

    def _undo(self) -> None:
        try:
            if self._wire is not None:
                self._wire.rollback()
        except psycopg.Error:
            self._drop()

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            with suppress(psycopg.Error):
                wire.close()


def _lost(error: psycopg.Error) -> bool:
    """Return whether the connection is of no use, whoever uses it."""
    return isinstance(error, psycopg.OperationalError) and (error.sqlstate is None or error.sqlstate.startswith(_LOST))


def _away(error: psycopg.Error) -> bool:
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(_AWAY)


def _told(error: psycopg.Error) -> Exception:
    """Return what the caller is told."""
    if _away(error):
        return ServiceUnavailable("database")
    if isinstance(error, psycopg.DataError) and "NUL" in str(error):
        return InvalidField("text", "has a NUL character, which the database cannot keep")
    return error
