"""Statements on one connection to PostgreSQL: sent at once, prepared, and answered when asked.

On libpq itself, as psycopg gives it (https://www.postgresql.org/docs/current/libpq-pipeline-mode.html): psycopg's cursors take
five times as long for a statement. Values are written and read by psycopg's own.
"""

from __future__ import annotations

import select
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Any, Final

import psycopg
from psycopg import abc, pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper

from aos.store.placeholders import Statement

PREPARED: Final = 300
"""Most statements that one connection keeps prepared."""

_BAD: Final = frozenset({pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED})
_STALE: Final = frozenset({"0A000", "26000"})
"""What was prepared is no longer as it was: a table has other columns, or the session is another."""
_ANY: Final = select.POLLIN | select.POLLERR | select.POLLHUP


class _Prepared:
    """A statement that the connection knows by name, and how its rows are read."""

    __slots__ = ("columns", "key", "name", "rows")

    def __init__(self, key: tuple[str, tuple[int, ...]], name: bytes, rows: abc.Transformer) -> None:
        self.key, self.name, self.rows = key, name, rows
        self.columns: list[str] | None = None
        """Of its rows, once there were any."""


class Answer:
    """What a statement gives, read from the connection when it is asked for. Satisfies Cursor."""

    __slots__ = ("_rest", "_wire", "prepared", "preparing", "result")

    def __init__(self, wire: Wire, prepared: _Prepared | None, *, preparing: bool = False) -> None:
        self._wire, self.prepared, self.preparing = wire, prepared, preparing
        self.result: pq.abc.PGresult | None = None
        self._rest: Iterator[Any] | None = None

    @property
    def rowcount(self) -> int:
        return self._asked().command_tuples or 0

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        result, prepared = self._asked(), self.prepared
        assert prepared is not None
        if prepared.columns is None:
            prepared.columns = [(result.fname(one) or b"").decode() for one in range(result.nfields)]
        return prepared.columns

    def fetchone(self) -> Any:
        return next(iter(self), None)

    def fetchall(self) -> list[Any]:
        return list(self)

    def __iter__(self) -> Iterator[Any]:
        if self._rest is None:
            result, prepared = self._asked(), self.prepared
            assert prepared is not None
            first = prepared.rows.pgresult is None
            prepared.rows.set_pgresult(result, set_loaders=first, format=pq.Format.BINARY if first else None)
            self._rest = iter(prepared.rows.load_rows(0, result.ntuples, tuple))
        return self._rest

    def _asked(self) -> pq.abc.PGresult:
        if self.result is None:
            self._wire.ask(self)
        assert self.result is not None
        return self.result


class Wire:
    """One connection, and what was sent over it and not answered. For one thread at a time.

    Its transactions begin and end with the methods of those names. What the database refuses is raised as psycopg.Error by
    whatever is sent or asked next; then there is nothing to do but ``rollback``.
    """

    def __init__(self, conninfo: str, *, seconds: int) -> None:
        """Connect, within so many seconds. Raises psycopg.Error."""
        self._connection = psycopg.connect(conninfo, autocommit=True, connect_timeout=seconds)
        # all of our integers have 64 bits: one statement is one plan, whatever their sizes
        for dumper in (Int8Dumper, Int8BinaryDumper):
            self._connection.adapters.register_dumper(int, dumper)
        self._pgconn = self._connection.pgconn
        self._values = Transformer(self._connection)
        self._known: OrderedDict[tuple[str, tuple[int, ...]], _Prepared] = OrderedDict()
        self._names = 0
        self._sent = deque[Answer | None]()
        """What is to be answered, in order; None is the end of what was sent together."""
        self._failed: psycopg.Error | None = None
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(self._pgconn.socket, _ANY)
        self._writable.register(self._pgconn.socket, _ANY | select.POLLOUT)
        self._pgconn.nonblocking = 1
        self._pgconn.enter_pipeline_mode()

    def send(self, statement: Statement, values: list[Any]) -> Answer:
        """Send a statement; it is on its way once somebody asks, or at the end."""
        if self._failed is not None:
            raise self._failed
        pgconn, written = self._pgconn, self._values
        if values:
            parameters = written.dump_sequence(values, [PyFormat.AUTO] * len(values))
            types, formats = written.types or (), written.formats
        else:
            parameters, types, formats = None, (), None
        prepared = self._known.get((statement.sql, types)) or self._prepare(statement.sql, types)
        self._known.move_to_end(prepared.key)
        pgconn.send_query_prepared(prepared.name, parameters, formats, pq.Format.BINARY)
        answer = Answer(self, prepared)
        self._sent.append(answer)
        return answer

    def ask(self, answer: Answer) -> None:
        """Read until this is answered."""
        if self._failed is not None:
            raise self._failed
        self._pgconn.send_flush_request()
        self._read(answer)
        if self._failed is not None:
            raise self._failed

    def commit(self) -> None:
        """End the transaction and keep what it wrote."""
        self.send(_COMMIT, [])
        self._synchronise()
        if self._failed is not None:
            raise self._failed

    def rollback(self) -> None:
        """End the transaction and undo what it wrote. Raises psycopg.Error if the connection is of no use any more."""
        self._synchronise()  # what was sent behind a failure is passed over until here
        stale = self._failed is not None and self._failed.sqlstate in _STALE
        self._failed = None
        self.send(_ROLLBACK, [])
        if stale:
            self._unnamed(b"DEALLOCATE ALL")
            self._known.clear()
        self._synchronise()
        if self._failed is not None:
            raise self._failed

    def close(self) -> None:
        """Close the connection, whatever its state."""
        self._connection.close()

    def _prepare(self, sql: str, types: tuple[int, ...]) -> _Prepared:
        while len(self._known) >= PREPARED:
            _, oldest = self._known.popitem(last=False)
            self._unnamed(b"DEALLOCATE " + oldest.name)
        self._names += 1
        prepared = _Prepared((sql, types), b"aos_%d" % self._names, Transformer(self._connection))
        self._pgconn.send_prepare(prepared.name, sql.encode(), types)
        self._known[prepared.key] = prepared
        self._sent.append(Answer(self, prepared, preparing=True))
        return prepared

    def _unnamed(self, sql: bytes) -> None:
        self._pgconn.send_query_params(sql, None)
        self._sent.append(Answer(self, None))

    def _synchronise(self) -> None:
        self._pgconn.pipeline_sync()
        self._sent.append(None)
        self._read(None)

    def _read(self, until: Answer | None) -> None:
        """Read the answers up to this one; None: up to the end of what was sent together."""
        self._flush()
        while self._sent:
            answer = self._sent[0]
            result = self._result()
            if answer is None:
                if result.status != pq.ExecStatus.PIPELINE_SYNC:
                    raise psycopg.OperationalError("the connection is out of step")
                self._sent.popleft()
                return
            answer.result = result
            if result.status in _BAD:
                self._refused(answer, result)
            elif self._result_or_none() is not None:
                raise psycopg.OperationalError("the connection is out of step")
            self._sent.popleft()
            if answer is until:
                return

    def _refused(self, answer: Answer, result: pq.abc.PGresult) -> None:
        if answer.preparing and answer.prepared is not None:
            self._known.pop(answer.prepared.key, None)
        if self._failed is None:
            self._failed = error_from_result(result)
        while self._result_or_none() is not None:
            pass

    def _result(self) -> pq.abc.PGresult:
        result = self._result_or_none()
        if result is None:
            raise psycopg.OperationalError("the connection has no more to say")
        return result

    def _result_or_none(self) -> pq.abc.PGresult | None:
        while self._pgconn.is_busy():
            self._readable.poll()
            self._pgconn.consume_input()
        return self._pgconn.get_result()

    def _flush(self) -> None:
        while self._pgconn.flush():  # more than the socket takes: the other end may wait for us to read
            if any(happened & _ANY for _, happened in self._writable.poll()):
                self._pgconn.consume_input()


_COMMIT: Final = Statement("COMMIT", None, reads=False)
_ROLLBACK: Final = Statement("ROLLBACK", None, reads=False)
